"""Sessions: a contender is opened with an empty cache, read in a fixed order, and closed; each step is a column's figure.

Owns nothing beyond the open contender. Called by `rounds`, from the one thread of the bench.
"""

from __future__ import annotations

import contextlib
import logging
import os
import random
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from fusecache.base.units import MIB
from tests.bench import kernel_caches, processes
from tests.bench.columns import BY_NAME, MB_S, Column, Job, Kept
from tests.bench.contenders.contender import Contender, Place, Setup
from tests.bench.dataset import BIG, BIG_NAME, FOREIGN, LINK, MIXED, NAMES, PARALLEL, SMALL, WRITES, Dataset, Part
from tests.bench.figures import Accounts, Figure
from tests.bench.foreign.orders import ForeignOrders
from tests.bench.readers import READER, Readers, started_readers
from tests.bench.settings import HOT_RANDOM_TIMES, RANDOM_BYTES, RANDOM_READS, READ_BYTES, Settings
from tests.bench.writing.sessions import WriteSessions
from tests.support.seaweed import Seaweed

log = logging.getLogger(__name__)
MOST_PASSES = 30  # in one figure, however little there is to read
MOST_DROPS = 5  # the same where each pass drops caches: that takes up to half a second, and cools everybody else on the machine
FILES_TO_RESTART_ON = 2000  # small files that are cached when the time of a restart is taken
ATTEMPTS = 5  # of a figure that needs a warm page cache, on a machine where others drop it
SETTLE_SECONDS = 0.3  # until what the step before has started in the background is over; a guess


class Session(NamedTuple):
    """What one opened contender is asked for: `columns` in their order, after everything was read once if `fill`."""

    name: str
    part: str
    columns: tuple[str, ...]
    setup: Setup = Setup()
    fill: bool = False


SESSIONS = (
    Session("big", BIG, ("big-cold", "big-cached", "big-hot", "random-1", "random-8")),
    Session("big-2", BIG, ("big-cold-2", "big-cached-2", "big-hot-2", "random-hot-1", "random-hot-8", "foreign-model")),
    Session("warm-big", BIG, ("warm-big",)),
    Session("checked", BIG, ("checked",), Setup(check_every_byte=True), fill=True),
    Session("parallel", PARALLEL, ("parallel",), fill=True),
    Session("disk", PARALLEL, ("disk",), Setup(on_disk=True), fill=True),
    Session(
        "small-shuffled-1",
        SMALL,
        (
            *("small-cold-shuffled-1", "small-cached-1", "small-hot-1", "small-cached-2", "small-hot-2"),
            *("foreign-loader", "foreign-grep"),
        ),
    ),
    Session("small-shuffled-2", SMALL, ("small-cold-shuffled-2",)),
    Session("small-listed-1", SMALL, ("small-cold-listed-1",)),
    Session("small-listed-2", SMALL, ("small-cold-listed-2",)),
    Session("warm-small", SMALL, ("warm-small",)),
    Session("serve-1", SMALL, ("serve-1",), Setup(serve_processes=1), fill=True),
    Session("serve-2", SMALL, ("serve-2",), Setup(serve_processes=2), fill=True),
    Session("mixed-1", MIXED, ("mixed-cold-1", "mixed-cached-1", "mixed-hot-1", "mixed-cached-2", "mixed-hot-2")),
    Session("mixed-2", MIXED, ("mixed-cold-2",)),
    Session("foreign", FOREIGN, ("foreign-parquet", "foreign-tar", "foreign-sqlite"), fill=True),
    Session("find-mounted", SMALL, ("find-mounted",)),
    Session("find", SMALL, ("find-first", "find-again", "memory"), Setup(list_ahead=False)),
    Session("first-byte", SMALL, ("first-byte-cold", "first-byte-warm")),
    Session("names", NAMES, ("names-find", "names-again", "names-memory")),
    Session("names-ls", NAMES, ("names-ls", "names-ls-restart")),
    Session("write-big", WRITES, ("write-big", "write-readback")),
    Session("write-small", WRITES, ("write-small",)),
    Session("write-small-back", WRITES, ("write-small-back",), Setup(write_back=True)),
    Session("write-middle", WRITES, ("write-middle", "write-middle-sent")),
    Session("link", LINK, ("link-cold", "link-cached", "link-hot")),
)
PHASES = (
    (BIG,),
    (PARALLEL,),
    (SMALL, MIXED, FOREIGN),
    (WRITES,),
    (NAMES,),
    (LINK,),
)  # parts that are there at the same time: all of them would need too much memory
VERIFIED = ("big", "small-shuffled-1", "mixed-1", "link")  # sessions in whose first round every byte is compared


