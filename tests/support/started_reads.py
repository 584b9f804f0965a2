"""Reads that were begun (`fusecache.source.protocol.StartedRead`), brought to their end as fetch's thread does it."""

from __future__ import annotations

import select

from fusecache.source.protocol import ReadState, StartedRead


def finish(read: StartedRead) -> ReadState:
    """Take what arrives until no more is to come."""
    poll = select.poll()
    poll.register(read.fileno(), select.POLLIN)
    while (state := read.advance()) is ReadState.WAITING:
        assert poll.poll(5000), "nothing arrives"
    return state
