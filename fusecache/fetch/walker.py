"""Lists the whole tree in the background, so that the totals are known and first lookups hit.

Directories still to list are found by scanning the `dirs` table: no queue in memory however many there are. Where listings do not
tell exact sizes (web sites), files are asked about one by one afterwards.
"""

from __future__ import annotations

import trio

from fusecache.contract.errors import CacheError
from fusecache.fetch.cache import Cache
from fusecache.index.directories import DirectoryFlag
from fusecache.index.inodes import InodeNo

PARALLEL = 4  # directories at once: listing is latency, and readers' own listings go first
SCAN = 10_000  # rows looked at in one go between checkpoints
START_AFTER_SECONDS = 0.25  # what a program asks for right after the mount comes first
PAUSE_AFTER_ERROR_SECONDS = 10.0
NAMES = 1_000  # of a directory, looked at in one go for inexact sizes
STATS = 32  # asked for in one go


class Walker:
    def __init__(self, cache: Cache) -> None:
        self._cache = cache
        self.complete = False

    async def run(self) -> None:
        failed = False
        while True:
            found = await self._round()
            if found == 0 and await self._make_exact():
                self.complete = True
                return
            if found <= 0:
                failed = True
            if failed:
                await trio.sleep(PAUSE_AFTER_ERROR_SECONDS)
                failed = False

    async def _round(self) -> int:
        """List what is incomplete now. Return how many there were; -1 if one of them failed."""
        limiter = trio.CapacityLimiter(PARALLEL)
        found = 0
        failures: list[InodeNo] = []
        start = 0
        async with trio.open_nursery() as nursery:
            while True:
                batch, start = self._incomplete(start)
                for inode in batch:
                    found += 1
                    await limiter.acquire_on_behalf_of(inode)
                    nursery.start_soon(self._list, inode, limiter, failures)
                if not start:
                    break
                await trio.lowlevel.checkpoint()
        return -1 if failures else found

    def _incomplete(self, start: InodeNo) -> tuple[list[InodeNo], InodeNo]:
        """Return incomplete directories from `start` on, and where to go on (0: at the end)."""
        found: list[InodeNo] = []
        with self._cache.index.read() as txn:
            for scanned, (inode, row) in enumerate(self._cache.index.dirs.iterate(txn, start)):
                if scanned >= SCAN or len(found) >= 256:
                    return found, inode
                if not row.flags & (DirectoryFlag.COMPLETE | DirectoryFlag.SYNTHETIC):
                    found.append(inode)
        return found, 0

    async def _make_exact(self) -> bool:
        """Ask for the size of each file of which a listing did not tell it. Return False if the source does not answer."""
        inode = 0
        while True:
            with self._cache.index.read() as txn:
                found = next(self._cache.index.dirs.iterate(txn, inode + 1), None)
            if found is None:
                return True
            inode = found[0]
            try:
                await self._make_names_exact(inode)
            except CacheError:
                if self._cache.tree.directory(inode) is not None:
                    return False

    async def _make_names_exact(self, directory: InodeNo) -> None:
        """Raises: UNAVAILABLE, STALE."""
        seq = 0
        while True:
            inexact, seq = self._cache.tree.inexact_names(directory, seq, NAMES)
            for first in range(0, len(inexact), STATS):
                await self._cache.listing.give_way()
                await self._cache.listing.make_names_exact(directory, inexact[first : first + STATS])
            if not seq:
                return
            await trio.lowlevel.checkpoint()

    async def _list(self, inode: InodeNo, limiter: trio.CapacityLimiter, failures: list[InodeNo]) -> None:
        try:
            await self._cache.listing.give_way()
            await self._cache.listing.complete(inode)
        except CacheError:
            if self._cache.tree.directory(inode) is not None:
                failures.append(inode)
        finally:
            limiter.release_on_behalf_of(inode)
