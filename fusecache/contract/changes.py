"""What serve asks fetch to change: one value, which travels in the name of an Op.CHANGE message.

A change takes effect once, however often it is asked for: `unique` is the kernel's number of the request, which comes again
with it after any death, and is never used twice within a connection.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

NOT_SET = 0xFFFFFFFF  # mode, uid, gid
TIME_NOT_SET = -(1 << 63)
TIME_NOW = TIME_NOT_SET + 1
MAX_VALUE_BYTES = 4095  # of a link's target or an extended attribute: what a message has room for

_HEAD = struct.Struct("<BxHHHIIIIQQQq")


class ChangeKind(enum.IntEnum):
    """Values travel between processes of different versions: never renumber."""

    CREATE = 1  # name in directory inode, and open it: flags of open(2)
    OPEN = 2  # inode, for writing
    RELEASE = 3  # the end of an open: `handle`
    UNLINK = 4  # name in directory inode
    MKDIR = 5
    RMDIR = 6
    RENAME = 7  # name in inode becomes other_name in other_inode; flags of renameat2(2)
    SYMLINK = 8  # value: the target
    SET_ATTRIBUTES = 9  # of inode
    SET_XATTR = 10  # name without "user."; flags of setxattr(2)
    REMOVE_XATTR = 11
    READ_XATTRS = 12  # no change: the index is to know the extended attributes of inode
    TRUNCATE = 13  # inode, by its name or as it is opened; value: the size, in decimal digits


@dataclass(frozen=True, slots=True)
class Change:
    """`handle`: for RELEASE, the unique of the CREATE or OPEN that it ends. `uid`, `gid`: of who creates, or what to set."""

    kind: ChangeKind
    inode: int
    unique: int
    name: bytes = b""
    other_inode: int = 0
    other_name: bytes = b""
    mode: int = NOT_SET
    uid: int = NOT_SET
    gid: int = NOT_SET
    flags: int = 0
    handle: int = 0
    mtime_ns: int = TIME_NOT_SET
    value: bytes = b""

    def pack(self) -> bytes:
        """Without `inode`, which the message has."""
        head = _HEAD.pack(
            self.kind, len(self.name), len(self.other_name), len(self.value), self.mode, self.uid, self.gid, self.flags,
            self.unique, self.other_inode, self.handle, self.mtime_ns,
        )  # fmt: skip
        return head + self.name + self.other_name + self.value

    @classmethod
    def unpack(cls, inode: int, data: bytes) -> Change:
        """Raises: ValueError, struct.error."""
        kind, name_size, other_size, value_size, mode, uid, gid, flags, unique, other_inode, handle, mtime_ns = _HEAD.unpack_from(
            data
        )
        start = _HEAD.size
        other, value, end = start + name_size, start + name_size + other_size, start + name_size + other_size + value_size
        if end != len(data):
            raise ValueError("a change of the wrong length")
        return cls(
            ChangeKind(kind), inode, unique, data[start:other], other_inode, data[other:value], mode, uid, gid, flags, handle,
            mtime_ns, data[value:end],
        )  # fmt: skip
