"""Where the parts of an upload begin: by their numbers alone, so that parts can be sent before the size of the file is known.
Pure.

Every thousand parts they are twice as large: 10,000 of them hold more than 8 TiB, and the first gigabytes go in small ones.
"""

from __future__ import annotations

from typing import NamedTuple

from fusecache.tiers.stage import REGION

FIRST_BYTES = 8 << 20
PARTS_OF_A_SIZE = 1000


class PartRange(NamedTuple):
    """Bytes [start, end) of the file; `number` from 1 on."""

    number: int
    start: int
    end: int

    @property
    def regions(self) -> range:
        return range(self.start // REGION, -(-self.end // REGION))


def part_range(number: int) -> PartRange:
    """Return the place of a part that is full."""
    start, size, left = 0, FIRST_BYTES, number - 1
    while left >= PARTS_OF_A_SIZE:
        start += PARTS_OF_A_SIZE * size
        left -= PARTS_OF_A_SIZE
        size *= 2
    start += left * size
    return PartRange(number, start, start + size)


def parts_of(size: int) -> list[PartRange]:
    """Return the parts of a file of that size, the last one as long as it is."""
    parts: list[PartRange] = []
    number = 1
    while not parts or parts[-1].end < size:
        whole = part_range(number)
        parts.append(whole._replace(end=min(whole.end, size)))
        number += 1
    return parts
