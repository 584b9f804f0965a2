"""Table `order`: per tier, the blocks in the order in which they came: the queues that the hands of eviction walk over.

They lie in the index, not in memory, because ten million blocks must not be ten million objects. Key: queue (1 byte: the tier,
plus PROBATION for blocks whose extent has the flag of that name) + order (8 bytes big-endian, from meta.next_order); value,
sealed: inode u64, block u32.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from fusecache.index.environment import Environment, Transaction
from fusecache.index.extents import BlockIndex
from fusecache.index.inodes import InodeNo
from fusecache.index.sealed import seal, unseal

PROBATION = 0x80  # of a tier's two queues the one whose blocks leave first

_KEY = struct.Struct(">BQ")
_ROW = struct.Struct("<QI")


class OrderRow(NamedTuple):
    order: int
    inode: InodeNo
    block: BlockIndex


class Order:
    def __init__(self, env: Environment) -> None:
        self._db = env.db["order"]

    def put(self, txn: Transaction, queue: int, order: int, inode: InodeNo, block: BlockIndex) -> None:
        key = _KEY.pack(queue, order)
        txn.put(key, seal(key, _ROW.pack(inode, block)), db=self._db)

    def delete(self, txn: Transaction, queue: int, order: int) -> None:
        txn.delete(_KEY.pack(queue, order), db=self._db)

    def after(self, txn: Transaction, queue: int, order: int, count: int) -> list[OrderRow]:
        """Return up to `count` rows of a queue whose order is greater than `order`, oldest first."""
        found: list[OrderRow] = []
        with txn.cursor(db=self._db) as cursor:
            if not cursor.set_range(_KEY.pack(queue, order + 1)):
                return found
            for key, sealed in cursor:
                row_queue, row_order = _KEY.unpack(key)
                if row_queue != queue:
                    break
                found.append(OrderRow(row_order, *_ROW.unpack(unseal(key, sealed))))
                if len(found) >= count:
                    break
        return found
