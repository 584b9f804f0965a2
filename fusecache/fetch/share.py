"""Which part of the dataset a warm of this node is about: all of it, or what the node owned when it began and, if there are to be
several copies, what it would own next. No other state."""

from __future__ import annotations

from zlib import crc32

from fusecache.fetch.cache import Cache
from fusecache.index.extents import BlockIndex
from fusecache.index.inodes import Inode, InodeNo
from fusecache.peer.membership import Owners
from fusecache.peer.ring import GROUP_BLOCKS


class Share:
    """`owners`: None for everything. `copies`: of each block among them."""

    def __init__(self, cache: Cache, owners: Owners | None = None, copies: int = 1) -> None:
        self._cache = cache
        self._owners = owners
        self._copies = copies

    @property
    def nodes(self) -> list[str]:
        """The nodes that have a share."""
        return [] if self._owners is None else list(self._owners.nodes)

    def has(self, row: Inode, block: BlockIndex) -> bool:
        """Whether a block of a file is part of it."""
        if self._owners is None:
            return True
        has_ranges = self._cache.sources.of(row.source).source.capabilities.ranges
        return self._owners.has_copy(row.identity, block if has_ranges else 0, self._copies)

    def counts(self, row: Inode) -> bool:
        """Whether a file counts here: with who owns its beginning, so that it counts once."""
        return self._owners is None or self._owners.owner(row.identity, 0) is None

    def counts_missing(self, path: bytes) -> bool:
        """Whether a path that leads nowhere counts here."""
        return self._owners is None or self._owners.owner(crc32(path), 0) is None

    def size_of(self, row: Inode) -> int:
        """Return how many bytes of a file are part of it."""
        if self._owners is None:
            return row.size
        block_size = self._cache.spec.block_size_bytes
        step = GROUP_BLOCKS * block_size
        return sum(min(step, row.size - start) for start in range(0, row.size, step) if self.has(row, start // block_size))

    def cached_of(self, inode: InodeNo, row: Inode) -> int:
        """Return how many of these are cached."""
        with self._cache.index.read() as txn:
            extents = self._cache.index.extents.of_inode(txn, inode)
            return sum(extent.length for block, extent in extents if self.has(row, block))
