"""What is being written: `writes` (inode -> its stage), `parts` of uploads under way, `handles` (open files), `changes`
(outcomes of requests that may come again). They stand in the index, so that a change and what it did to the tree are one
transaction.

| table | key, big-endian | value, sealed |
|---|---|---|
| writes | inode u64 | stage u64, base u64, flags u32, then JSON: what fetch must know (`WriteRow.note`) |
| aliases | inode u64 | inode u64: what the file became when it was closed; the kernel may still call it by the old number |
| known | inode u64 | inode u64: by which number the kernel knows it, the other way round: it must have one for each file |
| xattrs | inode u64 | JSON: name -> value, both in hex; all that are kept with the object. Without a row nobody has asked yet |
| parts | inode u64, number u32 | JSON |
| handles | handle u64 | inode u64 |
| changes | unique u64 | JSON |
"""

from __future__ import annotations

import enum
import json
import struct
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from fusecache.index.environment import Environment, Transaction
from fusecache.index.inodes import InodeNo
from fusecache.index.sealed import seal, unseal

_KEY = struct.Struct(">Q")
_PART_KEY = struct.Struct(">QI")
_HEAD = struct.Struct("<QQI")


class WriteFlag(enum.IntFlag):
    UNLINKED = 1  # no name leads to it any more: nothing of it is uploaded
    LOST = 2  # the store has another version by now: see the note


class WriteRow(NamedTuple):
    """`base`: the inode whose bytes lie under the stage: at first the file's own, then the version last uploaded. `note`: of
    fetch alone (fetch/written.py)."""

    stage: int
    base: InodeNo
    flags: int
    note: Mapping[str, Any]


