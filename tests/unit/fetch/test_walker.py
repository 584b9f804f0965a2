"""The background listing of the whole tree gives way to readers."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from fusecache.fetch.walker import Walker
from fusecache.index.directories import Directory, DirectoryFlag
from fusecache.index.index import Index
from fusecache.index.inodes import InodeNo


class Cache:
    """A cache of directories 1 to 3, none of them listed."""

    def __init__(self, path: Path) -> None:
        self.index = Index(path, writable=True)
        self.tree = self.listing = self
        self.readers_are_gone = trio.Event()
        self.listed: list[InodeNo] = []
        with self.index.write() as txn:
            for inode in (1, 2, 3):
                self.index.dirs.put(txn, inode, Directory())

    async def give_way(self) -> None:
        await self.readers_are_gone.wait()

    async def complete(self, inode: InodeNo) -> None:
        self.listed.append(inode)
        with self.index.write() as txn:
            self.index.dirs.put(txn, inode, Directory(DirectoryFlag.COMPLETE))


def test_nothing_is_listed_while_a_reader_waits_for_a_listing(tmp_path: Path) -> None:
    cache = Cache(tmp_path)
    walker = Walker(cache)  # type: ignore[arg-type]  # it uses no more of it

    async def run() -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(walker.run)
            await trio.sleep(10)
            assert cache.listed == []
            cache.readers_are_gone.set()
        assert sorted(cache.listed) == [1, 2, 3]
        assert walker.complete

    trio.run(run, clock=trio.testing.MockClock(autojump_threshold=0))
    cache.index.close()
