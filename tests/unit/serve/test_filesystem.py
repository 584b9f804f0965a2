"""Names, attributes and the small operations."""

from __future__ import annotations

import os
import stat
from typing import Any

import pytest

from fusecache.contract import messages
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import Answer, Op, Request
from fusecache.contract.mount_spec import Access, Verify
from fusecache.fuse.filesystem_protocol import ROOT_INODE, Miss
from fusecache.index.directories import DirectoryFlag
from fusecache.index.inodes import EPOCH_SHIFT, InodeFlag
from fusecache.index.writes import WriteRow
from fusecache.serve.attributes import DIRECTORY, FILE, SYMLINK
from fusecache.source.protocol import EntryKind
from fusecache.tiers.stage import Stage
from tests.support.cache_builder import EPOCH, content
from tests.unit.serve.conftest import Served

TTL = 60.0


def kind_of(call: Any, *arguments: Any) -> ErrorKind:
    with pytest.raises(CacheError) as caught:
        call(*arguments)
    return caught.value.kind


def miss_of(call: Any, *arguments: Any) -> tuple[Op, int, bytes]:
    with pytest.raises(Miss) as caught:
        call(*arguments)
    return caught.value.op, caught.value.inode, caught.value.name


def test_the_kinds_are_those_of_sources() -> None:
    assert (FILE, DIRECTORY, SYMLINK) == (EntryKind.FILE, EntryKind.DIRECTORY, EntryKind.SYMLINK)


