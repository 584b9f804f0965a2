"""What two cache pods say to each other over TCP. Stateless; all integers are little-endian.

1. The owner's side sends GREETING (which names the version of all this) and a random number of 32 bytes.
2. Who asks sends GREETING, a random number of its own, and a MAC over both (HMAC-SHA-256, keyed with the Dataset's token).
3. The owner closes the connection unless that is right. Else it sends a MAC of its own, which covers its card, and the card.

So neither tells the token to somebody who merely has got the address of a pod that is gone. What follows is neither encrypted nor
signed: who can change packets between pods can do so with those of the store as well.

Then requests and answers take turns. A request is for bytes [offset, offset + length) of one version of one object. The answer is
frames:

| frame | meaning |
|---|---|
| DATA | the next bytes: whole granules, all that is wanted of one block. With the object's identity, their offset in it, and |
| | the checksums of tiers/checksums.py, which are of these very bytes of this very version |
| WAIT | not yet, but somebody is at it: comes at least every WAIT_SECONDS while there is nothing to send |
| REFUSAL | nothing more comes, and why: the store has to be asked |

The first and the last granule are sent as a whole: an answer begins at or before `offset`, and ends when all that was asked for
has come. Whoever says anything else is disconnected.
"""

from __future__ import annotations

import enum
import hmac
import struct
from typing import NamedTuple

GREETING = b"fcpeer\x00\x01"  # the last byte is the version
NONCE_BYTES = 32
MAC_BYTES = 32
_ASKER, _OWNER = b"fusecache peer asks", b"fusecache peer owns"
_CARD = struct.Struct("<BIIH")
_OWNS = 1
REQUEST = struct.Struct("<BQQQQIBH")
FRAME = struct.Struct("<BBHIQQ")
CHECKSUM = struct.Struct("<Q")
CARD_HEAD_BYTES = _CARD.size

MAX_RANGE_BYTES = 64 << 20  # the longest range that fetch asks for at once
MAX_FRAME_BYTES = 64 << 20  # a block, of the largest size that there is
MAX_NODE_BYTES = 253  # a DNS name
MAX_CHECKSUMS = MAX_FRAME_BYTES // (4 << 10)
MAX_REASON_BYTES = 500
WAIT_SECONDS = 0.5


class FrameKind(enum.IntEnum):
    DATA = 1
    WAIT = 2
    REFUSAL = 3


class Reason(enum.IntEnum):
    """Why an owner does not give what was asked for."""

    OTHER_VERSION = 1  # it knows another version of the object, or none
    ELSEWHERE = 2  # it waits for another peer itself: what it would wait for may be the one who asks
    NO_ROOM = 3  # none of its tiers can take the block
    FAILED = 4  # the store does not give it
    SILENT = 5  # the store does not answer the owner, or not in time


class Card(NamedTuple):
    """Who a pod is. Only equal sizes make blocks and checksums that both can use."""

    node: str
    owns: bool  # it has tiers
    block_size: int
    granule_size: int

    def pack(self) -> bytes:
        node = self.node.encode()
        return _CARD.pack(_OWNS if self.owns else 0, self.block_size, self.granule_size, len(node)) + node


class RangeRequest(NamedTuple):
    """Bytes of a version of an object. `identity`: hash of source, path and version (index/inodes.py); `size`: of the object."""

    priority: int  # fetch.workers.Priority
    source: int
    identity: int
    size: int
    offset: int
    length: int
    path: bytes
    version: bytes

    def pack(self) -> bytes:
        head = (self.priority, self.source, self.identity, self.size, self.offset, self.length)
        return REQUEST.pack(*head, len(self.version), len(self.path)) + self.version + self.path


class RequestHead(NamedTuple):
    """The fixed part of a request, which says how much follows."""

    fields: tuple[int, ...]
    version_length: int
    path_length: int

    @classmethod
    def unpack(cls, data: bytes) -> RequestHead:
        *fields, version_length, path_length = REQUEST.unpack(data)
        return cls(tuple(fields), version_length, path_length)

    def with_rest(self, rest: bytes) -> RangeRequest:
        """Raises: ValueError for what no asker asks."""
        priority, source, identity, size, offset, length = self.fields
        if not 0 < length <= MAX_RANGE_BYTES or offset + length > size:
            raise ValueError("a range that is not in the object")
        version, path = rest[: self.version_length], rest[self.version_length :]
        return RangeRequest(priority, source, identity, size, offset, length, path, version)


class Frame(NamedTuple):
    """The fixed part of a frame. So many `checksums` and `length` bytes follow. `detail`: of DATA, whether the owner had them
    when it was asked; of REFUSAL, a Reason."""

    kind: int
    detail: int
    checksums: int
    length: int
    identity: int
    offset: int

    def pack(self) -> bytes:
        return FRAME.pack(*self)

    @classmethod
    def unpack(cls, data: bytes | bytearray | memoryview) -> Frame:
        """Raises: ValueError for what no owner sends."""
        frame = cls(*FRAME.unpack(data))
        if frame.kind not in (FrameKind.DATA, FrameKind.WAIT, FrameKind.REFUSAL):
            raise ValueError("an unknown kind of frame")
        if frame.length > (MAX_FRAME_BYTES if frame.kind == FrameKind.DATA else MAX_REASON_BYTES):
            raise ValueError("a frame that is too long")
        return frame


def card_head(data: bytes) -> tuple[bool, int, int, int]:
    """Return owns, block size, granule size, and how long the name is that follows. Raises: ValueError."""
    flags, block_size, granule_size, length = _CARD.unpack(data)
    if not 0 < length <= MAX_NODE_BYTES or not block_size or not granule_size:
        raise ValueError("a card that nobody has")
    return bool(flags & _OWNS), block_size, granule_size, length


def asker_mac(token: bytes, owner_nonce: bytes, asker_nonce: bytes) -> bytes:
    return hmac.digest(token, _ASKER + owner_nonce + asker_nonce, "sha256")


def owner_mac(token: bytes, owner_nonce: bytes, asker_nonce: bytes, card: bytes) -> bytes:
    return hmac.digest(token, _OWNER + owner_nonce + asker_nonce + card, "sha256")


def widened(offset: int, length: int, size: int, granule_size: int) -> tuple[int, int]:
    """Return [start, stop): the whole granules that hold a range of an object of that size."""
    end = offset + length
    return offset - offset % granule_size, min(end + -end % granule_size, size)
