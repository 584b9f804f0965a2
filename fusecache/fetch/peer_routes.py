"""What this node asks of others: which blocks of whom, through which gate, and what became of it.

Runs in the event loop; requests block in worker threads. Whatever a peer does not give is asked of the store, by whoever asked
here.
"""

from __future__ import annotations

import functools
import logging
import mmap
from collections.abc import Callable, Iterator

from fusecache.base.counters import CounterPage
from fusecache.contract.errors import CacheError
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.block_jobs import Checksums, Range, stream_blocks
from fusecache.fetch.buffer_pool import BufferPool
from fusecache.fetch.workers import Gate, Job, Priority, Workers
from fusecache.index.extents import BlockIndex
from fusecache.index.inodes import Inode
from fusecache.peer.client import PeerLink
from fusecache.peer.errors import PeerFault
from fusecache.peer.membership import Membership
from fusecache.peer.ring import GROUP_BLOCKS
from fusecache.peer.wire import MAX_RANGE_BYTES, RangeRequest

log = logging.getLogger(__name__)

REQUESTS = 12  # at all peers at once, each with a thread; other threads are left for the stores

Arrive = Callable[[list[tuple[int, Checksums]]], None]
Ended = Callable[[CacheError | None], None]


class PeerRoutes:
    def __init__(
        self,
        membership: Membership,
        workers: Workers,
        buffers: BufferPool,
        counters: CounterPage,
        block_size: int,
        granule_size: int,
        memory_bytes: int,
    ) -> None:
        self._membership = membership
        self._workers = workers
        self._buffers = buffers
        self._counters = counters
        self._block_size = block_size
        self._granule_size = granule_size
        self._gate = Gate(workers, REQUESTS, memory_bytes)

    def link(self, row: Inode, block: BlockIndex, *, has_ranges: bool = True) -> PeerLink | None:
        """Return who is to be asked for a block, None for the store. `has_ranges`: else an object has one owner, as the store
        gives it as a whole only."""
        if not has_ranges and row.size > MAX_RANGE_BYTES:
            return None
        return self._membership.link(row.identity, block if has_ranges else 0)

    def link_at(self, row: Inode, offset: int, *, has_ranges: bool) -> PeerLink | None:
        return self.link(row, offset // self._block_size, has_ranges=has_ranges)

    def split(self, row: Inode, first: BlockIndex, count: int) -> Iterator[tuple[BlockIndex, int, PeerLink | None]]:
        """Yield (first, count, who is to be asked) of parts of a range that have one owner each."""
        begin, end = first, first + count
        owner = self.link(row, first)
        most = MAX_RANGE_BYTES // self._block_size
        for block in range(first - first % GROUP_BLOCKS + GROUP_BLOCKS, end, GROUP_BLOCKS):
            next_owner = self.link(row, block)
            if next_owner is not owner or (owner is not None and block + GROUP_BLOCKS - begin > most):
                yield begin, block - begin, owner
                begin, owner = block, next_owner
        yield begin, end - begin, owner

    def fetch(self, link: PeerLink, row: Inode, wanted: Range, priority: Priority, arrive: Arrive, ended: Ended) -> None:
        """Ask for blocks and write them to their places, as block_jobs.stream_range does, with two blocks of memory.

        `arrive` and `ended` are called in the loop."""
        request = _request(row, wanted.offset, wanted.length, priority)

        def run() -> int:
            had = 0

            def read_through(buffer: memoryview, take: Callable[[memoryview], None]) -> None:
                nonlocal had
                had = link.read_through(request, buffer, take)

            stream_blocks(read_through, wanted, self._granule_size, self._block_size, self._buffers, announce)
            return had

        def announce(blocks: list[tuple[int, Checksums]]) -> None:
            self._workers.post(functools.partial(arrive, blocks))

        self._submit(link, Job(run, lambda had, error: self._note(link, had, error, ended), 2 * self._block_size, priority))

    def read(self, link: PeerLink, row: Inode, offset: int, memory: mmap.mmap, place: tuple[int, int], ended: Ended) -> None:
        """Ask for bytes that no tier of ours can take. `place`: where in `memory` they go, and how many they are."""
        at, size = place
        request = _request(row, offset, size, Priority.DEMAND)

        def run() -> int:
            with memoryview(memory) as whole, whole[at : at + size] as target:
                return link.read_into(request, target)

        def done(had: int | None, error: CacheError | None) -> None:
            if error is None:
                self._counters.add(Counter.PEER_BYTES, size)
                had = size if had else 0  # not what was sent for the sake of whole granules
            self._note(link, had, error, ended)

        self._submit(link, Job(run, done, size + self._block_size))

    def _submit(self, link: PeerLink, job: Job) -> None:
        self._counters.add(Counter.PEER_REQUESTS)
        self._gate.submit(job)

    def _note(self, link: PeerLink, had: int | None, error: CacheError | None, ended: Ended) -> None:
        if error is None:
            self._counters.add(Counter.PEER_HIT_BYTES, had or 0)
        else:
            self._counters.add(Counter.PEER_ERRORS)
            if isinstance(error, PeerFault):
                log.info("node %s is left alone for a while: %s", link.card.node, error)
            else:
                log.debug("%s", error)
        ended(error)


def _request(row: Inode, offset: int, length: int, priority: Priority) -> RangeRequest:
    return RangeRequest(int(priority), row.source, row.identity, row.size, offset, length, row.path, row.version)