def test_lookup_of_a_fresh_name(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", b"abc")
    served.now += 20
    answer = served.fs.lookup(ROOT_INODE, b"f")
    assert answer.attributes is not None
    assert answer.attributes.inode == file.inode
    assert answer.entry_ttl_seconds == TTL - 20  # the kernel must not keep a name longer than the mount promises
    assert answer.attributes_ttl_seconds == TTL


def test_lookup_of_nothing_is_negative_for_a_short_time(served: Served) -> None:
    answer = served.fs.lookup(ROOT_INODE, b"nothing")
    assert answer.attributes is None
    assert answer.entry_ttl_seconds == served.cache.spec.negative_ttl_seconds
    served.now += TTL - 0.25
    assert served.fs.lookup(ROOT_INODE, b"nothing").entry_ttl_seconds == 0.25


@pytest.mark.parametrize("name", [b"f", b"nothing"])
def test_lookup_misses_after_the_ttl_and_hits_after_the_answer(served: Served, name: bytes) -> None:
    served.cache.file(ROOT_INODE, b"f", b"abc")
    served.now += TTL
    assert miss_of(served.fs.lookup, ROOT_INODE, name) == (Op.LOOKUP, ROOT_INODE, name)
    served.cache.change_directory(ROOT_INODE, listed_at=served.now + 0.1)
    served.now += 0.2
    assert (served.fs.lookup(ROOT_INODE, name).attributes is None) == (name == b"nothing")


@pytest.mark.parametrize("ttl", [0.0, 0.5])
def test_a_ttl_shorter_than_the_question_takes_does_not_loop(served: Served, ttl: float) -> None:
    served.reopen(ttl_seconds=ttl)
    served.cache.file(ROOT_INODE, b"f", b"abc")
    served.now += 100.3
    for _ in range(3):  # every new question is asked anew
        miss_of(served.fs.lookup, ROOT_INODE, b"f")
        served.cache.change_directory(ROOT_INODE, listed_at=served.now + 0.01)
        served.now += 5
        answer = served.fs.lookup(ROOT_INODE, b"f")
        assert answer.attributes is not None
        assert answer.entry_ttl_seconds == 0.0


def test_a_check_of_the_name_alone_counts(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d", complete=False)
    file = served.cache.file(directory, b"f", b"abc", checked_at=int(served.now) - 10)
    answer = served.fs.lookup(directory, b"f")
    assert answer.attributes is not None
    assert answer.attributes.inode == file.inode
    assert answer.entry_ttl_seconds == TTL - 10
    served.now += TTL
    assert miss_of(served.fs.lookup, directory, b"f") == (Op.LOOKUP, directory, b"f")


def test_an_incomplete_directory_never_says_no(served: Served) -> None:
    directory = served.cache.directory(ROOT_INODE, b"d", complete=False)
    for _ in range(20):
        assert miss_of(served.fs.lookup, directory, b"f") == (Op.LOOKUP, directory, b"f")


def test_an_inexact_listing_does_not_vouch_for_its_names(served: Served) -> None:
    served.cache.file(ROOT_INODE, b"f", b"abc", flags=InodeFlag.CHECK_BY_NAME)
    assert miss_of(served.fs.lookup, ROOT_INODE, b"f") == (Op.LOOKUP, ROOT_INODE, b"f")
    served.cache.file(ROOT_INODE, b"f", b"abc", flags=InodeFlag.CHECK_BY_NAME, checked_at=int(served.now))
    assert served.fs.lookup(ROOT_INODE, b"f").attributes is not None


def test_a_clock_that_was_set_back_keeps_nothing_for_ever(served: Served) -> None:
    served.cache.file(ROOT_INODE, b"f", b"abc")
    served.now -= 3600
    assert miss_of(served.fs.lookup, ROOT_INODE, b"f")[0] is Op.LOOKUP


def test_a_fetch_that_breaks_its_promise_ends_with_an_answer(served: Served) -> None:
    served.cache.file(ROOT_INODE, b"f", b"abc")
    served.now += 1000
    rounds = 0
    while True:
        try:
            answer = served.fs.lookup(ROOT_INODE, b"f")
            break
        except Miss:
            rounds += 1
    assert 2 <= rounds <= 8
    assert answer.attributes is not None


def test_directories_of_the_spec_are_never_stale(served: Served) -> None:
    places = served.cache.directory(ROOT_INODE, b"places", flags=DirectoryFlag.SYNTHETIC)
    inner = served.cache.directory(places, b"s3", complete=False)
    served.now += 10**6
    answer = served.fs.lookup(places, b"s3")
    assert answer.attributes is not None
    assert answer.attributes.inode == inner
    assert served.fs.lookup(places, b"other").attributes is None


def test_an_inexact_inode_is_asked_for(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", b"abc", flags=InodeFlag.NEEDS_STAT)
    for call, arguments in (
        (served.fs.lookup, (ROOT_INODE, b"f")),
        (served.fs.getattr, (file.inode,)),
        (served.fs.read, (file.inode, 0, 1)),
    ):
        assert miss_of(call, *arguments) == (Op.ATTRIBUTES, file.inode, b"")


@pytest.mark.parametrize("name", [b"a\nb", b"\xff\xfe", b"x" * 255, b"\x01", b" ", b"-rf", b"\xe4\xbd\xa0"])
def test_odd_names(served: Served, name: bytes) -> None:
    file = served.cache.file(ROOT_INODE, name, b"abc")
    found = served.fs.lookup(ROOT_INODE, name).attributes
    assert found is not None
    assert found.inode == file.inode


@pytest.mark.parametrize("name", [b"", b"a/b", b"a\0", b"/etc/passwd"])
def test_names_that_cannot_be_do_not_exist(served: Served, name: bytes) -> None:
    assert served.fs.lookup(ROOT_INODE, name).attributes is None


def test_lookup_refuses(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", b"abc")
    assert kind_of(served.fs.lookup, ROOT_INODE, b"x" * 256) is ErrorKind.NAME_TOO_LONG
    assert kind_of(served.fs.lookup, file.inode, b"x") is ErrorKind.NOT_A_DIRECTORY


def test_dots(served: Served) -> None:
    outer = served.cache.directory(ROOT_INODE, b"outer")
    inner = served.cache.directory(outer, b"inner")
    for inode, name, expected in ((inner, b".", inner), (inner, b"..", outer), (ROOT_INODE, b"..", ROOT_INODE)):
        found = served.fs.lookup(inode, name).attributes
        assert found is not None
        assert found.inode == expected


def test_inodes_of_an_older_epoch_are_stale(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", b"abc")
    older = file.inode - (1 << EPOCH_SHIFT)
    assert older >> EPOCH_SHIFT == EPOCH - 1
    fs = served.fs
    for call, arguments in (
        (fs.getattr, (older,)),
        (fs.read, (older, 0, 1)),
        (fs.open, (older, os.O_RDONLY)),
        (fs.lookup, (older, b"f")),
        (fs.opendir, (older,)),
        (fs.readdir, (older, 0, 10, True)),
        (fs.readlink, (older,)),
        (fs.getxattr, (older, b"user.fusecache.version")),
        (fs.listxattr, (older,)),
    ):
        assert kind_of(call, *arguments) is ErrorKind.STALE


def test_attributes(served: Served) -> None:
    cache = served.cache
    served.reopen(uid=7, gid=8, file_mode=0o440, dir_mode=0o550)
    plain = cache.file(ROOT_INODE, b"plain", b"x" * 1000)
    own = cache.file(ROOT_INODE, b"own", b"", mode=0o4755, uid=1, gid=2, nlink=3, ctime_ns=5)
    link = cache.symlink(ROOT_INODE, b"link", b"plain")
    attributes, ttl = served.fs.getattr(plain.inode)
    assert ttl == TTL
    assert (attributes.mode, attributes.size, attributes.nlink) == (stat.S_IFREG | 0o440, 1000, 1)
    assert (attributes.uid, attributes.gid, attributes.blocks) == (7, 8, 2)
    assert attributes.mtime_ns == attributes.ctime_ns == plain.row.mtime_ns
    attributes, _ = served.fs.getattr(own.inode)
    assert (attributes.mode, attributes.uid, attributes.gid) == (stat.S_IFREG | 0o4755, 1, 2)
    assert (attributes.nlink, attributes.ctime_ns) == (3, 5)
    assert served.fs.getattr(link)[0].mode == stat.S_IFLNK | 0o777
    attributes, _ = served.fs.getattr(ROOT_INODE)
    assert (attributes.mode, attributes.nlink) == (stat.S_IFDIR | 0o550, 2)
    served.reopen(uid=7, gid=8, override_owner=True)
    assert served.fs.getattr(own.inode)[0].uid == 7


def test_readlink(served: Served) -> None:
    link = served.cache.symlink(ROOT_INODE, b"l", b"../a/\xff")
    assert served.fs.readlink(link) == b"../a/\xff"
    assert kind_of(served.fs.readlink, ROOT_INODE) is ErrorKind.INVALID


def test_statfs_shows_the_data_and_what_the_tiers_can_take(served: Served) -> None:
    served.cache.file(ROOT_INODE, b"f", content("f", 10_000))
    answer = served.fs.statfs()
    assert answer.files == 1
    assert answer.blocks - answer.blocks_free == 3
    assert answer.blocks_free == ((1 << 30) + (1 << 20)) // 4096 - 157  # 157 blocks of 64 bytes, each on a page of its own


def test_xattrs(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", content("f", 200), version=b"\xffetag", cached=False)
    served.cache.cache(file, blocks=range(1, 3))
    fs = served.fs
    assert fs.getxattr(file.inode, b"user.fusecache.version") == b"\xffetag"
    assert fs.getxattr(file.inode, b"user.fusecache.source") == b"s3://bucket/data/f"
    assert fs.getxattr(file.inode, b"user.fusecache.cached_bytes") == b"128"
    assert set(fs.listxattr(file.inode)) == {b"user.fusecache.version", b"user.fusecache.source", b"user.fusecache.cached_bytes"}
    assert fs.getxattr(ROOT_INODE, b"user.fusecache.source") == b"s3://bucket/data"
    assert list(fs.listxattr(ROOT_INODE)) == [b"user.fusecache.source"]
    for inode, name in (
        (ROOT_INODE, b"user.fusecache.version"),
        (file.inode, b"security.capability"),
        (file.inode, b"system.posix_acl_access"),
        (file.inode, b"user.other"),
    ):
        assert kind_of(fs.getxattr, inode, name) is ErrorKind.NO_ATTRIBUTE


@pytest.mark.parametrize("flags", [os.O_WRONLY, os.O_RDWR, os.O_TRUNC, os.O_CREAT, os.O_RDONLY | os.O_APPEND])
def test_open_for_writing_is_refused(served: Served, flags: int) -> None:
    file = served.cache.file(ROOT_INODE, b"f", b"abc")
    assert kind_of(served.fs.open, file.inode, flags) is ErrorKind.READ_ONLY


def test_open_refuses_what_is_no_file(served: Served) -> None:
    assert kind_of(served.fs.open, ROOT_INODE, os.O_RDONLY) is ErrorKind.IS_A_DIRECTORY


def test_open_tells_fetch_of_large_files_once(served: Served) -> None:
    large = served.cache.file(ROOT_INODE, b"large", content("l", 65))
    small = served.cache.file(ROOT_INODE, b"small", content("s", 64))
    for _ in range(5):
        assert served.fs.open(large.inode, os.O_RDONLY | os.O_DIRECT).container_fd == -1
        assert served.fs.open(small.inode, os.O_RDONLY).container_fd == -1
    assert served.misses.told_of(Op.OPENED) == [(large.inode, 0)]


def test_passthrough_hands_out_a_complete_verified_container(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", content("f", 200))
    served.reopen(Access.PASSTHROUGH)
    fd = served.fs.open(file.inode, os.O_RDONLY).container_fd
    assert fd >= 0
    try:
        assert os.pread(fd, 1000, 0) == file.data
    finally:
        os.close(fd)
    assert all(served.cache.marks.is_set(served.cache.extent(file.inode, block).order) for block in range(4))


@pytest.mark.parametrize(
    "why", ["incomplete", "in a segment", "touched", "grown", "never verified", "verify always", "removed", "empty", "open-less"]
)
def test_passthrough_hands_out_nothing_else(served: Served, why: str) -> None:
    data = {"in a segment": content("f", 50), "empty": b""}.get(why, content("f", 200))
    file = served.cache.file(ROOT_INODE, b"f", data, cached=False)
    served.cache.cache(file, blocks=range(3) if why == "incomplete" else None)
    served.reopen(
        Access.OPENLESS if why == "open-less" else Access.PASSTHROUGH,
        verify=Verify.ALWAYS if why == "verify always" else Verify.READS,
    )
    if why == "touched":
        served.cache.damage(file.inode, 0)
    elif why == "grown":
        with served.cache.container_file(file.inode).open("ab") as container:
            container.write(b"x")
    elif why == "removed":
        served.cache.container_file(file.inode).unlink()
    elif why == "never verified":
        number = served.cache.extent(file.inode).container
        with served.cache.index.write() as txn:
            row = served.cache.index.containers.get(txn, number)
            assert row is not None
            served.cache.index.containers.put(txn, number, row._replace(written_ns=0))
    assert served.fs.open(file.inode, os.O_RDONLY).container_fd == -1


def test_bounced_bytes_are_copied(served: Served) -> None:
    bounce = os.memfd_create("bounce")
    try:
        os.pwrite(bounce, b"0123456789", 4096)
        served.fs._bounce_fd = bounce
        answer = Answer(Op.ANSWER, 3, messages.STATUS_BOUNCE, 9, 4098, 5)
        assert b"".join(served.fs.read_bounced(answer)) == b"23456"
        served.misses.lost = Request(Op.READ, 3, 9, 128, 5)
        with pytest.raises(Miss) as caught:  # fetch died: its successor may write there
            served.fs.read_bounced(answer)
        assert (caught.value.op, caught.value.inode, caught.value.offset, caught.value.size) == (Op.READ, 9, 128, 5)
        served.misses.lost = None
        assert kind_of(served.fs.read_bounced, Answer(Op.ANSWER, 3, messages.STATUS_BOUNCE, 9, 4100, 50)) is ErrorKind.BUG
    finally:
        os.close(bounce)


def test_a_damaged_row_is_reported_and_never_believed(served: Served) -> None:
    file = served.cache.file(ROOT_INODE, b"f", b"abc")
    key = file.inode.to_bytes(8, "big")
    with served.cache.index.write() as txn:
        sealed = bytearray(txn.get(key, db=served.cache.index.env.db["inodes"]))
        sealed[10] ^= 1
        txn.put(key, bytes(sealed), db=served.cache.index.env.db["inodes"])
    for call, arguments in (
        (served.fs.getattr, (file.inode,)),
        (served.fs.read, (file.inode, 0, 3)),
        (served.fs.lookup, (ROOT_INODE, b"f")),
    ):
        assert kind_of(call, *arguments) is ErrorKind.UNAVAILABLE
    assert len(served.damages) == 3


@pytest.mark.parametrize("what", ["lookup", "getattr", "read"])
def test_a_file_that_is_closed_while_it_is_looked_at_is_looked_at_again(
    served: Served, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    """The index was read before the close, the stage looked for after it: the attributes were those of before the file was
    opened."""
    served.reopen(read_write=True)
    old, new = served.cache.file(ROOT_INODE, b"f", b"old"), served.cache.file(ROOT_INODE, b"g", b"as written")
    writes = served.cache.index.writes
    with served.cache.index.write() as txn:
        writes.put(txn, old.inode, WriteRow(5, old.inode, 0, {}))
    open_stage = Stage.open

    def close_first(*arguments: Any) -> Stage:
        with served.cache.index.write() as txn:
            writes.delete(txn, old.inode)
            writes.add_alias(txn, old.inode, new.inode)
            served.cache.index.names.put(txn, ROOT_INODE, b"f", served.cache.index.names.get(txn, ROOT_INODE, b"g"))
        return open_stage(*arguments)

    monkeypatch.setattr(Stage, "open", close_first)
    if what == "lookup":
        answer = served.fs.lookup(ROOT_INODE, b"f").attributes
        assert answer is not None
        assert (answer.inode, answer.size) == (old.inode, len(b"as written"))
    elif what == "getattr":
        assert served.fs.getattr(old.inode)[0].size == len(b"as written")
    else:
        assert b"".join(bytes(piece) for piece in served.fs.read(old.inode, 0, 100)) == b"as written"


def test_a_stage_that_is_lost_is_said_so(served: Served) -> None:
    served.reopen(read_write=True)
    file = served.cache.file(ROOT_INODE, b"f", b"old")
    with served.cache.index.write() as txn:
        served.cache.index.writes.put(txn, file.inode, WriteRow(5, file.inode, 0, {}))
    assert kind_of(served.fs.getattr, file.inode) is ErrorKind.STALE
