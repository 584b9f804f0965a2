"""Damage to one cached block of a writer under test (fetch_harness); mounts have cache_tampering."""

from __future__ import annotations

from fusecache.index.extents import Extent
from fusecache.tiers.container_files import container_path
from tests.support.fetch_harness import FetchHarness


def extent_of(harness: FetchHarness, inode: int, block: int) -> Extent | None:
    def get() -> Extent | None:
        with harness.index.read() as txn:
            return harness.index.extents.get(txn, inode, block)

    return harness.call_sync(get)


def damage_block(harness: FetchHarness, inode: int, block: int) -> None:
    """Flip a bit of the block's first byte."""
    extent = extent_of(harness, inode, block)
    assert extent is not None
    with open(container_path(harness.tiers[extent.tier].path, extent.container), "r+b") as file:
        file.seek(extent.offset)
        first = file.read(1)[0]
        file.seek(extent.offset)
        file.write(bytes([first ^ 1]))
