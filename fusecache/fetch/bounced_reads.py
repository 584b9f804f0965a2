"""Reads whose bytes no tier can take: straight from the store into the bounce buffer.

Equal reads at the same time share one request of the store and one slot. When all slots are held, reads wait in line.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import trio

from fusecache.base.counters import CounterPage
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.block_jobs import fetch_into
from fusecache.fetch.bounce import SLOT_BYTES, BounceBuffer
from fusecache.fetch.peer_routes import PeerRoutes
from fusecache.fetch.sources import OpenSource, Sources
from fusecache.fetch.workers import Job
from fusecache.index.inodes import Inode, InodeNo
from fusecache.peer.client import PeerLink

Finish = Callable[[int, CacheError | None], None]


@dataclass(slots=True)
class _Read:
    inode: InodeNo
    row: Inode
    offset: int
    size: int
    deadline: float
    finishers: list[Finish] = field(default_factory=list)
    attempts: int = 0
    may_ask_peer: bool = True


class BouncedReads:
    def __init__(
        self,
        buffer: BounceBuffer,
        sources: Sources,
        nursery: trio.Nursery,
        counters: CounterPage,
        deadline_seconds: float,
        on_stale: Callable[[InodeNo, bytes], None],
        peers: PeerRoutes | None = None,
    ) -> None:
        """`on_stale` is told of an inode, and of its version that the source does not hold any more."""
        self.buffer = buffer
        self._sources = sources
        self._nursery = nursery
        self._counters = counters
        self._deadline_seconds = deadline_seconds
        self._on_stale = on_stale
        self._peers = peers
        self._reads: dict[tuple[InodeNo, int, int], _Read] = {}
        self._line: collections.deque[_Read] = collections.deque()

    def read(self, inode: InodeNo, row: Inode, offset: int, size: int, finish: Finish) -> None:
        """Call `finish(slot, None)` with a slot held once for the caller, or `finish(-1, error)`."""
        if size > SLOT_BYTES:
            finish(-1, CacheError(ErrorKind.INVALID, f"a read of {size} bytes is larger than {SLOT_BYTES}"))
            return
        key = (inode, offset, size)
        known = self._reads.get(key)
        if known is not None:
            known.finishers.append(finish)
            return
        read = _Read(inode, row, offset, size, time.monotonic() + self._deadline_seconds, [finish])
        self._reads[key] = read
        self._start(read)

    def _start(self, read: _Read) -> None:
        slot = self.buffer.take()
        if slot is None:
            self._line.append(read)
            return
        try:
            opened = self._sources.of(read.row.source)
        except CacheError as error:
            self._end(read, slot, error)
            return
        row, memory = read.row, self.buffer.memory
        peer = self._peer_of(read, opened)
        if peer is not None and self._peers is not None:
            place = (slot, read.size)
            self._peers.read(peer, row, read.offset, memory, place, lambda error: self._peer_ended(read, slot, error))
            return
        self._counters.add(Counter.REMOTE_REQUESTS)
        opened.gate.submit(
            Job(
                lambda: fetch_into(opened.source, row.path, row.version, read.offset, read.size, memory, slot),
                lambda _, error: self._arrived(read, slot, error),
                read.size,
            )
        )

    def _peer_of(self, read: _Read, opened: OpenSource) -> PeerLink | None:
        if self._peers is None or not read.may_ask_peer:
            return None
        return self._peers.link_at(read.row, read.offset, has_ranges=opened.source.capabilities.ranges)

    def _peer_ended(self, read: _Read, slot: int, error: CacheError | None) -> None:
        if error is None:
            self._counters.add(Counter.BOUNCED_BYTES, read.size)
            self._end(read, slot, None)
            return
        read.may_ask_peer = False
        if read.deadline < time.monotonic():  # nobody waits any more
            self._end(read, slot, error)
            return
        self.buffer.release(slot)
        self._start(read)

    def _arrived(self, read: _Read, slot: int, error: CacheError | None) -> None:
        if error is None:
            self._counters.add(Counter.REMOTE_BYTES, read.size)
            self._counters.add(Counter.BOUNCED_BYTES, read.size)
            self._end(read, slot, None)
            return
        self._counters.add(Counter.REMOTE_ERRORS)
        read.attempts += 1
        pause = min(2.0, 0.05 * 2**read.attempts)
        if error.is_retryable and time.monotonic() + pause < read.deadline:
            self._counters.add(Counter.REMOTE_RETRIES)
            self.buffer.release(slot)
            self._nursery.start_soon(self._again, read, pause)
            return
        if error.kind is ErrorKind.NOT_FOUND:
            error = CacheError(ErrorKind.STALE, str(error))
        if error.kind is ErrorKind.STALE:
            self._on_stale(read.inode, read.row.version)
        self._end(read, slot, error)

    async def _again(self, read: _Read, pause: float) -> None:
        await trio.sleep(pause)
        self._start(read)

    def _end(self, read: _Read, slot: int, error: CacheError | None) -> None:
        self._reads.pop((read.inode, read.offset, read.size), None)
        for finish in read.finishers:
            if error is None:
                self.buffer.hold(slot)
            finish(slot if error is None else -1, error)
        self.buffer.release(slot)

    def tick(self) -> None:
        """Slots may have become free, and deadlines may have passed."""
        now = time.monotonic()
        for read in [read for read in self._reads.values() if read.deadline < now and read not in self._line]:
            finishers, read.finishers = read.finishers, []  # the slot is given back when the store's answer comes
            for finish in finishers:
                finish(-1, CacheError(ErrorKind.UNAVAILABLE, "the store did not answer in time"))
        line, self._line = self._line, collections.deque()
        for read in line:
            if read.deadline < time.monotonic():
                self._reads.pop((read.inode, read.offset, read.size), None)
                for finish in read.finishers:
                    finish(-1, CacheError(ErrorKind.UNAVAILABLE, "no buffer became free in time"))
            else:
                self._start(read)
