"""Table `inodes`: one row per (object, version), `orphans`: those that no name points to any more.

An inode number pins a reader to a version without OPEN, so a replaced object gets a new one and the old row stays, as an
orphan, until the FUSE connection that may know it has ended.

Key: inode, 8 bytes big-endian. Value (little-endian, then sealed):

| field | type | meaning |
|---|---|---|
| kind | u8 | EntryKind |
| flags | u8 | InodeFlag |
| mode | u16 | permission bits, or NO_MODE: the mount's default |
| uid, gid | u32 | or NO_OWNER: the mount's default |
| nlink | u32 | |
| size | u64 | bytes |
| mtime_ns, ctime_ns | i64 | nanoseconds |
| parent | u64 | the directory it was first seen in; of a directory: its ".." |
| source | u64 | SourceId, 0 for synthetic directories |
| identity | u64 | seeds the block checksums: hash of source, path and version |
| path length, version length, target length | u16, u8, u16 | |
| path, version, target | bytes | path in the source |
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Iterable
from typing import NamedTuple, NewType

from xxhash import xxh3_64_intdigest

from fusecache.index.environment import Environment, Transaction
from fusecache.index.sealed import IndexDamagedError, seal, unseal

InodeNo = int
SourceId = NewType("SourceId", int)

ROOT: InodeNo = 1
EPOCH_SHIFT = 48
NO_MODE = 0xFFFF
NO_OWNER = 0xFFFFFFFF

_KEY = struct.Struct(">Q")
_ROW = struct.Struct("<BBHIIIQqqQQQHBH")
_HEAD = struct.Struct("<BBHIIIQqq")


class InodeFlag(enum.IntFlag):
    NEEDS_STAT = 1  # size and version are inexact: no attribute of it was ever answered to the kernel
    ORPHAN = 2  # replaced or deleted at the source
    GONE = 4  # the source was seen without this version: what is not cached is ESTALE without asking again
    HARD_LINKED = 8
    CHECK_BY_NAME = 16  # its directory's listing is inexact: a name that points to it is valid by NameRow.checked_at alone


class Inode(NamedTuple):
    kind: int
    flags: int
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    mtime_ns: int
    ctime_ns: int
    parent: InodeNo
    source: int
    identity: int
    path: bytes
    version: bytes
    target: bytes


class InodeHead(NamedTuple):
    """The first fields of a row: what stat(2) tells."""

    kind: int
    flags: int
    mode: int
    uid: int
    gid: int
    nlink: int
    size: int
    mtime_ns: int
    ctime_ns: int


def identity_of(source: int, path: bytes, version: bytes) -> int:
    return int(xxh3_64_intdigest(struct.pack("<QH", source, len(path)) + path + version))


def inode_key(inode: InodeNo) -> bytes:
    return _KEY.pack(inode)


class Inodes:
    def __init__(self, env: Environment) -> None:
        self._db = env.db["inodes"]
        self._orphans = env.db["orphans"]

    def get(self, txn: Transaction, inode: InodeNo) -> Inode | None:
        key = _KEY.pack(inode)
        sealed = txn.get(key, db=self._db)
        if sealed is None:
            return None
        value = unseal(key, sealed)
        fields = _ROW.unpack_from(value)
        start = _ROW.size
        path_end = start + fields[12]
        version_end = path_end + fields[13]
        if version_end + fields[14] != len(value):
            raise IndexDamagedError(f"inode {inode} has a row of the wrong length")
        return Inode._make((*fields[:12], value[start:path_end], value[path_end:version_end], value[version_end:]))

    def heads(self, txn: Transaction, inodes: Iterable[InodeNo]) -> dict[InodeNo, InodeHead]:
        """Return the heads of those inodes that there are: a third of the time of as many `get`."""
        with txn.cursor(db=self._db) as cursor:
            rows = cursor.getmulti([_KEY.pack(inode) for inode in inodes])
        return {_KEY.unpack(key)[0]: InodeHead._make(_HEAD.unpack_from(unseal(key, sealed))) for key, sealed in rows}

    def put(self, txn: Transaction, inode: InodeNo, row: Inode) -> None:
        txn.put(*_sealed_row(inode, row), db=self._db)

    def put_many(self, txn: Transaction, rows: Iterable[tuple[InodeNo, Inode]]) -> None:
        """Store rows, fastest in the order of their numbers."""
        with txn.cursor(db=self._db) as cursor:
            cursor.putmulti([_sealed_row(inode, row) for inode, row in rows])

    def delete(self, txn: Transaction, inode: InodeNo) -> None:
        txn.delete(_KEY.pack(inode), db=self._db)
        txn.delete(_KEY.pack(inode), db=self._orphans)

    def mark_orphan(self, txn: Transaction, inode: InodeNo) -> None:
        """No name points to it any more; readers that hold it may go on."""
        row = self.get(txn, inode)
        if row is not None:
            self.put(txn, inode, row._replace(flags=row.flags | InodeFlag.ORPHAN))
            txn.put(_KEY.pack(inode), b"", db=self._orphans)

    def adopt(self, txn: Transaction, inode: InodeNo) -> None:
        """A name points to an orphan again (the source went back to an old version)."""
        row = self.get(txn, inode)
        if row is not None:
            self.put(txn, inode, row._replace(flags=row.flags & ~(InodeFlag.ORPHAN | InodeFlag.GONE)))
            txn.delete(_KEY.pack(inode), db=self._orphans)

    def orphans(self, txn: Transaction, limit: int = 1000) -> list[InodeNo]:
        found = []
        with txn.cursor(db=self._orphans) as cursor:
            for key in cursor.iternext(keys=True, values=False):
                found.append(_KEY.unpack(key)[0])
                if len(found) >= limit:
                    break
        return found

    def count(self, txn: Transaction) -> int:
        return int(txn.stat(db=self._db)["entries"])


def _sealed_row(inode: InodeNo, row: Inode) -> tuple[bytes, bytes]:
    path, version, target = row[12:]
    key = _KEY.pack(inode)
    return key, seal(key, _ROW.pack(*row[:12], len(path), len(version), len(target)) + path + version + target)
