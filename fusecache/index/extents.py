"""Table `extents`: where each cached block lies and what its bytes hash to.

A row exists only after its bytes were written. Key: inode (8 bytes big-endian) + block (4 bytes big-endian). Value, sealed:

| field | type | meaning |
|---|---|---|
| tier | u8 | position in the spec's list |
| flags | u8 | ExtentFlag |
| container | u64 | |
| offset | u64 | of the block's first byte in the container |
| length | u32 | bytes; less than a block only at the end of an object |
| order | u64 | place in the eviction queue; also which access mark: tiers/marks.py |
| checksums | u64 each | one per granule, the last granule may be short: tiers/checksums.py |
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import NamedTuple

from fusecache.index.environment import Environment, Transaction
from fusecache.index.inodes import InodeNo
from fusecache.index.sealed import seal, unseal

BlockIndex = int

_KEY = struct.Struct(">QI")
_ROW = struct.Struct("<BBQQIQ")


class ExtentFlag(enum.IntFlag):
    PREFETCH_MARK = 1  # whoever reads it tells fetch (HINT), which then fetches further ahead
    PROBATION = 2  # it stands in its tier's queue of those that leave first: index/order.py


class Extent(NamedTuple):
    tier: int
    flags: int
    container: int
    offset: int
    length: int
    order: int
    checksums: tuple[int, ...]


class Extents:
    def __init__(self, env: Environment) -> None:
        self._db = env.db["extents"]

    def get(self, txn: Transaction, inode: InodeNo, block: BlockIndex) -> Extent | None:
        key = _KEY.pack(inode, block)
        sealed = txn.get(key, db=self._db)
        return None if sealed is None else _unpack(unseal(key, sealed))

    def put(self, txn: Transaction, inode: InodeNo, block: BlockIndex, row: Extent) -> None:
        key = _KEY.pack(inode, block)
        checksums = struct.pack(f"<{len(row.checksums)}Q", *row.checksums)
        txn.put(key, seal(key, _ROW.pack(*row[:6]) + checksums), db=self._db)

    def delete(self, txn: Transaction, inode: InodeNo, block: BlockIndex) -> None:
        txn.delete(_KEY.pack(inode, block), db=self._db)

    def of_inode(self, txn: Transaction, inode: InodeNo) -> Iterator[tuple[BlockIndex, Extent]]:
        """Yield (block, extent) in order. The table must not change meanwhile."""
        with txn.cursor(db=self._db) as cursor:
            if not cursor.set_range(_KEY.pack(inode, 0)):
                return
            for key, sealed in cursor:
                row_inode, block = _KEY.unpack(key)
                if row_inode != inode:
                    return
                yield block, _unpack(unseal(key, sealed))

    def iterate(
        self, txn: Transaction, start: tuple[InodeNo, BlockIndex] = (0, 0)
    ) -> Iterator[tuple[InodeNo, BlockIndex, Extent]]:
        with txn.cursor(db=self._db) as cursor:
            if not cursor.set_range(_KEY.pack(*start)):
                return
            for key, sealed in cursor:
                inode, block = _KEY.unpack(key)
                yield inode, block, _unpack(unseal(key, sealed))


def _unpack(value: bytes) -> Extent:
    count = (len(value) - _ROW.size) // 8
    return Extent._make((*_ROW.unpack_from(value), struct.unpack_from(f"<{count}Q", value, _ROW.size)))
