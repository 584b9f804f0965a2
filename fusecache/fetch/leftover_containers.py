"""Finds what an earlier process left in the tiers without a row that names it: it died between writing and committing.

Runs once after the start, in a worker thread, on a snapshot; what it finds is removed by the event loop, which knows what is in
use. Without this every crash would take a bite out of the disk that no quota counts.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fusecache.index.containers import ContainerKind
from fusecache.index.index import Index
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.tier import Tier, align


class Range(NamedTuple):
    """Bytes of a segment that take space and belong to no block."""

    tier: int
    container: int
    offset: int
    length: int


class Leftovers(NamedTuple):
    empty: list[tuple[int, int]]  # (tier, container): files without a row, and rows without a block
    ranges: list[Range]
    whole_files: list[int]  # containers that take more than their blocks


def find_leftovers(index: Index, tiers: Sequence[Tier], below: int) -> Leftovers:
    """`below`: container numbers from here on are made by this process and left alone. For a worker thread."""
    with index.read() as txn:
        rows = {number: row for number, row in index.containers.iterate(txn) if number < below}
        empty = [(row.tier, number) for number, row in rows.items() if row.live_blocks == 0]
        too_large = [
            number
            for number, row in rows.items()
            if row.live_bytes < row.end and tiers[row.tier].allocated_bytes(number) > align(row.live_bytes)
        ]
        suspects: dict[int, list[tuple[int, int]]] = {
            number: [] for number in too_large if rows[number].kind == ContainerKind.SEGMENT
        }
        if suspects:
            for _, _, extent in index.extents.iterate(txn):
                if extent.container in suspects:
                    suspects[extent.container].append((extent.offset, align(extent.length)))
    ranges = [
        Range(rows[number].tier, number, start, end - start)
        for number, pieces in suspects.items()
        for start, end in _gaps(pieces, tiers[rows[number].tier].size_of(number))
    ]
    for tier in tiers:
        empty += [(tier.number, number) for number in tier.containers_on_disk() if number < below and number not in rows]
    return Leftovers(empty, ranges, [number for number in too_large if rows[number].kind == ContainerKind.WHOLE_FILE])


def _gaps(pieces: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return (start, end) of what no piece (offset, length) covers."""
    gaps = []
    position = 0
    for offset, length in sorted(pieces):
        if offset > position:
            gaps.append((position, offset))
        position = max(position, offset + length)
    if align(size) > position:
        gaps.append((position, align(size)))
    return gaps


def remove_leftovers(store: BlockStore, leftovers: Leftovers) -> None:
    """In the event loop. A segment of an earlier process gets no new blocks, so what was a gap still is one."""
    for tier, container in leftovers.empty:
        store.unlink_if_empty(tier, container)
    for gap in leftovers.ranges:
        store.tiers[gap.tier].punch(gap.container, gap.offset, gap.length)
    for container in leftovers.whole_files:
        store.trim_whole(container)
