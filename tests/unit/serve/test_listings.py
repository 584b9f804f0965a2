"""opendir and readdir: stable offsets, listings that grow, and when the kernel may keep its copy."""

from __future__ import annotations

import stat

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import Op
from fusecache.fuse.filesystem_protocol import ROOT_INODE, DirectoryEntry, Miss
from fusecache.index.directories import DirectoryFlag
from fusecache.index.inodes import InodeFlag
from tests.unit.serve.conftest import Served

TTL = 60.0


def names_of(served: Served, inode: int, count: int = 3, plus: bool = False) -> list[bytes]:
    """Read a whole directory, `count` entries at a time, as the kernel does."""
    return [entry.name for entry in entries_of(served, inode, count, plus)]


def entries_of(served: Served, inode: int, count: int, plus: bool) -> list[DirectoryEntry]:
    found: list[DirectoryEntry] = []
    offset = 0
    while True:
        part = served.fs.readdir(inode, offset, count, plus)
        if not part.entries:
            return found
        assert len(part.entries) <= count
        found += part.entries
        offset = part.entries[-1].offset


@pytest.mark.parametrize("count", [1, 2, 3, 100])
@pytest.mark.parametrize("plus", [False, True])
def test_a_whole_directory(served: Served, count: int, plus: bool) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d")
    names = [b"%d" % number for number in range(10)]
    for name in names:
        served.cache.file(directory, name, b"x")
    assert names_of(served, directory, count, plus) == [b".", b"..", *names]


