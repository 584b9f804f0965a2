"""Finds blocks whose container vanished while nobody looked: a tier's directory was removed, or is a new tmpfs.

Readers would find them one by one; until then they would count as cached, and a warm-up would leave them out. Runs once after the
start: the search in worker threads, a batch at a time on snapshots; what it finds is forgotten by the event loop.
"""

from __future__ import annotations

from collections.abc import Set
from typing import NamedTuple

from fusecache.index.extents import BlockIndex
from fusecache.index.index import Index
from fusecache.index.inodes import InodeNo
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.tier import Tier

BATCH_BLOCKS = 4096  # in one transaction of the event loop
_SCANNED_ROWS = 100_000  # on one snapshot, which pins old pages while it lives; a guess


class Batch(NamedTuple):
    """`next_start`: where to go on, None at the end."""

    blocks: list[tuple[InodeNo, BlockIndex]]
    next_start: tuple[InodeNo, BlockIndex] | None


def find_lost(index: Index, tiers: list[Tier], below: int) -> frozenset[int]:
    """Return the containers that hold blocks and have no file. `below`: as for find_leftovers. For a worker thread."""
    with index.read() as txn:
        expected = {number: row.tier for number, row in index.containers.iterate(txn) if number < below and row.live_blocks}
    for tier in tiers:
        if tier.is_failing():  # nothing is known of it now
            expected = {number: place for number, place in expected.items() if place != tier.number}
        for number in tier.containers_on_disk():
            if expected.get(number) == tier.number:
                del expected[number]
    return frozenset(expected)


def blocks_of(index: Index, containers: Set[int], start: tuple[InodeNo, BlockIndex]) -> Batch:
    """Return the next blocks that lie in these containers. For a worker thread."""
    found: list[tuple[InodeNo, BlockIndex]] = []
    with index.read() as txn:
        for scanned, (inode, block, extent) in enumerate(index.extents.iterate(txn, start)):
            if len(found) == BATCH_BLOCKS or scanned == _SCANNED_ROWS:
                return Batch(found, (inode, block))
            if extent.container in containers:
                found.append((inode, block))
    return Batch(found, None)


def forget_lost(store: BlockStore, containers: Set[int], blocks: list[tuple[InodeNo, BlockIndex]]) -> int:
    """In the event loop: forget those that were not fetched again meanwhile; return the bytes. Raises: NoSpaceError."""
    with store.index.read() as txn:
        rows = [(block, store.index.extents.get(txn, *block)) for block in blocks]
    freed = store.forget(block for block, extent in rows if extent is not None and extent.container in containers)
    store.reclaim()
    return freed
