"""Sessions: a contender is opened with an empty cache, read in a fixed order, and closed; each step is a column's figure.

Owns nothing beyond the open contender. Called by `rounds`, from the one thread of the bench.
"""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from tests.bench import kernel_caches, processes
from tests.bench.columns import BY_NAME, MB_S
from tests.bench.contenders.contender import Contender, Place
from tests.bench.dataset import BIG_NAME, Dataset
from tests.bench.readers import Readers, Reading, started_readers
from tests.bench.settings import RANDOM_BYTES, RANDOM_READS, READ_BYTES, SMALL_BYTES, Settings

log = logging.getLogger(__name__)
LEAST_SECONDS = 1.0  # of reading in one figure that need not be cold: a pass over what is in memory takes a tenth of that
MOST_PASSES = 30  # in one figure, however little there is to read
MOST_DROPS = 5  # the same where each pass drops caches: that takes up to half a second, and cools everybody else on the machine
ATTEMPTS = 5  # of a figure that needs a warm page cache, on a machine where others drop it
SETTLE_SECONDS = 0.3  # until what the step before has started in the background is over; a guess


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One measurement, of one pass or several.

    CPU seconds of the contender, the server, the readers, and of everything else on the machine are for a pass, as is `seconds`.
    """

    contender: str
    column: str
    round: int
    value: float
    seconds: float
    contender_cpu: float
    server_cpu: float
    reader_cpu: float
    other_cpu: float
    peak_memory_bytes: int
    passes: int = 1


class Session(NamedTuple):
    """What one opened contender is asked for: `columns` in their order; `list_ahead` as in `Contender.open`."""

    name: str
    part: str
    columns: tuple[str, ...]
    list_ahead: bool = True


SESSIONS = (
    Session("big", "big", ("big-cold", "big-cached", "big-hot", "random-1", "random-8")),
    Session(
        "small-shuffled-1",
        "small",
        ("small-cold-shuffled-1", "small-cached-1", "small-hot-1", "small-cached-2", "small-hot-2"),
    ),
    Session("small-shuffled-2", "small", ("small-cold-shuffled-2",)),
    Session("small-listed-1", "small", ("small-cold-listed-1",)),
    Session("small-listed-2", "small", ("small-cold-listed-2",)),
    Session("find-mounted", "small", ("find-mounted",)),
    Session("find", "small", ("find-first", "find-again"), list_ahead=False),
)


class SessionRunner:
    """Runs sessions and keeps their figures in `figures`; what could not be measured for others' doing is in `disturbed`."""

    def __init__(self, settings: Settings, dataset: Dataset, server_pid: int) -> None:
        self._settings = settings
        self._dataset = dataset
        self._server_pid = server_pid
        self.disturbed: list[str] = []
        self.figures: list[Figure] = []

    def wanted(self, session: Session, contender: Contender) -> list[str]:
        return [name for name in session.columns if name in self._settings.columns and name in contender.columns]

    def run(self, session: Session, contender: Contender, number: int, *, verify: bool) -> None:
        """Open the contender and measure what is wanted of this session.

        Args:
            verify: compare every byte with the original at the end, outside the clock.

        Raises: ReadFailedError, ContenderError.
        """
        wanted = self.wanted(session, contender)
        if not wanted:
            return
        kernel_caches.drop_caches(kernel_caches.EVERYTHING)
        with contender.open(session.part, list_ahead=session.list_ahead) as place:
            last = max(session.columns.index(name) for name in wanted)
            for column in session.columns[: last + 1]:
                if column not in contender.columns:
                    continue
                figure = self._measure(contender, column, number, place)
                if figure is None:
                    self.disturbed.append(f"{contender.name}, {column}, round {number + 1}: others kept dropping the page cache")
                    continue
                if column in wanted:
                    self.figures.append(figure)
                log.info("%s %s round %d: %.0f", contender.name, column, number + 1, figure.value)
            if verify and not place.one_process and session.name in ("big", "small-shuffled-1"):
                self._verify(session, place)

    def _orders(self, column: str, place: Place, number: int) -> tuple[list[dict[str, Any]], int]:
        """Return the readers' orders, and what is dropped before they start."""
        kind, _, readers = column.rpartition("-")
        if column.startswith("big"):
            return [self._stream(place)], 0 if column == "big-hot" else kernel_caches.PAGES
        if column.startswith("random"):
            return [self._random(place, int(readers), number)], kernel_caches.PAGES
        if column.startswith("find"):
            return [self._walk(place)], kernel_caches.EVERYTHING
        names: Sequence[str] = self._dataset.small
        if kind != "small-cold-listed":
            names = self._dataset.shuffled(seed=100 * number + len(column) + int(readers))
        drop = 0 if kind == "small-hot" else kernel_caches.PAGES
        return list(self._files(place, names, int(readers))), drop

    def _stream(self, place: Place) -> dict[str, Any]:
        order = {"do": "stream", "path": f"{place.root}/{BIG_NAME}", "buffer_bytes": READ_BYTES}
        return {**order, "size": self._dataset.big_bytes, **place.extra("stream")}

    def _random(self, place: Place, threads: int, number: int) -> dict[str, Any]:
        pieces = self._dataset.big_bytes // RANDOM_BYTES
        chosen = random.Random(1000 * threads + number).sample(range(pieces), min(RANDOM_READS, pieces))
        offsets = [piece * RANDOM_BYTES for piece in chosen]
        order = {"do": "scattered", "path": f"{place.root}/{BIG_NAME}", "piece_bytes": RANDOM_BYTES}
        return {**order, "offsets": offsets, "threads": threads}

    def _walk(self, place: Place) -> dict[str, Any]:
        expected = self._dataset.small_entries
        return {"do": "walk", "root": place.root, "expected": expected, **place.extra("walk")}

    def _files(self, place: Place, names: Sequence[str], readers: int) -> Iterator[dict[str, Any]]:
        count = 1 if place.one_process else readers
        for reader in range(count):
            mine = names[reader::count]
            order = {"do": "files", "root": place.root, "names": mine, "bytes": len(mine) * SMALL_BYTES}
            yield {**order, "buffer_bytes": READ_BYTES, **place.extra("files")}

    def _measure(self, contender: Contender, column: str, number: int, place: Place) -> Figure | None:
        """Measure a column; what should have been hot and was cooled by somebody else on the machine is measured again.

        Returns: None if they never stopped.
        """
        orders, drop = self._orders(column, place, number)
        if not BY_NAME[column].cold:
            time.sleep(SETTLE_SECONDS)
        accounts = _Accounts(place.pids, self._server_pid)
        with self._readers(place, orders) as readers:
            if BY_NAME[column].cold:
                self._count_pass(readers, drop, accounts)
                return accounts.figure(contender.name, column, number)
            for _ in range(ATTEMPTS):
                drops = kernel_caches.drops_so_far()
                if not drop:
                    readers.run_pass()
                while accounts.seconds < LEAST_SECONDS and accounts.passes < (MOST_DROPS if drop else MOST_PASSES):
                    self._count_pass(readers, drop, accounts)
                if drop or kernel_caches.drops_so_far() == drops:
                    return accounts.figure(contender.name, column, number)
                log.info("%s %s: somebody else dropped the page cache; once more", contender.name, column)
                time.sleep(SETTLE_SECONDS)
                accounts = _Accounts(place.pids, self._server_pid)
        return None

    def _readers(self, place: Place, orders: Sequence[Mapping[str, Any]]) -> contextlib.AbstractContextManager[Readers]:
        return started_readers(place.program, orders, place.environment, self._settings.reader_seconds, place.abort)

    @staticmethod
    def _count_pass(readers: Readers, drop: int, accounts: _Accounts) -> None:
        def before() -> None:
            if drop:
                kernel_caches.drop_caches(drop)
            accounts.begin()

        accounts.end(readers.run_pass(before))

    def _verify(self, session: Session, place: Place) -> None:
        names: Iterable[str] = [BIG_NAME] if session.part == "big" else self._dataset.small
        truth = str(self._dataset.root / session.part)
        order = {"do": "compare", "root": place.root, "truth": truth, "names": list(names), "buffer_bytes": READ_BYTES}
        with self._readers(place, [order]) as readers:
            readers.run_pass()


