"""Table `order`: per tier, the blocks in the order in which they came: the queue that SIEVE's hand walks over.

It lies in the index, not in memory, because ten million blocks must not be ten million objects. Key: tier (1 byte) + order (8
bytes big-endian, from meta.next_order); value, sealed: inode u64, block u32.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from fusecache.index.environment import Environment, Transaction
from fusecache.index.extents import BlockIndex
from fusecache.index.inodes import InodeNo
from fusecache.index.sealed import seal, unseal

_KEY = struct.Struct(">BQ")
_ROW = struct.Struct("<QI")


class OrderRow(NamedTuple):
    order: int
    inode: InodeNo
    block: BlockIndex


class Order:
    def __init__(self, env: Environment) -> None:
        self._db = env.db["order"]

    def put(self, txn: Transaction, tier: int, order: int, inode: InodeNo, block: BlockIndex) -> None:
        key = _KEY.pack(tier, order)
        txn.put(key, seal(key, _ROW.pack(inode, block)), db=self._db)

    def delete(self, txn: Transaction, tier: int, order: int) -> None:
        txn.delete(_KEY.pack(tier, order), db=self._db)

    def after(self, txn: Transaction, tier: int, order: int, count: int) -> list[OrderRow]:
        """Return up to `count` rows of a tier whose order is greater than `order`, oldest first."""
        found: list[OrderRow] = []
        with txn.cursor(db=self._db) as cursor:
            if not cursor.set_range(_KEY.pack(tier, order + 1)):
                return found
            for key, sealed in cursor:
                row_tier, row_order = _KEY.unpack(key)
                if row_tier != tier:
                    break
                found.append(OrderRow(row_order, *_ROW.unpack(unseal(key, sealed))))
                if len(found) >= count:
                    break
        return found
