"""Changes cross the miss socket as they are."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusecache.contract.changes import MAX_VALUE_BYTES, Change, ChangeKind
from fusecache.contract.messages import MAX_MESSAGE_BYTES, Op, Request

U32, U64 = st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1)
NAMES = st.binary(max_size=255)


@given(
    kind=st.sampled_from(ChangeKind), inode=U64, unique=U64, name=NAMES, other=U64, other_name=NAMES, mode=U32, uid=U32, gid=U32,
    flags=U32, handle=U64, mtime_ns=st.integers(-(1 << 63), (1 << 63) - 1), value=st.binary(max_size=MAX_VALUE_BYTES),
)  # fmt: skip
def test_a_change_travels_in_a_message(
    kind: ChangeKind, inode: int, unique: int, name: bytes, other: int, other_name: bytes, mode: int, uid: int, gid: int,
    flags: int, handle: int, mtime_ns: int, value: bytes,
) -> None:  # fmt: skip
    change = Change(kind, inode, unique, name, other, other_name, mode, uid, gid, flags, handle, mtime_ns, value)
    message = Request(Op.CHANGE, 7, inode, name=change.pack()).pack()
    assert len(message) <= MAX_MESSAGE_BYTES
    request = Request.unpack(message)
    assert Change.unpack(request.inode, request.name) == change


def test_what_is_no_change() -> None:
    packed = Change(ChangeKind.UNLINK, 1, 2, b"name").pack()
    for data in (b"", packed[:-1], packed + b"x", b"\xff" + packed[1:]):
        with pytest.raises((ValueError, struct.error)):
            Change.unpack(1, data)
