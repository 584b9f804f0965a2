"""Reads cached blocks again in idle time, so that rot is found before a reader meets it.

One task in fetch's loop; a worker thread reads and compares. It walks the extents round and round, BATCH_BYTES a second at
most, and rests while anything is being fetched.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence

import trio

from fusecache.base.counters import CounterPage
from fusecache.contract.errors import CacheError
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.workers import Gate, Priority
from fusecache.index.extents import BlockIndex, Extent
from fusecache.index.inodes import Inode, InodeNo
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.checksums import damaged_granule
from fusecache.tiers.container_files import container_path

log = logging.getLogger(__name__)

BATCH_BYTES = 8 << 20  # a second: 1 % of a core, and a terabyte in a day and a half
BATCH_BLOCKS = 64

Block = tuple[InodeNo, BlockIndex, Extent]


class Scrubber:
    def __init__(
        self,
        store: BlockStore,
        gate: Gate,
        counters: CounterPage,
        granule_size: int,
        is_busy: Callable[[], bool],
        forget_damaged: Callable[[InodeNo, BlockIndex], None],
    ) -> None:
        self._store = store
        self._gate = gate
        self._counters = counters
        self._granule_size = granule_size
        self._is_busy = is_busy
        self._forget_damaged = forget_damaged
        self._next: tuple[InodeNo, BlockIndex] = (0, 0)

    async def run(self, pause_seconds: float = 1.0) -> None:
        while True:
            await trio.sleep(pause_seconds)
            if not self._is_busy():
                await self.scrub_batch()

    async def scrub_batch(self) -> int:
        """Verify the next blocks; return how many were damaged (they are forgotten and counted)."""
        blocks, rows = self._take()
        try:
            damaged = await self._gate.call(lambda: self._verify(blocks, rows), Priority.WARM)
        except CacheError as error:
            log.warning("scrubbing failed: %s", error)
            return 0
        found = 0
        for inode, block, extent in damaged:
            with self._store.index.read() as txn:
                now = self._store.index.extents.get(txn, inode, block)
            if now == extent:  # else it was moved or evicted while we looked: what we read was nobody's any more
                found += 1
                self._forget_damaged(inode, block)
        if found:
            self._counters.add(Counter.FETCH_CHECKSUM_FAILURES, found)
            log.warning("%d damaged blocks were found in idle time; they will be fetched again", found)
        return found

    def _take(self) -> tuple[list[Block], dict[InodeNo, Inode]]:
        blocks: list[Block] = []
        rows: dict[InodeNo, Inode] = {}
        size = 0
        index = self._store.index
        with index.read() as txn:
            for inode, block, extent in index.extents.iterate(txn, self._next):
                if size >= BATCH_BYTES or len(blocks) >= BATCH_BLOCKS:
                    self._next = (inode, block)
                    return blocks, rows
                row = rows.get(inode) or index.inodes.get(txn, inode)
                if row is not None:
                    rows[inode] = row
                    blocks.append((inode, block, extent))
                    size += extent.length
        self._next = (0, 0)
        return blocks, rows

    def _verify(self, blocks: Sequence[Block], rows: dict[InodeNo, Inode]) -> list[Block]:
        """In a worker thread."""
        buffer = memoryview(bytearray(self._store.block_size))
        damaged: list[Block] = []
        for inode, block, extent in blocks:
            view = buffer[: extent.length]
            offset = block * self._store.block_size
            if not self._read(extent, view) or (
                damaged_granule(view, extent.checksums, rows[inode].identity, offset, self._granule_size, 0) is not None
            ):
                damaged.append((inode, block, extent))
        return damaged

    def _read(self, extent: Extent, view: memoryview) -> bool:
        try:
            fd = os.open(
                container_path(self._store.tiers[extent.tier].path, extent.container), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW
            )
        except OSError:
            return False
        try:
            return os.preadv(fd, [view], extent.offset) == extent.length
        except OSError:
            return False
        finally:
            os.close(fd)
