"""Table `dirs`: what is known about each directory's listing.

Key: inode, 8 bytes big-endian. Value, sealed:

| field | type | meaning |
|---|---|---|
| flags | u8 | DirectoryFlag |
| listing_pass | u32 | number of the current or last pass; names carry the pass that saw them |
| listed_at | f64 | wall clock seconds at which the last complete pass began; 0 if none |
| next_seq | u64 | next readdir offset to give out; FIRST_SEQ at the start, as "." and ".." take 1 and 2 |
| entries | u64 | names in the directory |
| changes | u64 | grows whenever a name appears, goes, or points to another inode: the kernel's cached listing is as old as this |
| hidden | u32 | objects of this directory, as its last pass saw it, that cannot be shown |
| token | bytes | where the current pass goes on; empty if none is under way |
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterator
from typing import NamedTuple

from fusecache.index.environment import Environment, Transaction
from fusecache.index.inodes import InodeNo
from fusecache.index.sealed import seal, unseal

FIRST_SEQ = 3
_KEY = struct.Struct(">Q")
_ROW = struct.Struct("<BIdQQQI")


class DirectoryFlag(enum.IntFlag):
    COMPLETE = 1  # all names of the directory are known, as of listed_at
    SYNTHETIC = 2  # exists only to reach a source's place in the tree
    SOURCE_ROOT = 4
    INEXACT = 8  # its listing does not tell sizes or versions: names are valid by their own checks


class Directory(NamedTuple):
    flags: int = 0
    listing_pass: int = 0
    listed_at: float = 0.0
    next_seq: int = FIRST_SEQ
    entries: int = 0
    changes: int = 0
    hidden: int = 0
    token: bytes = b""

    @property
    def is_complete(self) -> bool:
        return bool(self.flags & DirectoryFlag.COMPLETE)


class Directories:
    def __init__(self, env: Environment) -> None:
        self._db = env.db["dirs"]

    def get(self, txn: Transaction, inode: InodeNo) -> Directory | None:
        key = _KEY.pack(inode)
        sealed = txn.get(key, db=self._db)
        if sealed is None:
            return None
        value = unseal(key, sealed)
        return Directory._make((*_ROW.unpack_from(value), value[_ROW.size :]))

    def put(self, txn: Transaction, inode: InodeNo, row: Directory) -> None:
        key = _KEY.pack(inode)
        txn.put(key, seal(key, _ROW.pack(*row[:7]) + row.token), db=self._db)

    def delete(self, txn: Transaction, inode: InodeNo) -> None:
        txn.delete(_KEY.pack(inode), db=self._db)

    def iterate(self, txn: Transaction, start: InodeNo = 0) -> Iterator[tuple[InodeNo, Directory]]:
        with txn.cursor(db=self._db) as cursor:
            if not cursor.set_range(_KEY.pack(start)):
                return
            for key, sealed in cursor:
                value = unseal(key, sealed)
                yield _KEY.unpack(key)[0], Directory._make((*_ROW.unpack_from(value), value[_ROW.size :]))
