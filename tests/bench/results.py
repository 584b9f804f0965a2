"""From single figures to medians and ratios. Stateless."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from fusecache.base.units import GIB
from tests.bench.columns import BY_NAME, LESS_IS_BETTER
from tests.bench.figures import Figure
from tests.bench.replay import Replayed
from tests.bench.synthetic_names import Known

JUICEFS = "juicefs"
RCLONE = "rclone"
BARE = "bare"
TMPFS = "tmpfs"
OURS = "fusecache"


class Cell(NamedTuple):
    """The figures of one contender in one column; CPU in seconds a run, averaged."""

    median: float
    lowest: float
    highest: float
    seconds: float
    contender_cpu: float
    server_cpu: float
    reader_cpu: float
    other_cpu: float
    peak_memory_bytes: int


class Table:
    """All cells of a run."""

    def __init__(
        self,
        figures: Iterable[Figure],
        hit_ratios: Mapping[str, Mapping[str, float]] | None = None,
        replayed: Sequence[Replayed] = (),
        known: Known | None = None,
    ) -> None:
        grouped: dict[tuple[str, str], list[Figure]] = {}
        for figure in figures:
            grouped.setdefault((figure.column, figure.contender), []).append(figure)
        self.hit_ratios = hit_ratios or {}  # of each trace, under each policy
        self.known = known
        self.replayed = {one.processes: one for one in replayed}
        self.cells = {key: _cell(group) for key, group in grouped.items()}

    @property
    def columns(self) -> list[str]:
        return [name for name in BY_NAME if any(column == name for column, _ in self.cells)]

    def cell(self, column: str, contender: str) -> Cell | None:
        return self.cells.get((column, contender))

    def ratio(self, column: str, contender: str, other: str) -> float | None:
        """Return how many times as good as `other` a contender is, None where one of them has no figure.

        Where less is better (seconds, memory), twice as good is half as much.
        """
        mine, theirs = self.cell(column, contender), self.cell(column, other)
        if mine is None or theirs is None or not mine.median or not theirs.median:
            return None
        less_is_better = BY_NAME[column].unit in LESS_IS_BETTER
        return theirs.median / mine.median if less_is_better else mine.median / theirs.median

    def cpu_per_gib(self, column: str, contender: str, size_bytes: int) -> float | None:
        """Return CPU seconds for each GiB of a file: of a mount's daemons, or of the bare client, which is its own reader."""
        cell = self.cell(column, contender)
        if cell is None:
            return None
        return (cell.reader_cpu if contender == BARE else cell.contender_cpu) * GIB / size_bytes

    def below_juicefs(self, contender: str = OURS) -> list[tuple[str, float]]:
        """Return the columns in which JuiceFS is better, with the ratio."""
        ratios = [(column, self.ratio(column, contender, JUICEFS)) for column in self.columns]
        return [(column, ratio) for column, ratio in ratios if ratio is not None and ratio < 1]

    def is_apart(self, column: str, contender: str = OURS, other: str = JUICEFS) -> bool:
        """Whether no figure of one lies within the range of the other's: else a column says nothing of which is better."""
        mine, theirs = self.cells[column, contender], self.cells[column, other]
        return mine.highest < theirs.lowest or theirs.highest < mine.lowest


def _cell(figures: Sequence[Figure]) -> Cell:
    values = [figure.value for figure in figures]

    def mean(name: str) -> float:
        return statistics.fmean(getattr(figure, name) for figure in figures)

    return Cell(
        median=statistics.median(values),
        lowest=min(values),
        highest=max(values),
        seconds=mean("seconds"),
        contender_cpu=mean("contender_cpu"),
        server_cpu=mean("server_cpu"),
        reader_cpu=mean("reader_cpu"),
        other_cpu=mean("other_cpu"),
        peak_memory_bytes=max(figure.peak_memory_bytes for figure in figures),
    )
