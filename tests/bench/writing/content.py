"""What writers write: bytes that are the same for every contender, and that nobody has to generate while the clock runs.

Each MiB of a file is a *piece*: a stretch of one pool of random bytes that begins elsewhere for each number, so that no two
are alike and none is copied before it is written. Run by path too (writer_jobs.py, store_program.py), hence the standard
library only, and files as they stand in an order: {"name", "first": number of the first piece, "size", "patch"}, the last one
[offset, number of the piece that was written there later] or nothing. Stateless.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Iterator
from typing import Any

PIECE_BYTES = 1 << 20
PATCHES = 1 << 20  # from this number on are the pieces that are written into the middle of a file
_STARTS = 15 << 20
_STRIDE = 4099  # a prime, so that as many pieces as there are starts are all different
_SEED = 21


@functools.cache
def _pool() -> memoryview:
    return memoryview(random.Random(_SEED).randbytes(_STARTS + PIECE_BYTES))


def piece(number: int, size: int = PIECE_BYTES) -> memoryview:
    start = number * _STRIDE % _STARTS
    return _pool()[start : start + size]


def prepare() -> None:
    """Make what all pieces are taken from: a few hundredths of a second that are nobody's work."""
    _pool()


def pieces(file: dict[str, Any]) -> Iterator[memoryview]:
    """Yield the bytes of a file as they are written, without what is patched later."""
    for number, start in enumerate(range(0, file["size"], PIECE_BYTES), start=file["first"]):
        yield piece(number, min(PIECE_BYTES, file["size"] - start))


def digest(file: dict[str, Any]) -> str:
    """Return the XXH3-128 of a file as it has to be found."""
    import xxhash

    state = xxhash.xxh3_128()
    at, patch = 0, file.get("patch")
    for one in pieces(file):
        data: bytes | memoryview = one
        if patch and patch[0] < at + len(one) and at < patch[0] + PIECE_BYTES:
            changed = bytearray(one)
            start, end = max(patch[0], at), min(patch[0] + PIECE_BYTES, at + len(one))
            changed[start - at : end - at] = piece(patch[1])[start - patch[0] : end - patch[0]]
            data = bytes(changed)
        state.update(data)
        at += len(one)
    return state.hexdigest()
