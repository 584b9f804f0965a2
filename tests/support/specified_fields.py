"""Reads the table of fields that the model is held against (tests/unit/operator/specified_fields.yaml says its form)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

_BRACES = re.compile(r"\{([^{}]*)\}")


def expand(pattern: str) -> list[str]:
    """Return what `a.{b,c}` stands for."""
    pieces = _BRACES.split(pattern)
    choices = [piece.split(",") if number % 2 else [piece] for number, piece in enumerate(pieces)]
    return ["".join(chosen) for chosen in itertools.product(*choices)]


class SpecifiedFields:
    def __init__(self, table: Path) -> None:
        loaded: dict[str, Any] = yaml.safe_load(table.read_text())
        self._structures: dict[str, Any] = loaded["structures"]
        self.kinds: dict[str, Any] = loaded["kinds"]
        self._statuses: dict[str, str] = loaded["statuses"]

    def of_kind(self, kind: str) -> dict[str, str]:
        """Return the mark of every field below spec (of a kind without spec: below the object) by its path."""
        return dict(self._fields(self.kinds[kind], "", None, {}))

    def of_status(self, name: str) -> dict[str, bool]:
        """Return whether a field is required by its path."""
        return {
            path.removesuffix("!"): path.endswith("!") for pattern in self._statuses[name].split() for path in expand(pattern)
        }

    def _fields(
        self, block: dict[str, Any], before: str, all_of_it: str | None, but: dict[str, str]
    ) -> Iterator[tuple[str, str]]:
        for below, parts in block.get("parts", {}).items():
            for part in parts if isinstance(parts, list) else [parts]:
                if isinstance(part, dict):
                    yield from self._fields(
                        self._structures[part["structure"]], f"{before}{below}", part["all"], part.get("but", {})
                    )
                else:
                    yield from self._fields(self._structures[part], f"{before}{below}", all_of_it, but if not below else {})
        for mark, patterns in block.items():
            if mark == "parts":
                continue
            for pattern in patterns.split():
                for path in expand(pattern):
                    yield f"{before}{path}", but.get(path, all_of_it or mark)
