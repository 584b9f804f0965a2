"""Table `meta`: the numbers of the whole index. All values are u64, little-endian, sealed; ids are 16 bytes, sealed.

| key | meaning |
|---|---|
| schema | SCHEMA_VERSION |
| id | 16 random bytes, made with the index: which index this is |
| epoch | high 16 bits of every inode number in it |
| block_size, granule_size | geometry that extents were written with |
| next_inode, next_container, next_order | next number to give out; none is ever reused |
| files, total_bytes | of the names known |
| used:N | bytes of live extents in tier N, each rounded up to ALIGNMENT |
| cached_bytes | bytes of live extents of inodes that are no orphans: changed with extents, and when an inode becomes one |
| probation:N | of these, bytes of extents with the flag PROBATION |
| hand:N | the order of the block that eviction looked at last in tier N, of those not on probation |
| hidden | objects that cannot be shown |
| link:S:F | inode of the file that source S calls F (in hex): hard links share one |
| names:I | names that point to the hard linked inode I (in hex) |
| places | digest of the sources and their places that the tree has; missing while they are changed (fetch/roots.py) |
| generation | number of FUSE connections this index was used for |
"""

from __future__ import annotations

import struct

from fusecache.index.environment import Environment, Transaction
from fusecache.index.sealed import seal, unseal

_U64 = struct.Struct("<Q")


class Meta:
    def __init__(self, env: Environment) -> None:
        self._db = env.db["meta"]

    def get(self, txn: Transaction, key: str, default: int = 0) -> int:
        raw_key = key.encode()
        sealed = txn.get(raw_key, db=self._db)
        return default if sealed is None else int(_U64.unpack(unseal(raw_key, sealed))[0])

    def put(self, txn: Transaction, key: str, value: int) -> None:
        raw_key = key.encode()
        txn.put(raw_key, seal(raw_key, _U64.pack(value)), db=self._db)

    def delete(self, txn: Transaction, key: str) -> None:
        txn.delete(key.encode(), db=self._db)

    def get_id(self, txn: Transaction) -> bytes | None:
        sealed = txn.get(b"id", db=self._db)
        return None if sealed is None else unseal(b"id", sealed)

    def put_id(self, txn: Transaction, value: bytes) -> None:
        txn.put(b"id", seal(b"id", value), db=self._db)
