"""What is wrong with objects, and what is worth a word: collected, so that a user hears of everything at once.

Messages have paths and names, never values of options: one of them may be a secret at the wrong place.
"""

from __future__ import annotations

from collections.abc import Sequence

from csi.operator.model.ignored import ignored_text
from csi.operator.model.json_path import json_path
from csi.operator.resolve.reasons import ERROR_FIELDS, OPTION_IGNORED, PLAINTEXT_CREDENTIAL
from csi.operator.resolved import Problem, Remark

Path = tuple[str | int, ...]
_CURE = "take them from a Secret with encryptOptions: whoever may read the object can read them"


def spec_path(path: Sequence[str | int]) -> str:
    """Return how a place below `spec` is called."""
    return json_path(("spec", *path))


class Findings:
    """Owned by one call of a resolving function."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._remarks: list[Remark] = []
        self._ignored: dict[bool, dict[str, str]] = {False: {}, True: {}}
        self._clear: dict[bool, set[str]] = {False: set(), True: set()}

    def refuse(self, message: str, *, reason: str = ERROR_FIELDS, on_runtime: bool = False, heals: bool = False) -> None:
        problem = Problem(reason, message, on_runtime, heals)
        if problem not in self.problems:
            self.problems.append(problem)

    def remark(self, reason: str, message: str, *, on_runtime: bool = False, is_warning: bool = True) -> None:
        self._remarks.append(Remark(reason, message, on_runtime, is_warning))

    def ignore_option(self, path: Path, on_runtime: bool, note: str = "") -> None:
        """An option has no effect. `note`: what holds instead."""
        self._ignored[on_runtime].setdefault(spec_path(path), note)

    def clear_text(self, path: Path, on_runtime: bool) -> None:
        """A credential is used, and stands where everybody can read it."""
        self._clear[on_runtime].add(spec_path(path))

    def remarks(self) -> tuple[Remark, ...]:
        """Return one remark of each kind for each object, those without lists last."""
        found = []
        for on_runtime in (False, True):
            ignored = [f"{path} ({note})" if note else path for path, note in sorted(self._ignored[on_runtime].items())]
            if ignored:
                found.append(Remark(OPTION_IGNORED, f"without effect here: {ignored_text(ignored)}", on_runtime))
            if self._clear[on_runtime]:
                told = ignored_text(sorted(self._clear[on_runtime]))
                found.append(Remark(PLAINTEXT_CREDENTIAL, f"credentials in clear text: {told}; {_CURE}", on_runtime))
        return (*found, *self._remarks)
