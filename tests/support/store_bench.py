"""A block store over a real index and real tiers, without the rest of fetch: tests reserve, write and commit by hand."""

from __future__ import annotations

import os
from pathlib import Path

from fusecache.contract.mount_spec import Medium, TierSpec
from fusecache.index.directories import Directory
from fusecache.index.extents import Extent
from fusecache.index.index import Index
from fusecache.index.inodes import NO_MODE, NO_OWNER, ROOT, Inode, identity_of
from fusecache.index.names import NameRow
from fusecache.source.protocol import EntryKind
from fusecache.tiers.block_store import BlockStore, Place, Written
from fusecache.tiers.checksums import block_checksums
from fusecache.tiers.container_files import container_path
from fusecache.tiers.marks import Marks
from fusecache.tiers.tier import Tier
from tests.support.fake_source import content
from tests.support.index_check import Report, check_index

BLOCK, GRANULE = 16, 8


class StoreBench:
    """Every inode has a name in the root and bytes made from its number, so that the whole index can be checked."""

    def __init__(self, path: Path, *quotas: int, keep_whole: bool = False, block_size: int = BLOCK) -> None:
        self.path = path
        self.block_size = block_size
        self.granule_size = GRANULE if block_size == BLOCK else block_size // 4
        self.keep_whole = keep_whole
        self.tiers = [
            Tier(number, TierSpec(str(path / f"tier{number}"), Medium.SSD, quota), quota) for number, quota in enumerate(quotas)
        ]
        self.marks = Marks(path / "marks", create=True)
        self.index = Index(path / "index", writable=True)
        with self.index.write() as txn:
            meta = self.index.meta
            for key, value in (("block_size", block_size), ("granule_size", self.granule_size), ("epoch", 1)):
                meta.put(txn, key, value)
            meta.put(txn, "next_inode", 1 << 40)
            meta.put(txn, "next_order", 1)
            meta.put(txn, "next_container", 1)
            self.index.inodes.put(txn, ROOT, _row(EntryKind.DIRECTORY, b"", 0))
        self._number = 1
        self.rows: dict[int, Inode] = {}
        self.store = self.open()

    def open(self) -> BlockStore:
        """As a new process does."""
        self.store = BlockStore(self.index, self.tiers, self.marks, self.block_size, keep_whole=self.keep_whole)
        return self.store

    def restart(self) -> BlockStore:
        """The process died: what was in memory is gone, the files are as they were."""
        for tier in self.tiers:
            tier.close_writable()
        return self.open()

    def file(self, size: int) -> int:
        """A new inode of this size; nothing of it is cached."""
        self._number += 1
        inode, name = 1 << 48 | self._number, b"f%d" % self._number
        row = _row(EntryKind.FILE, name, size)
        self.rows[inode] = row
        with self.index.write() as txn:
            self.index.inodes.put(txn, inode, row)
            directory = self.index.dirs.get(txn, ROOT) or Directory()
            self.index.names.put(txn, ROOT, name, NameRow(inode, EntryKind.FILE, directory.next_seq, 1, 0))
            self.index.dirs.put(txn, ROOT, directory._replace(next_seq=directory.next_seq + 1, entries=directory.entries + 1))
            self.index.meta.put(txn, "files", len(self.rows))
            self.index.meta.put(txn, "total_bytes", sum(row.size for row in self.rows.values()))
        return inode

    def data(self, inode: int, block: int) -> bytes:
        whole = content(str(inode), self.rows[inode].size)
        return whole[block * self.block_size : (block + 1) * self.block_size]

    def reserve(self, inode: int, block: int, tiers: list[Tier] | None = None) -> Place:
        place = self.store.reserve(inode, self.rows[inode], block, tiers)
        assert place is not None, "no room"
        return place

    def written(self, inode: int, block: int, place: Place, replaces: Extent | None = None) -> Written:
        """Write the block's bytes to its place."""
        data = self.data(inode, block)
        os.pwrite(place.fd, data, place.offset)
        sums = block_checksums(data, self.rows[inode].identity, block * self.block_size, self.granule_size)
        return Written(inode, block, place, sums, 0, replaces)

    def commit(self, *blocks: Written) -> list[Written]:
        return self.store.commit(list(blocks), {block.inode: self.rows[block.inode].size for block in blocks})

    def cache(self, inode: int, *blocks: int, tier: int | None = None) -> None:
        """Reserve, write and commit these blocks (all by default)."""
        every = range(-(-self.rows[inode].size // self.block_size))
        tiers = None if tier is None else [self.tiers[tier]]
        made = [self.written(inode, block, self.reserve(inode, block, tiers)) for block in blocks or every]
        assert not self.commit(*made)

    def small(self, count: int = 1, *, tier: int | None = None) -> list[int]:
        """Some cached files of one block each."""
        inodes = [self.file(self.block_size) for _ in range(count)]
        for inode in inodes:
            self.cache(inode, 0, tier=tier)
        return inodes

    def move(self, inode: int, block: int, tier: int) -> None:
        extent = self.extent(inode, block)
        assert extent is not None
        place = self.reserve(inode, block, [self.tiers[tier]])
        assert not self.commit(self.written(inode, block, place, extent))

    def extent(self, inode: int, block: int = 0) -> Extent | None:
        with self.index.read() as txn:
            return self.index.extents.get(txn, inode, block)

    def the_extent(self, inode: int, block: int = 0) -> Extent:
        found = self.extent(inode, block)
        assert found is not None, f"block {block} is not cached"
        return found

    def container_file(self, inode: int, block: int = 0) -> Path:
        extent = self.the_extent(inode, block)
        return Path(container_path(self.tiers[extent.tier].path, extent.container))

    def stored(self, inode: int, block: int = 0) -> bytes:
        """What lies on the disk where the index says the block is."""
        extent = self.the_extent(inode, block)
        with self.container_file(inode, block).open("rb") as file:
            return os.pread(file.fileno(), extent.length, extent.offset)

    def check(self, *, damage: bool = False) -> Report:
        return check_index(self.index, self.tiers, self.store, damage=damage)

    def close(self) -> None:
        for tier in self.tiers:
            tier.close_writable()
        self.index.close()
        self.marks.close()


def _row(kind: EntryKind, path: bytes, size: int) -> Inode:
    identity = identity_of(1, path, b"v")
    return Inode(kind, 0, NO_MODE, NO_OWNER, NO_OWNER, 1, size, 0, 0, ROOT, 1, identity, path, b"v", b"")
