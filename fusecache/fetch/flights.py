"""Single flight: every missing block is fetched once, whoever waits for it.

Runs in fetch's event loop; everything between two checkpoints is atomic, and nothing here has a checkpoint: jobs go to worker
threads and come back through callbacks, and what came back together is committed together (`commit_arrived`). A block is in
`_in_flight` exactly while a flight is responsible for it.
"""

from __future__ import annotations

import functools
import logging
import random
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import trio

from fusecache.base.counters import CounterPage
from fusecache.contract.errors import ANSWERS, CacheError, ErrorKind, Retry
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.block_jobs import Checksums, Range, TierWriteError, fetch_range, stream_range, write_range
from fusecache.fetch.buffer_pool import BufferPool
from fusecache.fetch.peer_routes import PeerRoutes
from fusecache.fetch.range_size import WHOLE_OBJECT_BYTES, longest_run
from fusecache.fetch.sources import OpenSource, Sources
from fusecache.fetch.workers import Job, Priority, Workers
from fusecache.index.environment import NoSpaceError
from fusecache.index.extents import BlockIndex, ExtentFlag
from fusecache.index.inodes import Inode, InodeNo
from fusecache.peer.client import PeerLink
from fusecache.tiers.block_store import BlockId, BlockStore, Place, Written
from fusecache.tiers.tier import align

log = logging.getLogger(__name__)

MAX_BACKOFF_SECONDS = 2.0
UNWANTED_ATTEMPTS = 3  # tries for a flight nobody waits for
# A reader who was told of a failure asks once more at once: the kernel does, page by page after a read-ahead that failed. It
# must not wait for a second deadline.
FAIL_AGAIN_SECONDS = 1.0
NO_ANSWER = "the store did not answer in time"
# Bytes that are checked and written to a memory tier within some 0.5 ms: the event loop does that itself. A disk may make its
# writer wait, and a larger object would let the others wait.
QUICK_BYTES = 256 << 10
ROOM_SECONDS = 2.0  # how long a flight waits for eviction before its readers go through the bounce buffer


class Waiter:
    """Somebody who needs a set of blocks. `finish(waiter, error)` is called once: None when all blocks are there (and leased, if
    `leases`). It is given the waiter so that it need not hold it: the two would live until the next garbage collection."""

    __slots__ = ("came", "deadline", "finish", "inode", "leased", "leases", "no_room", "remaining")

    def __init__(
        self,
        inode: InodeNo,
        blocks: Iterable[BlockIndex],
        deadline: float,
        finish: Callable[[Waiter, CacheError | None], None],
        no_room: Callable[[], None],
        *,
        leases: bool,
        came: Callable[[], None] | None = None,
    ) -> None:
        """`came` is called for each block, when it is no longer among `remaining`."""
        self.inode = inode
        self.remaining = set(blocks)
        self.deadline = deadline
        self.finish = finish
        self.no_room = no_room
        self.leases = leases
        self.came = came
        self.leased: list[BlockId] = []


@dataclass(slots=True, eq=False)
class Flight:
    inode: InodeNo
    row: Inode
    first: BlockIndex
    count: int
    priority: Priority
    marked: frozenset[BlockIndex]
    places: list[Place | None] = field(default_factory=list)
    waiters: set[Waiter] = field(default_factory=set)
    attempts: int = 0
    pending: set[BlockIndex] = field(default_factory=set)
    waits_for_room_since: float = 0.0
    peer: PeerLink | None = None  # who is asked; None: the store


