"""Checksums that say which bytes of which object they are for.

One xxh3 (64 bit) per granule, seeded with the object's identity (source, path, version), the granule's offset in the object and
its length. A checksum over the bytes alone would pass a block that was swapped with another one.
"""

from __future__ import annotations

from collections.abc import Sequence

from xxhash import xxh3_64_intdigest

Buffer = bytes | bytearray | memoryview

_MASK = (1 << 64) - 1
_OFFSET_FACTOR = 0x9E3779B97F4A7C15  # odd, so that distinct offsets give distinct seeds (2^64 / golden ratio)
_LENGTH_FACTOR = 0xC2B2AE3D27D4EB4F  # odd, another bit pattern (a prime of xxHash)


def granule_checksum(granule: Buffer, identity: int, offset: int) -> int:
    """Return the checksum of one granule that starts at `offset` of the object. Releases the GIL for large ones."""
    seed = (identity + offset * _OFFSET_FACTOR + len(granule) * _LENGTH_FACTOR) & _MASK
    return int(xxh3_64_intdigest(granule, seed))


def block_checksums(block: Buffer, identity: int, offset: int, granule_size: int) -> tuple[int, ...]:
    """Return the checksum of each granule of a block that starts at `offset` of the object."""
    view = memoryview(block)
    return tuple(
        granule_checksum(view[start : start + granule_size], identity, offset + start)
        for start in range(0, len(view), granule_size)
    )


def damaged_granule(
    data: memoryview, checksums: Sequence[int], identity: int, offset: int, granule_size: int, first_granule: int
) -> int | None:
    """Return the number (in the block) of the first granule that does not match, or None.

    `data` holds whole granules, beginning with granule `first_granule` of the block at `offset` of the object; the last may be
    short."""
    for number, start in enumerate(range(0, len(data), granule_size), first_granule):
        granule = data[start : start + granule_size]
        if number >= len(checksums) or granule_checksum(granule, identity, offset + number * granule_size) != checksums[number]:
            return number
    return None
