"""The background listing of the whole tree gives way to readers."""

from __future__ import annotations

from pathlib import Path

import trio
import trio.testing

from fusecache.fetch.walker import Walker
from fusecache.index.directories import Directory, DirectoryFlag
from fusecache.index.index import Index
from fusecache.index.inodes import InodeNo
from tests.support.fake_source import FakeSource
from tests.support.fetch_harness import fetching


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

    def inexact_names(self, parent: InodeNo, after_seq: int, count: int) -> tuple[list[bytes], int]:
        return [], 0

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


def test_the_total_is_known_where_listings_tell_no_exact_sizes(tmp_path: Path) -> None:
    """A Dataset of a web site showed 0 bytes until somebody had looked at each file."""
    source = FakeSource(needs_stat=True)
    for name in ("a", "below/b", "below/further/c"):
        source.put(name, name.encode() * 33)
    with fetching(tmp_path, source, rate=50.0) as (harness, _):
        source.fail(3, method="stat")
        walker = Walker(harness.cache)
        harness.call(walker.run)
        assert walker.complete
        assert harness.call_sync(lambda: harness.cache.tree.total_bytes) == 33 * len("a" + "below/b" + "below/further/c")
