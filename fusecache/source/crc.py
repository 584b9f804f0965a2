"""The cyclic redundancy checks that stores keep of objects, with the processor's own instructions. The door to awscrt.

CPU for 100 KiB (2.5 GHz): CRC-64/NVME and CRC-32C 5 us each, zlib's CRC-32 32 to 72 us, MD5 195 us. The library is loaded when
the first answer brings such a checksum: not every store sends them.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable

from fusecache.source.protocol import Buffer

Crc = Callable[[Buffer], bytes]


@functools.cache
def crc_named(name: str) -> Crc | None:
    """Return the function that computes "crc64nvme", "crc32c" or "crc32" of some bytes, as stores send it; None if it cannot be
    computed here."""
    if name == "crc32":
        return lambda data: zlib.crc32(data).to_bytes(4, "big")
    try:
        from awscrt import checksums
    except ImportError:  # there are no wheels for every processor
        return None
    if name == "crc32c":
        return lambda data: int(checksums.crc32c(data)).to_bytes(4, "big")
    if name == "crc64nvme":
        return lambda data: int(checksums.crc64nvme(data)).to_bytes(8, "big")
    return None


def crc64nvme_of(pieces: Iterable[Buffer]) -> bytes | None:
    """Return the CRC-64/NVME of the pieces together, as stores send it; None if it cannot be computed here."""
    try:
        from awscrt import checksums
    except ImportError:
        return None
    value = 0
    for piece in pieces:
        value = int(checksums.crc64nvme(piece, value))
    return value.to_bytes(8, "big")
