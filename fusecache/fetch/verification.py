"""Verifies whole-file containers before the kernel may read them on its own (passthrough).

A container is trusted while its file's ctime is the one noted when fetch itself wrote the last byte, or verified them all.
serve checks that at OPEN.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from fusecache.base.counters import CounterPage
from fusecache.contract.errors import CacheError
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.workers import Gate, Job, Priority
from fusecache.index.containers import Container, ContainerKind
from fusecache.index.extents import BlockIndex, Extent
from fusecache.index.inodes import Inode, InodeNo
from fusecache.tiers.block_check import BlockCheck
from fusecache.tiers.block_store import BlockStore

log = logging.getLogger(__name__)


class Verification:
    def __init__(
        self,
        store: BlockStore,
        gate: Gate,
        counters: CounterPage,
        check: BlockCheck,
        forget_damaged: Callable[[InodeNo, BlockIndex], bool],
    ) -> None:
        self._store = store
        self._gate = gate
        self._counters = counters
        self._check = check
        self._forget_damaged = forget_damaged
        self._under_way: set[int] = set()

    def note_open(self, inode: InodeNo, row: Inode) -> None:
        """A file was opened and could not be handed over: if its container is complete but not trusted, verify it now."""
        if not self._store.keep_whole or row.size <= self._store.block_size:
            return
        index = self._store.index
        with index.read() as txn:
            extents = list(index.extents.of_inode(txn, inode))
            if not extents:
                return
            number = extents[0][1].container
            container = index.containers.get(txn, number)
        if container is None or container.kind != ContainerKind.WHOLE_FILE or container.live_bytes != container.end:
            return
        if number in self._under_way or any(extent.container != number for _, extent in extents):
            return
        try:
            if container.written_ns and self._store.tiers[container.tier].changed_ns(number) == container.written_ns:
                return
        except OSError:
            pass
        self._under_way.add(number)

        def done(result: tuple[int, list[BlockIndex]] | None, error: CacheError | None) -> None:
            self._under_way.discard(number)
            if result is not None:
                self._conclude(inode, number, *result)

        self._gate.submit(Job(lambda: self._verify(container, number, row, extents), done, priority=Priority.WARM))

    def _verify(
        self, container: Container, number: int, row: Inode, extents: list[tuple[BlockIndex, Extent]]
    ) -> tuple[int, list[BlockIndex]]:
        """In a worker thread. Return the ctime before reading (0: there is no file), and the damaged blocks."""
        try:
            changed_ns = self._store.tiers[container.tier].changed_ns(number)
        except OSError:
            changed_ns = 0
        return changed_ns, [block for block, extent in extents if not self._check.is_intact(extent, row.identity, block)]

    def _conclude(self, inode: InodeNo, number: int, changed_ns: int, damaged: list[BlockIndex]) -> None:
        if damaged:
            forgotten = sum(self._forget_damaged(inode, block) for block in damaged)
            self._counters.add(Counter.FETCH_CHECKSUM_FAILURES, forgotten)
            log.warning("inode %d: %d damaged blocks found before hand-over; they are fetched again", inode, forgotten)
            return
        index = self._store.index
        with index.write() as txn:
            container = index.containers.get(txn, number)
            if container is not None and container.live_bytes == container.end:
                index.containers.put(txn, number, container._replace(written_ns=changed_ns))