def test_an_empty_directory(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d")
    assert names_of(served, directory) == [b".", b".."]


def test_entries_say_what_they_are(served: Served) -> None:
    outer = served.cache.directory(ROOT_INODE, b"outer")
    inner = served.cache.directory(outer, b"inner")
    file = served.cache.file(outer, b"file", b"abc")
    link = served.cache.symlink(outer, b"link", b"file")
    inexact = served.cache.file(outer, b"inexact", b"", flags=InodeFlag.NEEDS_STAT)
    by_name = served.cache.file(outer, b"by name", b"", flags=InodeFlag.CHECK_BY_NAME)
    entries = {entry.name: entry for entry in entries_of(served, outer, 100, True)}
    assert {name: (entry.inode, entry.kind_mode) for name, entry in entries.items()} == {
        b".": (outer, stat.S_IFDIR),
        b"..": (ROOT_INODE, stat.S_IFDIR),
        b"inner": (inner, stat.S_IFDIR),
        b"file": (file.inode, stat.S_IFREG),
        b"link": (link, stat.S_IFLNK),
        b"inexact": (inexact.inode, stat.S_IFREG),
        b"by name": (by_name.inode, stat.S_IFREG),
    }
    assert entries[b"inexact"].attributes is None
    assert entries[b"by name"].attributes is None
    assert entries[b"file"].attributes == served.fs.getattr(file.inode)[0]
    assert all(entry.attributes is None for entry in entries_of(served, outer, 100, False))


def test_offsets_are_stable_while_names_come_and_go(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d")
    for number in range(6):
        served.cache.file(directory, b"%d" % number, b"x")
    first = served.fs.readdir(directory, 0, 5, False).entries
    assert [entry.name for entry in first] == [b".", b"..", b"0", b"1", b"2"]
    served.cache.remove_name(directory, b"1")
    served.cache.remove_name(directory, b"4")
    served.cache.file(directory, b"new", b"x")
    rest = served.fs.readdir(directory, first[-1].offset, 100, False).entries
    assert [entry.name for entry in rest] == [b"3", b"5", b"new"]


def test_a_listing_that_grows_is_shown_as_far_as_it_is_known(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d", complete=False)
    with pytest.raises(Miss) as caught:
        served.fs.readdir(directory, 0, 10, False)
    assert (caught.value.op, caught.value.inode, caught.value.offset) == (Op.LIST, directory, 0)
    served.cache.file(directory, b"a", b"x")  # fetch's first page
    first = served.fs.readdir(directory, 0, 10, False)
    assert [entry.name for entry in first.entries] == [b".", b"..", b"a"]
    last = first.entries[-1].offset
    with pytest.raises(Miss) as caught:
        served.fs.readdir(directory, last, 10, False)
    assert (caught.value.op, caught.value.inode, caught.value.offset) == (Op.LIST, directory, last)
    served.cache.file(directory, b"b", b"x")
    assert [entry.name for entry in served.fs.readdir(directory, last, 10, False).entries] == [b"b"]
    served.cache.change_directory(directory, flags=DirectoryFlag.COMPLETE, listed_at=served.now)
    assert not served.fs.readdir(directory, last + 1, 10, False).entries


def test_an_empty_first_page_is_no_end(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d", complete=False)
    with pytest.raises(Miss):
        served.fs.readdir(directory, 0, 10, False)
    dots = served.fs.readdir(directory, 0, 10, False).entries
    assert [entry.name for entry in dots] == [b".", b".."]
    with pytest.raises(Miss) as caught:
        served.fs.readdir(directory, dots[-1].offset, 10, False)
    assert caught.value.offset == 2


def test_a_stale_listing_is_asked_for_once(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d")
    served.cache.file(directory, b"a", b"x")
    served.now += TTL
    with pytest.raises(Miss) as caught:
        served.fs.readdir(directory, 0, 10, False)
    assert (caught.value.op, caught.value.offset) == (Op.LIST, 0)
    served.cache.file(directory, b"b", b"x")
    served.cache.change_directory(directory, listed_at=served.now)
    part = served.fs.readdir(directory, 0, 10, False)
    assert [entry.name for entry in part.entries] == [b".", b"..", b"a", b"b"]
    assert part.entry_ttl_seconds == TTL
    served.now += TTL  # who is in the middle of it reads on
    assert [entry.name for entry in served.fs.readdir(directory, part.entries[2].offset, 10, False).entries] == [b"b"]


def test_a_listing_that_takes_longer_than_the_ttl_is_shown(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d", listed_at=served.now - 1000)
    with pytest.raises(Miss):
        served.fs.readdir(directory, 0, 10, False)
    served.cache.change_directory(directory, listing_pass=2, listed_at=served.now + 0.1)
    served.now += TTL * 2
    part = served.fs.readdir(directory, 0, 10, False)
    assert [entry.name for entry in part.entries] == [b".", b".."]
    assert part.entry_ttl_seconds == 0.0


def test_directories_that_are_none(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", b"x")
    for call in (lambda: served.fs.readdir(file.inode, 0, 10, False), lambda: served.fs.opendir(file.inode)):
        with pytest.raises(CacheError) as caught:
            call()
        assert caught.value.kind is ErrorKind.NOT_A_DIRECTORY


def test_a_million_is_not_answered_at_once(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d")
    with served.cache.index.write() as txn:
        for number in range(5000):
            served.cache.add_name(txn, directory, b"%d" % number, served.cache.new_inode(), 1)
    assert len(served.fs.readdir(directory, 0, 10**6, False).entries) == 4096


def test_the_kernel_keeps_its_copy_only_while_nothing_changed(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d")
    assert not served.fs.opendir(directory)  # this process has seen nothing yet
    assert served.fs.opendir(directory)
    served.cache.file(directory, b"a", b"x")
    assert not served.fs.opendir(directory)
    assert served.fs.opendir(directory)
    assert not served.reopen().opendir(directory)  # another process


def test_opendir_asks_when_the_listing_is_stale(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d")
    served.fs.opendir(directory)
    served.now += TTL
    with pytest.raises(Miss) as caught:
        served.fs.opendir(directory)
    assert (caught.value.op, caught.value.inode, caught.value.offset) == (Op.LIST, directory, 0)
    served.cache.change_directory(directory, listed_at=served.now)
    assert served.fs.opendir(directory)


def test_opendir_waits_for_no_first_listing(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d", complete=False)
    assert not served.fs.opendir(directory)
    assert not served.fs.opendir(directory)
