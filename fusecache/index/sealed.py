"""Rows that say which row they are: each value ends in a checksum over its key and itself.

LMDB finds torn pages only by luck. A damaged row must never turn into wrong bytes or a wrong name, so every row carries 4 bytes
of xxh32, and a mismatch means that the whole index is not to be trusted: it can be rebuilt from the store at any time.
"""

from __future__ import annotations

import struct

from xxhash import xxh32_intdigest

_SEAL = struct.Struct("<I")
SEAL_BYTES = _SEAL.size


class IndexDamagedError(Exception):
    """The index holds something that was never written: the process exits with ExitCode.INDEX_DAMAGED."""


def seal(key: bytes, value: bytes) -> bytes:
    return value + _SEAL.pack(xxh32_intdigest(value, xxh32_intdigest(key)))


def unseal(key: bytes, sealed: bytes) -> bytes:
    """Return the value without its seal. Raises: IndexDamagedError."""
    value = sealed[:-SEAL_BYTES]
    if len(sealed) < SEAL_BYTES or _SEAL.unpack_from(sealed, len(value))[0] != xxh32_intdigest(value, xxh32_intdigest(key)):
        raise IndexDamagedError(f"a row of the index does not match its checksum (key {key!r})")
    return value
