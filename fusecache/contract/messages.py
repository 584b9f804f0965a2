"""The miss protocol between a reader (serve, later peer) and fetch, over a unix SEQPACKET socket. No data crosses it.

The reader connects to `miss.sock`, says HELLO, and sends requests; each datagram is one message. fetch answers in any order.
The reader never blocks in send. When the connection ends (fetch died), it connects again and sends every outstanding request
again; the listening socket is custody's, so connecting always works. When a reader's connection ends, fetch drops its leases.

An ANSWER with status OK means: what was asked for is in the index now; look again. For a READ, all blocks of the range are
leased to the token (not evicted, moved or punched out) until the reader sends DONE. The outcome of a CHANGE is remembered until
SETTLED, as it must not be done twice. BOUNCE means that no tier could take the
bytes: they are in the bounce buffer, and stay there until DONE. Any other status is an ErrorKind.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

MAX_MESSAGE_BYTES = 8192

_REQUEST = struct.Struct("<BxxxIQQQ")  # op, size, token, inode, offset; then name
_ANSWER = struct.Struct("<BBxxIQQQ")  # op, status, size, token, inode, offset; then name


class Op(enum.IntEnum):
    """Values travel between processes of different versions: never renumber."""

    HELLO = 1  # offset = serve index, inode = pid
    READ = 2  # blocks of [offset, offset + size) of inode
    LOOKUP = 3  # name in directory inode: list or stat until the index can say yes or no
    LIST = 4  # entries of directory inode with seq > offset: at least one more, or the listing complete
    ATTRIBUTES = 5  # inode is known by an inexact listing only: stat it
    DONE = 6  # the answer of token was used: release its lease. No answer.
    CANCEL = 7  # nobody waits for token any more (interrupted). No answer.
    HINT = 8  # a reader came to a block that carries the prefetch mark. No answer.
    OPENED = 9  # inode was opened: verify its container, look ahead. No answer.
    DAMAGED = 10  # a granule of block `offset` (a block index) of inode failed its checksum: forget and count it. No answer.
    CHANGE = 11  # name: a contract.changes.Change of inode. Answered when it is done, with the inode that it made or opened
    SYNC = 12  # what was written to inode is safe when this is answered; size 1: in the store
    WROTE = 13  # inode has new bytes. No answer.
    SETTLED = 14  # the kernel has taken the answer to the CHANGE of token: its outcome may be forgotten. No answer.
    ANSWER = 32
    INVALIDATE_ENTRY = 33  # tell the kernel that name in directory inode changed
    INVALIDATE_INODE = 34  # tell the kernel to forget attributes and listing of inode


STATUS_OK = 0
STATUS_BOUNCE = 255  # offset = where the bytes of the READ start in the bounce buffer; size = how many


@dataclass(frozen=True, slots=True)
class Request:
    op: Op
    token: int = 0
    inode: int = 0
    offset: int = 0
    size: int = 0
    name: bytes = b""

    def pack(self) -> bytes:
        return _REQUEST.pack(self.op, self.size, self.token, self.inode, self.offset) + self.name

    @classmethod
    def unpack(cls, data: bytes) -> Request:
        op, size, token, inode, offset = _REQUEST.unpack_from(data)
        return cls(Op(op), token, inode, offset, size, data[_REQUEST.size :])


@dataclass(frozen=True, slots=True)
class Answer:
    """From fetch: an ANSWER to `token`, or an INVALIDATE_* (token 0) that one serve process passes on to the kernel."""

    op: Op
    token: int = 0
    status: int = STATUS_OK
    inode: int = 0
    offset: int = 0
    size: int = 0
    name: bytes = b""

    def pack(self) -> bytes:
        return _ANSWER.pack(self.op, self.status, self.size, self.token, self.inode, self.offset) + self.name

    @classmethod
    def unpack(cls, data: bytes) -> Answer:
        op, status, size, token, inode, offset = _ANSWER.unpack_from(data)
        return cls(Op(op), token, status, inode, offset, size, data[_ANSWER.size :])
