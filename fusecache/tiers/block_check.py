"""Whether a block in a tier is what was written there: whoever doubts one asks here, from any thread."""

from __future__ import annotations

import os

from fusecache.index.extents import BlockIndex, Extent
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.checksums import damaged_granule
from fusecache.tiers.container_files import container_path


class BlockCheck:
    def __init__(self, store: BlockStore, granule_size: int) -> None:
        self._store = store
        self._granule_size = granule_size

    def is_intact(self, extent: Extent, identity: int, block: BlockIndex) -> bool:
        """Read one block (through a descriptor of its own) and compare. `identity`: the object's, as its checksums have it."""
        data = memoryview(bytearray(extent.length))
        path = container_path(self._store.tiers[extent.tier].path, extent.container)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:
            return False
        try:
            complete = os.preadv(fd, [data], extent.offset) == extent.length
        except OSError:
            return False
        finally:
            os.close(fd)
        offset = block * self._store.block_size
        return complete and damaged_granule(data, extent.checksums, identity, offset, self._granule_size, 0) is None