class Flights:
    def __init__(
        self,
        store: BlockStore,
        sources: Sources,
        workers: Workers,
        nursery: trio.Nursery,
        counters: CounterPage,
        granule_size: int,
        need_room: Callable[[int], None],
        on_stale: Callable[[InodeNo, bytes], None],
        buffers: BufferPool | None = None,
        peers: PeerRoutes | None = None,
    ) -> None:
        """`need_room(size)` wakes the evictor: so many bytes found no place, 0 if all did; `on_stale` is told of an inode, and
        of its version that the source does not hold any more."""
        self._store = store
        self._sources = sources
        self._workers = workers
        self._nursery = nursery
        self._counters = counters
        self._granule_size = granule_size
        self._need_room = need_room
        self._on_stale = on_stale
        self.buffers = buffers or BufferPool()
        self._peers = peers
        self._in_flight: dict[BlockId, Flight] = {}
        self._arrived: list[tuple[Flight, Written]] = []
        self._waiting_for_room: list[Flight] = []
        self._waiters: set[Waiter] = set()
        self._given_up: dict[BlockId, tuple[float, CacheError]] = {}  # when readers were told that it does not come
        self.last_error = ""
        self.last_error_at = 0.0
        self.bytes_in_flight = 0  # memory that jobs hold, or will hold when their turn comes

    @property
    def count_in_flight(self) -> int:
        return len(self._in_flight)

    # -- asking

    def longest_run(self, row: Inode) -> int:
        """Return how many blocks one request for this file may be for."""
        try:
            streamed = self._sources.of(row.source).streams
        except CacheError:
            streamed = False
        return longest_run(self._store.tiers, self._store.block_size, streamed=streamed)

    def is_in_flight(self, inode: InodeNo, block: BlockIndex) -> bool:
        return (inode, block) in self._in_flight

    def is_asked_of_peer(self, inode: InodeNo, block: BlockIndex) -> bool:
        flight = self._in_flight.get((inode, block))
        return flight is not None and flight.peer is not None

    def want(self, waiter: Waiter, row: Inode, priority: Priority = Priority.DEMAND, *, ask_peers: bool = True) -> None:
        """Make sure that a flight brings each of the waiter's remaining blocks; its `finish` may be called before this
        returns. `ask_peers`: not only the store may be asked."""
        try:
            self._sources.of(row.source)
        except CacheError as error:
            waiter.finish(waiter, error)
            return
        given_up = self._given_up_lately(waiter) if waiter.leases else None
        if given_up is not None:
            waiter.finish(waiter, given_up)
            return
        self._waiters.add(waiter)
        if any(written.inode == waiter.inode for _, written in self._arrived):
            self.commit_arrived()
        run: list[BlockIndex] = []
        self._take_what_is_there(waiter)
        for block in sorted(waiter.remaining):
            flight = self._in_flight.get((waiter.inode, block))
            if flight is not None:
                flight.waiters.add(waiter)
                flight.priority = min(flight.priority, priority)
                continue
            run.append(block)
        for first, count in split_runs(run, self.longest_run(row)):
            if waiter not in self._waiters:
                return  # it was sent elsewhere already
            self.start(waiter.inode, row, first, count, priority, waiter=waiter, ask_peers=ask_peers)
        if not waiter.remaining:
            self._complete(waiter, None)

    def _take_what_is_there(self, waiter: Waiter) -> None:
        """Blocks may have come since the waiter looked: a warm-up pauses in between."""
        with self._store.index.read() as txn:
            there = [
                block
                for block in waiter.remaining
                if (waiter.inode, block) not in self._in_flight and self._store.index.extents.get(txn, waiter.inode, block)
            ]
        for block in there:
            self._give(waiter, block)

    def _give(self, waiter: Waiter, block: BlockIndex) -> None:
        waiter.remaining.discard(block)
        if waiter.leases:
            self._store.leases[(waiter.inode, block)] += 1
            waiter.leased.append((waiter.inode, block))
        if waiter.came is not None:
            waiter.came()

    def start(
        self,
        inode: InodeNo,
        row: Inode,
        first: BlockIndex,
        count: int,
        priority: Priority,
        *,
        waiter: Waiter | None = None,
        marked: frozenset[BlockIndex] = frozenset(),
        ask_peers: bool = True,
    ) -> None:
        """Fetch those of these blocks that are neither cached nor in flight, with one request if they have no gaps."""
        if not self._sources.of(row.source).source.capabilities.ranges:
            first, count = 0, -(-row.size // self._store.block_size)
        with self._store.index.read() as txn:
            missing = [
                block
                for block in range(first, first + count)
                if (inode, block) not in self._in_flight and self._store.index.extents.get(txn, inode, block) is None
            ]
        self.start_missing(inode, row, missing, count, priority, waiter=waiter, marked=marked, ask_peers=ask_peers)

    def start_missing(
        self,
        inode: InodeNo,
        row: Inode,
        missing: list[BlockIndex],
        longest: int,
        priority: Priority,
        *,
        waiter: Waiter | None = None,
        marked: frozenset[BlockIndex] = frozenset(),
        ask_peers: bool = True,
    ) -> None:
        """Fetch blocks, given in ascending order, of which the caller knows that they are neither cached nor in flight.

        `longest`: of how many blocks one request may be."""
        opened = self._sources.of(row.source)
        if opened.source.capabilities.ranges:  # one request has no gaps
            runs = split_runs(missing, longest)
        else:  # a whole object that is streamed may
            runs = [(0, -(-row.size // self._store.block_size))] if missing else []
        for start, length, peer in self._routed(row, runs, opened) if ask_peers else ((*run, None) for run in runs):
            flight = Flight(inode, row, start, length, priority, marked, peer=peer)
            if waiter is not None and waiter in self._waiters:
                flight.waiters.add(waiter)
            flight.pending.update(block for block in missing if start <= block < start + length)
            self._in_flight.update(((inode, block), flight) for block in flight.pending)
            self._place(flight, opened)

    def _routed(
        self, row: Inode, runs: list[tuple[BlockIndex, int]], opened: OpenSource
    ) -> Iterator[tuple[BlockIndex, int, PeerLink | None]]:
        """Yield runs with who is to be asked for them."""
        for start, length in runs:
            if self._peers is None:
                yield start, length, None
            elif opened.source.capabilities.ranges:
                yield from self._peers.split(row, start, length)
            else:
                yield start, length, self._peers.link(row, start, has_ranges=False)

    def _place(self, flight: Flight, opened: OpenSource) -> None:
        if opened.source.capabilities.ranges:  # what came before an error needs no second request
            flight.first, flight.count = min(flight.pending), max(flight.pending) - min(flight.pending) + 1
        places: list[Place | None] = []
        for block in range(flight.first, flight.first + flight.count):
            place = self._store.reserve(flight.inode, flight.row, block) if block in flight.pending else None
            if place is None and block in flight.pending and opened.source.capabilities.ranges:
                for earlier in places:
                    if earlier is not None:
                        self._store.release(earlier)
                self._wait_for_room(flight)
                return
            places.append(place)
        if not any(places):
            self._wait_for_room(flight)
            return
        flight.places = places
        flight.waits_for_room_since = 0.0
        self._submit(flight, opened)

    def _wait_for_room(self, flight: Flight) -> None:
        now = time.monotonic()
        flight.waits_for_room_since = flight.waits_for_room_since or now
        length = min(self._store.block_size, flight.row.size)
        count = len(flight.pending) if self._sources.of(flight.row.source).source.capabilities.ranges else 1
        # What a waiter holds already must stay until the rest of it is there, too.
        most = max((len(waiter.leased) + len(waiter.remaining) for waiter in flight.waiters if waiter.leases), default=count)
        patient = self._store.can_ever_fit(length, max(count, most)) and now - flight.waits_for_room_since < ROOM_SECONDS
        if patient and (flight.waiters or flight.priority is Priority.WARM):
            self._waiting_for_room.append(flight)
            self._need_room(count * align(length))
            return
        if patient:
            self._need_room(count * align(length))
        waiters = list(flight.waiters)
        self._drop(flight)
        for waiter in waiters:
            self._send_elsewhere(waiter)

    def _send_elsewhere(self, waiter: Waiter) -> None:
        """No tier can take one of its blocks: it needs nothing more of us, whatever else is in flight for it."""
        if waiter in self._waiters:
            self._forget_waiter(waiter)
            self._unlease(waiter)
            waiter.no_room()

    def room_was_made(self) -> None:
        """The evictor freed something: try the flights that wait for it, oldest first."""
        waiting, self._waiting_for_room = self._waiting_for_room, []
        for flight in waiting:
            if flight.pending:
                self._place(flight, self._sources.of(flight.row.source))

    # -- flying

    def _submit(self, flight: Flight, opened: OpenSource) -> None:
        block_size = self._store.block_size
        offset = flight.first * block_size
        length = min(flight.count * block_size, flight.row.size - offset)
        row = flight.row
        wanted = Range(row.path, row.version, row.identity, offset, length, tuple(flight.places))
        if flight.peer is not None and self._peers is not None:
            self._ask_peer(flight, opened, wanted, flight.peer, self._peers)
            return
        self._counters.add(Counter.REMOTE_REQUESTS)
        source, granule, buffers = opened.source, self._granule_size, self.buffers
        is_long = opened.streams and flight.count > 1 and (length < row.size or length > WHOLE_OBJECT_BYTES)
        if source.capabilities.ranges and all(flight.places) and not is_long:
            memory = length

            def done(result: list[Checksums] | None, error: CacheError | None) -> None:
                self.bytes_in_flight -= memory
                if error is None and result is not None:
                    self._arrive(flight, list(enumerate(result)))
                else:
                    self._failed(flight, opened, error)

            job = Job(lambda: fetch_range(source, wanted, granule, buffers), done, memory, flight.priority)
            begins = opened.begins
            if begins is not None and begins.begins_reads and flight.count == 1 and length == row.size:
                place = flight.places[0]
                job.begin = functools.partial(begins.begin_read, row.path, row.version, length)
                job.take = lambda data: write_range(source, wanted, granule, memoryview(data))
                job.is_quick = length <= QUICK_BYTES and place is not None and self._store.tiers[place.tier].is_memory
        else:
            memory = 2 * block_size

            def arrive(blocks: list[tuple[int, Checksums]]) -> None:
                opened.gate.note_answer()
                self._arrive(flight, blocks)

            def announce(blocks: list[tuple[int, Checksums]]) -> None:
                self._workers.post(lambda: arrive(blocks))

            def all_done(_: object, error: CacheError | None) -> None:
                self.bytes_in_flight -= memory
                if error is not None:
                    self._failed(flight, opened, error)
                elif flight.pending:
                    self._drop_unplaced(flight)

            job = Job(
                lambda: stream_range(source, wanted, granule, block_size, buffers, announce), all_done, memory, flight.priority
            )
        self.bytes_in_flight += memory
        opened.gate.submit(job)

    def _ask_peer(self, flight: Flight, opened: OpenSource, wanted: Range, peer: PeerLink, peers: PeerRoutes) -> None:
        def ended(error: CacheError | None) -> None:
            self.bytes_in_flight -= memory
            if error is None:
                if flight.pending:
                    self._drop_unplaced(flight)
                return
            self.commit_arrived()
            if not flight.pending:
                return
            if isinstance(error, TierWriteError):
                self._store.tiers[error.tier].note_failure(error.os_error)
            else:
                flight.peer = None
            self._release_places(flight)
            self._place(flight, opened)

        memory = 2 * self._store.block_size
        self.bytes_in_flight += memory
        peers.fetch(peer, flight.row, wanted, flight.priority, lambda blocks: self._arrive(flight, blocks), ended)

    def _arrive(self, flight: Flight, blocks: list[tuple[int, Checksums]]) -> None:
        """The blocks of these numbers (in the flight) are written; `commit_arrived` tells the index."""
        flight.attempts = 0  # it goes on, if not in one go
        is_kept = any(not waiter.leases for waiter in flight.waiters)  # a warm-up
        for number, checksums in blocks:
            place = flight.places[number]
            if place is None:
                continue
            block = flight.first + number
            flags = ExtentFlag.PREFETCH_MARK if block in flight.marked else 0
            self._arrived.append((flight, Written(flight.inode, block, place, checksums, flags, is_kept=is_kept)))
            flight.places[number] = None
            self._counters.add(Counter.REMOTE_BYTES if flight.peer is None else Counter.PEER_BYTES, place.length)
            if not flight.waiters:
                self._counters.add(Counter.PREFETCHED_BYTES, place.length)

    @property
    def arrived(self) -> int:
        """How many blocks `commit_arrived` would make visible."""
        return len(self._arrived)

    @property
    def is_arrival_awaited(self) -> bool:
        """Whether a reader waits. (Who warms can wait a moment longer.)"""
        return any(waiter.leases for flight, _ in self._arrived for waiter in flight.waiters)

    def commit_arrived(self) -> None:
        """One transaction for all blocks that arrived since the last one."""
        if not self._arrived:
            return
        arrived, self._arrived = self._arrived, []
        try:
            self._store.commit([written for _, written in arrived], {flight.inode: flight.row.size for flight, _ in arrived})
        except NoSpaceError as error:
            if self.last_error != str(error):  # as long as it lasts every batch of blocks comes here
                log.warning("reads go on without caching: %s", error)
            self._note_error(str(error))
            for flight, written in arrived:
                self._store.release(written.place)
                self._finish_without_cache(flight, written.block)
            return
        for flight, written in arrived:
            self._block_is_there(flight, written.block)
        self._need_room(0)

    def _given_up_lately(self, waiter: Waiter) -> CacheError | None:
        for block in waiter.remaining:
            since, error = self._given_up.get((waiter.inode, block), (0.0, None))
            if error is not None and time.monotonic() - since <= FAIL_AGAIN_SECONDS:
                return error
        return None

    def _block_is_there(self, flight: Flight, block: BlockIndex) -> None:
        self._in_flight.pop((flight.inode, block), None)
        self._given_up.pop((flight.inode, block), None)
        flight.pending.discard(block)
        for waiter in list(flight.waiters):
            if block not in waiter.remaining:
                continue
            self._give(waiter, block)
            if not waiter.remaining:
                self._complete(waiter, None)

    def _finish_without_cache(self, flight: Flight, block: BlockIndex) -> None:
        self._in_flight.pop((flight.inode, block), None)
        flight.pending.discard(block)
        for waiter in list(flight.waiters):
            if block in waiter.remaining:
                flight.waiters.discard(waiter)
                self._send_elsewhere(waiter)

    def _drop_unplaced(self, flight: Flight) -> None:
        """A streamed object is through; blocks that had no place go to their readers another way."""
        left = flight.pending - {written.block for other, written in self._arrived if other is flight}
        for block in sorted(left):
            self._finish_without_cache(flight, block)

    # -- failing

    def _failed(self, flight: Flight, opened: OpenSource, error: CacheError | None) -> None:
        error = error or CacheError(ErrorKind.BUG, "a range came back without a result")
        self._counters.add(Counter.REMOTE_ERRORS)
        self.commit_arrived()  # what a stream brought before it broke is neither fetched nor placed again
        if not flight.pending:
            return
        if isinstance(error, TierWriteError):
            self._store.tiers[error.tier].note_failure(error.os_error)
            self._release_places(flight)
            self._place(flight, opened)
            return
        self._note_error(str(error))
        flight.attempts += 1
        if self._may_retry(flight, error):
            self._counters.add(Counter.REMOTE_RETRIES)
            pause = min(MAX_BACKOFF_SECONDS, 0.05 * 2**flight.attempts) * random.uniform(0.5, 1.0)
            pause = max(pause, min(error.retry_after_seconds or 0.0, 5.0))
            self._nursery.start_soon(self._retry_later, flight, opened, pause)
            return
        if error.kind is ErrorKind.NOT_FOUND:
            error = CacheError(ErrorKind.STALE, str(error))
        if error.kind is ErrorKind.STALE:
            self._on_stale(flight.inode, flight.row.version)
        waiters = list(flight.waiters)
        self._drop(flight)
        for waiter in waiters:
            self._complete(waiter, error)

    def _may_retry(self, flight: Flight, error: CacheError) -> bool:
        retry = ANSWERS[error.kind].retry
        if retry is Retry.REFETCH_ONCE or error.kind is ErrorKind.BUG:
            return flight.attempts <= 1
        if retry is not Retry.YES:
            return False
        return bool(flight.waiters) or flight.attempts < UNWANTED_ATTEMPTS

    async def _retry_later(self, flight: Flight, opened: OpenSource, pause: float) -> None:
        await trio.sleep(pause)
        if not flight.waiters and flight.attempts >= UNWANTED_ATTEMPTS:
            self._drop(flight)
        elif flight.pending:
            self._release_places(flight)
            self._place(flight, opened)

    def _release_places(self, flight: Flight) -> None:
        for place in flight.places:
            if place is not None:
                self._store.release(place)
        flight.places = []

    def _drop(self, flight: Flight) -> None:
        self._release_places(flight)
        for block in flight.pending:
            self._in_flight.pop((flight.inode, block), None)
        flight.pending.clear()
        flight.waiters.clear()

    def _note_error(self, message: str) -> None:
        self.last_error = message
        self.last_error_at = time.time()

    # -- waiters

    def _complete(self, waiter: Waiter, error: CacheError | None) -> None:
        if waiter not in self._waiters:
            return
        self._forget_waiter(waiter)
        if error is not None:
            self._unlease(waiter)
        waiter.finish(waiter, error)

    def _forget_waiter(self, waiter: Waiter) -> None:
        self._waiters.discard(waiter)
        for block in waiter.remaining:
            flight = self._in_flight.get((waiter.inode, block))
            if flight is not None:
                flight.waiters.discard(waiter)

    def _unlease(self, waiter: Waiter) -> None:
        self.unlease(waiter.leased)
        waiter.leased = []

    def unlease(self, blocks: Iterable[BlockId]) -> None:
        for block in blocks:
            self._store.leases[block] -= 1
            if self._store.leases[block] <= 0:
                del self._store.leases[block]
        if self._waiting_for_room:
            self._need_room(self._store.block_size)

    def cancel(self, waiter: Waiter) -> None:
        """Nobody waits any more; the fetch goes on, others may want it."""
        self._forget_waiter(waiter)
        self._unlease(waiter)

    def check_deadlines(self) -> None:
        now = time.monotonic()
        for old in [key for key, (since, _) in self._given_up.items() if now - since > FAIL_AGAIN_SECONDS]:
            del self._given_up[old]
        for waiter in [waiter for waiter in self._waiters if waiter.deadline < now]:
            reason = f"; last error: {self.last_error}" if self.last_error and self.last_error != NO_ANSWER else ""
            error = CacheError(ErrorKind.UNAVAILABLE, NO_ANSWER + reason)
            for block in waiter.remaining:
                self._given_up[(waiter.inode, block)] = (now, error)
            self._note_error(self.last_error or NO_ANSWER)
            self._complete(waiter, error)
        if self._waiting_for_room:
            self.room_was_made()


def split_runs(blocks: list[BlockIndex], longest: int) -> list[tuple[BlockIndex, int]]:
    """Return (first, count) of consecutive runs in an ascending list, none longer than `longest`."""
    runs: list[tuple[BlockIndex, int]] = []
    for block in blocks:
        if runs and block == runs[-1][0] + runs[-1][1] and runs[-1][1] < max(1, longest):
            runs[-1] = (runs[-1][0], runs[-1][1] + 1)
        else:
            runs.append((block, 1))
    return runs
