"""Options as they stand in objects: in layers, of which a later one wins, each option with the place where it was written."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from csi.operator.resolve.findings import Findings, Path, spec_path
from csi.operator.resolve.option_row import Effect, NotServed, Row, WithoutEffect, same


@dataclass(frozen=True, slots=True)
class Written:
    """`key`: as tables have it, which may be another spelling than the one at `path`."""

    key: str
    value: str
    path: Path
    on_runtime: bool = False


Layer = tuple[Written, ...]


def layer(values: Mapping[str, str], *path: str | int, on_runtime: bool = False, spelt: Callable[[str], str] = same) -> Layer:
    """Return the options of one mapping below `spec`."""
    return tuple(Written(spelt(key), value, (*path, key), on_runtime) for key, value in values.items())


@dataclass(slots=True)
class Reading:
    """What was found out about options so far. An option that nobody took in the end has no effect."""

    findings: Findings
    _seen: dict[tuple[Path, bool], Written] = field(default_factory=dict)
    _taken: set[tuple[Path, bool]] = field(default_factory=set)

    def saw(self, *layers: Layer) -> None:
        for written in (written for each in layers for written in each):
            self._seen[written.path, written.on_runtime] = written

    def value(self, row: Row, written: Written) -> str | None:
        """Take an option; return what it comes to under the row's target, None for nothing."""
        self._taken.add((written.path, written.on_runtime))
        path, findings = written.path, self.findings
        if row.effect is Effect.REFUSED:
            findings.refuse(f"{spec_path(path)}: {row.note}", on_runtime=written.on_runtime)
        elif row.effect is Effect.IGNORED:
            findings.ignore_option(path, written.on_runtime, row.note)
        elif row.effect is not Effect.NOTHING:
            try:
                return row.convert(written.value)
            except WithoutEffect as why:
                findings.ignore_option(path, written.on_runtime, str(why))
            except NotServed as why:
                findings.refuse(f"{spec_path(path)}: {why}", on_runtime=written.on_runtime)
            except ValueError as expected:
                findings.refuse(f"{spec_path(path)} must be {expected}", on_runtime=written.on_runtime)
        return None

    def ignore_the_rest(self) -> None:
        """Say which options nobody knew."""
        for place, written in self._seen.items():
            if place not in self._taken:
                self.findings.ignore_option(written.path, written.on_runtime)
