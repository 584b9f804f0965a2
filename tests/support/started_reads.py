"""Reads that were begun (`fusecache.source.protocol.StartedRead`), brought to their end as fetch does it."""

from __future__ import annotations

import select

from fusecache.source.protocol import BEGIN_ROOM_BYTES, ReadState, StartedRead


def begin_buffer(length: int) -> memoryview:
    """A buffer for `begin_read` of an object of this length, with something else in it."""
    return memoryview(bytearray(b"?" * (length + BEGIN_ROOM_BYTES)))


def finish(read: StartedRead) -> ReadState:
    """Take what arrives until no more is to come."""
    poll = select.poll()
    poll.register(read.fileno(), select.POLLIN)
    while (state := read.advance()) is ReadState.WAITING:
        assert poll.poll(5000), "nothing arrives"
    return state