class SessionRunner:
    """Runs sessions on the parts of one phase.

    Attributes:
        figures: what was measured.
        disturbed: what could not be measured for others' doing.
    """

    def __init__(self, settings: Settings, dataset: Dataset, server: Seaweed) -> None:
        self._settings = settings
        self._dataset = dataset
        assert server.process is not None
        self._server_pid = server.process.pid
        self._writes = WriteSessions(settings, server)
        self._foreign = ForeignOrders(dataset)
        self.disturbed: list[str] = []
        self.figures: list[Figure] = []

    def wanted(self, session: Session, contender: Contender) -> list[str]:
        if session.part not in self._dataset.parts:
            return []
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
        if BY_NAME[wanted[0]].job is Job.FIRST_BYTE:
            self._first_bytes(session, contender, number, wanted)
            return
        if session.part == WRITES:
            for written in self._writes.run(session.columns, session.setup, contender, number, wanted, verify=verify):
                self._keep(written)
            return
        with contender.open(session.part, session.setup) as place:
            if session.fill:
                self._fill(session, place)
            last = max(session.columns.index(name) for name in wanted)
            for column in session.columns[: last + 1]:
                if column not in contender.columns or (column not in wanted and BY_NAME[column].leaves_no_trace):
                    continue
                if BY_NAME[column].job is Job.MEMORY:
                    figure: Figure | None = self._memory(contender, column, number, place)
                else:
                    figure = self._measure(session, contender, BY_NAME[column], number, place)
                if figure is None:
                    self.disturbed.append(f"{contender.name}, {column}, round {number + 1}: others kept dropping the page cache")
                elif column in wanted:
                    self._keep(figure)
            if verify and not place.one_process and session.name in VERIFIED:
                self._verify(session, place)

    def _keep(self, figure: Figure) -> None:
        self.figures.append(figure)
        log.info("%s %s round %d: %.2f", figure.contender, figure.column, figure.round + 1, figure.value)

    def _orders(self, column: Column, place: Place, part: Part, number: int) -> list[dict[str, Any]]:
        """Return the readers' orders."""
        if column.job is Job.STREAM:
            names = [part.names[reader % len(part.names)] for reader in range(column.readers)]
            return [self._stream(place, name, part.sizes[name]) for name in names]
        if column.job is Job.RANDOM:
            times = HOT_RANDOM_TIMES if column.kept is Kept.PAGES else 1
            return [self._random(place, part, column.readers, number, times)]
        if column.job is Job.COPY:
            order = {"do": "copy", "root": place.root, "names": part.names, "sizes": dict(part.sizes)}
            return [{**order, "bytes": part.bytes_of(part.names), "buffer_bytes": READ_BYTES, **place.extra("copy")}]
        if column.job is Job.FOREIGN:
            order = self._foreign.order(column.name.partition("-")[2], place.root, number)
            return [{**order, **place.extra("foreign")}]
        if column.job is Job.WALK:
            return [{"do": "walk", "root": place.root, "expected": part.entries, **place.extra("walk")}]
        if column.job is Job.LS:
            return [{"do": "ls", "root": place.root}]
        if column.job is Job.WARM:
            amount = part.bytes_of(part.names) if column.unit == MB_S else len(part.sizes)
            return [{"amount": amount, **place.extra("warm")}]
        seed = 100 * number + len(column.name) + column.readers
        return list(self._files(place, part, part.names if column.listed else part.shuffled(seed), column.readers))

    def _stream(self, place: Place, name: str, size: int) -> dict[str, Any]:
        order = {"do": "stream", "path": f"{place.root}/{name}", "buffer_bytes": READ_BYTES}
        return {**order, "size": size, **place.extra("stream")}

    def _random(self, place: Place, part: Part, threads: int, number: int, times: int) -> dict[str, Any]:
        pieces = part.sizes[BIG_NAME] // RANDOM_BYTES
        chosen = random.Random(1000 * threads + number).sample(range(pieces), min(RANDOM_READS, pieces))
        offsets = [piece * RANDOM_BYTES for piece in chosen] * times
        order = {"do": "scattered", "path": f"{place.root}/{BIG_NAME}", "piece_bytes": RANDOM_BYTES}
        return {**order, "offsets": offsets, "threads": threads}

    def _files(self, place: Place, part: Part, names: Sequence[str], readers: int) -> Iterator[dict[str, Any]]:
        count = 1 if place.one_process else readers
        for reader in range(count):
            mine = names[reader::count]
            order = {"do": "files", "root": place.root, "names": mine, "bytes": part.bytes_of(mine)}
            yield {**order, "buffer_bytes": READ_BYTES, **place.extra("files")}

    def _fill(self, session: Session, place: Place) -> None:
        """Read once what the session's columns will read, so that it is cached."""
        part = self._dataset.parts[session.part]
        wide = max((BY_NAME[name] for name in session.columns), key=lambda column: column.readers)
        foreign = wide.job is Job.FOREIGN  # no two of them read the same
        orders = list(self._files(place, part, part.names, 1)) if foreign else self._orders(wide, place, part, 0)
        with self._readers(place, orders) as readers:
            readers.run_pass()

    def _first_bytes(self, session: Session, contender: Contender, number: int, wanted: Sequence[str]) -> None:
        """Measure from the mount command to the first byte that a waiting reader has, then the same on the cache left behind."""
        part = self._dataset.parts[session.part]
        name = part.names[len(part.sizes) // 2]
        order = {"do": "first", "path": f"{contender.root(part.name)}/{name}"}
        began = 0.0

        def begin() -> None:
            nonlocal began
            kernel_caches.drop_caches(kernel_caches.EVERYTHING)
            began = time.monotonic()

        with started_readers(READER, [order], os.environ, self._settings.reader_seconds, contender.abort) as readers:
            begin()
            with contender.open(session.part, session.setup) as place:
                seconds = {session.columns[0]: readers.run_pass().ended - began}
                some = part.names[:FILES_TO_RESTART_ON]
                with self._readers(place, list(self._files(place, part, some, 1))) as others:
                    others.run_pass()
                place.restart(begin)
                seconds[session.columns[1]] = readers.run_pass().ended - began
        for column in wanted:
            self._keep(Figure(contender.name, column, number, seconds[column], seconds[column]))

    def _memory(self, contender: Contender, column: str, number: int, place: Place) -> Figure:
        time.sleep(SETTLE_SECONDS)
        return Figure(contender.name, column, number, processes.anonymous_memory_bytes(place.workers()) / MIB, 0.0)

    def _measure(self, session: Session, contender: Contender, column: Column, number: int, place: Place) -> Figure | None:
        """Measure a column; what should have been hot and was cooled by somebody else on the machine is measured again.

        Returns: None if they never stopped.
        """
        orders = self._orders(column, place, self._dataset.parts[session.part], number)
        if column.job is Job.LS and not column.cold:
            self._restart_knowing_all(place, session)
        drop = {Kept.PAGES: 0}.get(
            column.kept, kernel_caches.EVERYTHING if column.job in (Job.WALK, Job.LS) else kernel_caches.PAGES
        )
        once = column.cold or column.job is Job.LS
        if not once:
            time.sleep(SETTLE_SECONDS)
        if session.setup.on_disk:
            os.sync()  # a page that is not written yet cannot be dropped
        accounts = Accounts(place.pids, self._server_pid)
        with self._readers(place, orders) as readers:
            if column.job is Job.FOREIGN and number == 0:
                readers.run_pass()  # in which every byte is checked
            if once:
                self._count_pass(readers, drop, accounts)
                return accounts.figure(contender.name, column, number)
            for _ in range(ATTEMPTS):
                drops = kernel_caches.drops_so_far()
                if not drop:
                    readers.run_pass()
                while accounts.seconds < self._settings.least_seconds and accounts.passes < (MOST_DROPS if drop else MOST_PASSES):
                    self._count_pass(readers, drop, accounts)
                if drop or kernel_caches.drops_so_far() == drops:
                    return accounts.figure(contender.name, column, number)
                log.info("%s %s: somebody else dropped the page cache; once more", contender.name, column.name)
                time.sleep(SETTLE_SECONDS)
                accounts = Accounts(place.pids, self._server_pid)
        return None

    def _restart_knowing_all(self, place: Place, session: Session) -> None:
        """Walk over every name, then end the contender and start it on what it has."""
        part = self._dataset.parts[session.part]
        with self._readers(place, [{"do": "walk", "root": place.root, "expected": part.entries}]) as readers:
            readers.run_pass()
        place.restart(lambda: None)

    def _readers(self, place: Place, orders: Sequence[Mapping[str, Any]]) -> contextlib.AbstractContextManager[Readers]:
        return started_readers(place.program, orders, place.environment, self._settings.reader_seconds, place.abort)

    @staticmethod
    def _count_pass(readers: Readers, drop: int, accounts: Accounts) -> None:
        def before() -> None:
            if drop:
                kernel_caches.drop_caches(drop)
            accounts.begin()

        accounts.end(readers.run_pass(before))

    def _verify(self, session: Session, place: Place) -> None:
        names = self._dataset.parts[session.part].names
        truth = str(self._dataset.root / session.part)
        order = {"do": "compare", "root": place.root, "truth": truth, "names": names, "buffer_bytes": READ_BYTES}
        with self._readers(place, [order]) as readers:
            readers.run_pass()
