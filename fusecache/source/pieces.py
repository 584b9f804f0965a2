"""Bytes that come in pieces of any length, passed on in pieces of one length. No state."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.protocol import Buffer


def take_pieces(
    pieces: Iterable[Buffer], length: int, buffer: memoryview, take: Callable[[memoryview], None], place: str
) -> None:
    """Fill `buffer` and give it to `take`, again and again; the last one is short. Raises UNAVAILABLE if there are fewer or more
    than `length` bytes; `place` is named then."""
    filled = received = 0
    for piece in pieces:
        view = memoryview(piece).cast("B")
        received += len(view)
        if received > length:
            break
        while view:
            count = min(len(view), len(buffer) - filled)
            buffer[filled : filled + count] = view[:count]
            view = view[count:]
            filled += count
            if filled == len(buffer):
                take(buffer)
                filled = 0
    if received != length:
        raise CacheError(ErrorKind.UNAVAILABLE, f"{place}: {received} bytes arrived where {length} were asked for")
    if filled:
        take(buffer[:filled])
