"""Puts what was written into the tiers as the new version, without reading it back from the store.

Holds no state; a task of fetch's loop for each file. What finds no room is left out: it is a miss then, as anything else.
"""

from __future__ import annotations

import functools
import logging
import os

from fusecache.contract.errors import CacheError
from fusecache.fetch.block_jobs import TierWriteError, write_all
from fusecache.fetch.workers import Gate, Priority
from fusecache.index.environment import NoSpaceError
from fusecache.index.inodes import Inode, InodeNo
from fusecache.tiers.block_store import BlockStore, Place, Written
from fusecache.tiers.checksums import block_checksums
from fusecache.tiers.stage import Stage

log = logging.getLogger(__name__)

BATCH_BYTES = 16 << 20
AT_ONCE_BYTES = 256 << 10  # not worth a thread


class WriteCaching:
    def __init__(self, store: BlockStore, gate: Gate, granule_size: int) -> None:
        self._store = store
        self._gate = gate
        self._granule_size = granule_size

    async def keep(self, inode: InodeNo, row: Inode, stage: Stage) -> None:
        """Copy the blocks of a version that lie whole in the stage."""
        block_size = self._store.block_size
        blocks = -(-row.size // block_size)
        step = max(1, BATCH_BYTES // block_size)
        for first in range(0, blocks, step):
            wanted = [
                block
                for block in range(first, min(blocks, first + step))
                if all(run.is_new for run in stage.runs(block * block_size, block_size))
            ]
            if wanted and not await self._keep(inode, row, stage, wanted):
                return

    async def _keep(self, inode: InodeNo, row: Inode, stage: Stage, blocks: list[int]) -> bool:
        places: list[tuple[int, Place]] = []
        for block in blocks:
            place = self._store.reserve(inode, row, block)
            if place is None:
                break
            places.append((block, place))
        try:
            copy = functools.partial(self._copy, inode, row, stage, places)
            is_small = sum(place.length for _, place in places) <= AT_ONCE_BYTES
            written = copy() if is_small else await self._gate.call(copy, Priority.DEMAND)
            self._store.commit(written, {inode: row.size})
        except (CacheError, NoSpaceError) as error:
            if isinstance(error, TierWriteError):
                self._store.tiers[error.tier].note_failure(error.os_error)
            log.info("what was written is not cached: %s", error)
            for _, place in places:
                self._store.release(place)
            return False
        return len(places) == len(blocks)

    def _copy(self, inode: InodeNo, row: Inode, stage: Stage, places: list[tuple[int, Place]]) -> list[Written]:
        """In a worker thread."""
        written = []
        for block, place in places:
            start = block * self._store.block_size
            data = os.pread(stage.fd, place.length, start)
            checksums = block_checksums(memoryview(data), row.identity, start, self._granule_size)
            write_all(place, memoryview(data))
            written.append(Written(inode, block, place, checksums, 0))
        return written
