"""Reads cached blocks again in idle time, so that rot is found before a reader meets it.

One task in fetch's loop; a worker thread reads and compares. It walks the extents round and round, BATCH_BYTES a second at
most, and rests while anything is being fetched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import trio

from fusecache.base.counters import CounterPage
from fusecache.contract.errors import CacheError
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.workers import Gate, Priority
from fusecache.index.extents import BlockIndex, Extent
from fusecache.index.inodes import Inode, InodeNo
from fusecache.tiers.block_check import BlockCheck
from fusecache.tiers.block_store import BlockStore

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
        check: BlockCheck,
        is_busy: Callable[[], bool],
        forget_damaged: Callable[[InodeNo, BlockIndex], bool],
    ) -> None:
        self._store = store
        self._gate = gate
        self._counters = counters
        self._check = check
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
        found = sum(self._forget_damaged(inode, block) for inode, block, _ in damaged)
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
        return [
            (inode, block, extent)
            for inode, block, extent in blocks
            if not self._check.is_intact(extent, rows[inode].identity, block)
        ]