class Writes:
    """Invariant: an inode with handles has a row in writes.

    The process that writes keeps in memory the rows that it put: it asks for each many times."""

    def __init__(self, env: Environment) -> None:
        self._writes = env.db["writes"]
        self._parts = env.db["parts"]
        self._handles = env.db["handles"]
        self._changes = env.db["changes"]
        self._aliases = env.db["aliases"]
        self._known = env.db["known"]
        self._xattrs = env.db["xattrs"]
        self._put: dict[InodeNo, WriteRow] = {}
        env.on_abort = self._put.clear

    def stage_of(self, txn: Transaction, inode: InodeNo) -> tuple[int, InodeNo] | None:
        """Return stage and base of a file that is being written; for the way of a hit."""
        key = _KEY.pack(inode)
        sealed = txn.get(key, db=self._writes)
        if sealed is None:
            return None
        stage, base, _ = _HEAD.unpack_from(unseal(key, sealed))
        return stage, base

    def resolve(self, txn: Transaction, inode: InodeNo) -> InodeNo:
        """Return the inode that a number of the kernel's stands for now."""
        while True:
            key = _KEY.pack(inode)
            sealed = txn.get(key, db=self._aliases)
            if sealed is None:
                return inode
            inode = _KEY.unpack(unseal(key, sealed))[0]

    def known_as(self, txn: Transaction, inode: InodeNo) -> InodeNo:
        """Return the number that the kernel is to be told of an inode."""
        key = _KEY.pack(inode)
        sealed = txn.get(key, db=self._known)
        return inode if sealed is None else InodeNo(_KEY.unpack(unseal(key, sealed))[0])

    def add_alias(self, txn: Transaction, inode: InodeNo, became: InodeNo) -> None:
        first = self.known_as(txn, inode)
        for one in {first, inode}:  # the kernel's number leads there at once, however often the file was written
            key = _KEY.pack(one)
            txn.put(key, seal(key, _KEY.pack(became)), db=self._aliases)
        key = _KEY.pack(became)
        txn.put(key, seal(key, _KEY.pack(first)), db=self._known)

    def get(self, txn: Transaction, inode: InodeNo) -> WriteRow | None:
        row = self._put.get(inode)
        if row is not None:
            return row
        key = _KEY.pack(inode)
        sealed = txn.get(key, db=self._writes)
        return None if sealed is None else _row(unseal(key, sealed))

    def put(self, txn: Transaction, inode: InodeNo, row: WriteRow) -> None:
        key = _KEY.pack(inode)
        txn.put(key, seal(key, _HEAD.pack(row.stage, row.base, row.flags) + json.dumps(row.note).encode()), db=self._writes)
        self._put[inode] = row

    def delete(self, txn: Transaction, inode: InodeNo) -> None:
        self._put.pop(inode, None)
        txn.delete(_KEY.pack(inode), db=self._writes)
        self.delete_parts(txn, inode)

    def iterate(self, txn: Transaction) -> Iterator[tuple[InodeNo, WriteRow]]:
        with txn.cursor(db=self._writes) as cursor:
            for key, sealed in cursor:
                yield _KEY.unpack(key)[0], _row(unseal(bytes(key), sealed))

    def xattrs(self, txn: Transaction, inode: InodeNo) -> dict[str, str] | None:
        key = _KEY.pack(inode)
        sealed = txn.get(key, db=self._xattrs)
        return None if sealed is None else dict(json.loads(unseal(key, sealed)))

    def put_xattrs(self, txn: Transaction, inode: InodeNo, values: Mapping[str, str]) -> None:
        key = _KEY.pack(inode)
        txn.put(key, seal(key, json.dumps(values).encode()), db=self._xattrs)

    def put_part(self, txn: Transaction, inode: InodeNo, number: int, value: Mapping[str, Any]) -> None:
        key = _PART_KEY.pack(inode, number)
        txn.put(key, seal(key, json.dumps(value).encode()), db=self._parts)

    def parts(self, txn: Transaction, inode: InodeNo) -> dict[int, dict[str, Any]]:
        found: dict[int, dict[str, Any]] = {}
        prefix = _KEY.pack(inode)
        with txn.cursor(db=self._parts) as cursor:
            if cursor.set_range(prefix):
                for key, sealed in cursor:
                    if not key.startswith(prefix):
                        break
                    found[_PART_KEY.unpack(key)[1]] = json.loads(unseal(bytes(key), sealed))
        return found

    def delete_parts(self, txn: Transaction, inode: InodeNo) -> None:
        for number in self.parts(txn, inode):
            txn.delete(_PART_KEY.pack(inode, number), db=self._parts)

    def add_handle(self, txn: Transaction, handle: int, inode: InodeNo) -> None:
        key = _KEY.pack(handle)
        txn.put(key, seal(key, _KEY.pack(inode)), db=self._handles)

    def remove_handle(self, txn: Transaction, handle: int) -> None:
        txn.delete(_KEY.pack(handle), db=self._handles)

    def inode_of(self, txn: Transaction, handle: int) -> InodeNo | None:
        key = _KEY.pack(handle)
        sealed = txn.get(key, db=self._handles)
        return None if sealed is None else InodeNo(_KEY.unpack(unseal(key, sealed))[0])

    def is_open(self, txn: Transaction, inode: InodeNo) -> bool:
        """There are as many handles as files open for writing, so that looking at all of them is cheap."""
        with txn.cursor(db=self._handles) as cursor:
            return any(_KEY.unpack(unseal(bytes(key), sealed))[0] == inode for key, sealed in cursor)

    def close_handles(self, txn: Transaction) -> None:
        txn.drop(self._handles, delete=False)

    def forget_handles(self, txn: Transaction) -> None:
        """The connection that had them is gone."""
        txn.drop(self._handles, delete=False)
        txn.drop(self._changes, delete=False)
        txn.drop(self._aliases, delete=False)
        txn.drop(self._known, delete=False)

    def outcome(self, txn: Transaction, unique: int) -> dict[str, Any] | None:
        """Return what was remembered of a change: its outcome, or how far it came."""
        key = _KEY.pack(unique)
        sealed = txn.get(key, db=self._changes)
        return None if sealed is None else dict(json.loads(unseal(key, sealed)))

    def remember(self, txn: Transaction, unique: int, value: Mapping[str, Any]) -> None:
        key = _KEY.pack(unique)
        txn.put(key, seal(key, json.dumps(value).encode()), db=self._changes)

    def forget(self, txn: Transaction, unique: int) -> None:
        txn.delete(_KEY.pack(unique), db=self._changes)


def _row(value: bytes) -> WriteRow:
    stage, base, flags = _HEAD.unpack_from(value)
    return WriteRow(stage, base, flags, json.loads(value[_HEAD.size :]))
