from __future__ import annotations

import stat

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fuse.filesystem_protocol import Attributes, DirectoryEntry, DirectoryPart, EntryAnswer
from fusecache.fuse.native.protocol import ATTR_OUT, DIRENT, ENTRY_OUT
from fusecache.fuse.native.replies import (
    directory_entry_bytes,
    pack_attributes,
    pack_directory,
    pack_entry,
    pack_xattr_names,
    split_seconds,
)

FILE = Attributes(5, stat.S_IFREG | 0o444, 1000, 1, 7, 8, 1_500_000_000, -1, 2)


@pytest.mark.parametrize(
    ("seconds", "parts"),
    [(0.0, (0, 0)), (1.5, (1, 500_000_000)), (-3.0, (0, 0)), (1e30, (2**32, 0)), (float("inf"), (2**32, 0))],
)
def test_split_seconds(seconds: float, parts: tuple[int, int]) -> None:
    assert split_seconds(seconds) == parts


def test_attributes() -> None:
    fields = ATTR_OUT.unpack(pack_attributes(FILE, 1.5))
    assert fields[:3] == (1, 500_000_000, 0)
    inode, size, blocks, _, modified, changed, _, modified_ns, changed_ns, mode, links, uid, gid = fields[3:16]
    assert (inode, size, blocks, mode, links, uid, gid) == (5, 1000, 2, FILE.mode, 1, 7, 8)
    assert (modified, modified_ns) == (1, 500_000_000)
    assert (changed, changed_ns) == (2**64 - 1, 999_999_999)  # a nanosecond before 1970


def test_negative_entry_has_no_inode_but_a_time() -> None:
    fields = ENTRY_OUT.unpack(pack_entry(EntryAnswer(None, 2.25, 9.0)))
    assert fields[0] == 0
    assert (fields[2], fields[4]) == (2, 250_000_000)
    assert not any(fields[6:])


def test_entry() -> None:
    fields = ENTRY_OUT.unpack(pack_entry(EntryAnswer(FILE, 2.0, 9.0)))
    assert fields[:6] == (5, 0, 2, 9, 0, 0)
    assert fields[6:8] == (5, 1000)


def part(*names: bytes, attributes: Attributes | None = FILE) -> DirectoryPart:
    return DirectoryPart([DirectoryEntry(name, 5, stat.S_IFREG, place, attributes) for place, name in enumerate(names, 1)], 1, 1)


@pytest.mark.parametrize("plus", [False, True])
def test_directory_holds_what_fits(plus: bool) -> None:
    names = [b"a", b"b" * 8, b"c" * 255]
    room = sum(directory_entry_bytes(len(name), plus) for name in names)
    assert len(pack_directory(part(*names), room, plus)) == room
    assert len(pack_directory(part(*names), room - 1, plus)) == room - directory_entry_bytes(255, plus)
    assert len(pack_directory(part(), 4096, plus)) == 0


def test_directory_entry_fields() -> None:
    reply = bytes(pack_directory(part(b"one", b"three"), 4096, plus=False))
    assert DIRENT.unpack_from(reply) == (5, 1, 3, stat.S_IFREG >> 12)
    assert reply[24:32] == b"one\0\0\0\0\0"
    assert DIRENT.unpack_from(reply, 32)[1:3] == (2, 5)


@pytest.mark.parametrize("name", [b".", b".."])
def test_dots_and_unknown_attributes_carry_no_inode_in_readdirplus(name: bytes) -> None:
    assert not any(bytes(pack_directory(part(name), 4096, plus=True))[: ENTRY_OUT.size])
    assert not any(bytes(pack_directory(part(b"x", attributes=None), 4096, plus=True))[: ENTRY_OUT.size])
    assert any(bytes(pack_directory(part(b"x"), 4096, plus=True))[: ENTRY_OUT.size])


def test_a_buffer_too_small_for_one_entry_is_an_error_not_the_end() -> None:
    with pytest.raises(CacheError) as raised:
        pack_directory(part(b"name"), 16, plus=False)
    assert raised.value.kind is ErrorKind.INVALID


def test_xattr_names() -> None:
    assert pack_xattr_names([b"user.a", b"user.b"]) == b"user.a\0user.b\0"
    assert pack_xattr_names([]) == b""