class _Accounts:
    """What the counted passes of one measurement came to, CPU time included."""

    def __init__(self, pids: Callable[[], set[int]], server_pid: int) -> None:
        self._pids = pids
        self._server_pid = server_pid
        self.passes = 0
        self.seconds = 0.0
        self._amount = 0
        self._used = self._server = self._readers = self._others = 0.0
        self._memory = 0

    def begin(self) -> None:
        self._contender_before = processes.cpu_seconds(self._pids())
        self._server_before = processes.cpu_seconds([self._server_pid])
        self._machine_before = processes.machine_busy_seconds()

    def end(self, reading: Reading) -> None:
        machine = processes.machine_busy_seconds() - self._machine_before
        server = processes.cpu_seconds([self._server_pid]) - self._server_before
        pids = self._pids()
        used = processes.cpu_seconds(pids) - self._contender_before
        self._memory = max(self._memory, processes.peak_memory_bytes(pids))
        self.passes += 1
        self.seconds += reading.seconds
        self._amount += reading.amount
        self._used += used
        self._server += server
        self._readers += reading.cpu_seconds
        self._others += machine - server - used - reading.cpu_seconds

    def figure(self, contender: str, column: str, number: int) -> Figure:
        scale = 1e6 if BY_NAME[column].unit == MB_S else 1.0
        return Figure(
            contender=contender,
            column=column,
            round=number,
            value=self._amount / self.seconds / scale,
            seconds=self.seconds / self.passes,
            contender_cpu=max(0.0, self._used) / self.passes,
            server_cpu=self._server / self.passes,
            reader_cpu=self._readers / self.passes,
            other_cpu=max(0.0, self._others) / self.passes,
            peak_memory_bytes=self._memory,
            passes=self.passes,
        )
