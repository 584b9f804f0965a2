"""Tables `names` (parent, name → inode) and `dirseq` (parent, seq → name): what a directory holds, and in which order readdir
tells it.

`seq` is the offset of readdir: it grows with every name that is added to the directory and is never reused, so that a listing
that grows (or a refresh) while somebody reads it neither repeats nor skips what was there all the time.

names: key parent (8 bytes big-endian) + name; value, sealed:

| field | type | meaning |
|---|---|---|
| inode | u64 | |
| kind | u8 | EntryKind, so that a plain readdir needs no inode row |
| seq | u64 | its place in dirseq |
| pass | u32 | the listing pass that saw it last; a complete pass removes older ones |
| checked_at | u32 | wall clock seconds of a stat of this name alone, 0 if never |

dirseq: key parent + seq (8 + 8 bytes big-endian); value, sealed: inode u64, kind u8, name.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from fusecache.index.environment import Environment, Transaction
from fusecache.index.inodes import InodeNo
from fusecache.index.sealed import seal, unseal

_PARENT = struct.Struct(">Q")
_SEQ_KEY = struct.Struct(">QQ")
_SEQ = struct.Struct(">Q")  # behind the parent
_NAME_ROW = struct.Struct("<QBQII")
_SEQ_ROW = struct.Struct("<QB")


class NameRow(NamedTuple):
    inode: InodeNo
    kind: int
    seq: int
    listing_pass: int
    checked_at: int


class SeqRow(NamedTuple):
    seq: int
    inode: InodeNo
    kind: int
    name: bytes


_make_seq_row = SeqRow._make  # half the time of SeqRow(...), which counts where a listing makes thousands


class Names:
    """Invariant: every row of names has exactly one row of dirseq, and the other way round."""

    def __init__(self, env: Environment) -> None:
        self._names = env.db["names"]
        self._dirseq = env.db["dirseq"]

    def get(self, txn: Transaction, parent: InodeNo, name: bytes) -> NameRow | None:
        key = _PARENT.pack(parent) + name
        sealed = txn.get(key, db=self._names)
        return None if sealed is None else NameRow(*_NAME_ROW.unpack(unseal(key, sealed)))

    def get_many(self, txn: Transaction, parent: InodeNo, names: Iterable[bytes]) -> dict[bytes, NameRow]:
        """Return the rows of those names that there are."""
        prefix = _PARENT.pack(parent)
        with txn.cursor(db=self._names) as cursor:
            rows = cursor.getmulti([prefix + name for name in names])
        return {key[8:]: NameRow(*_NAME_ROW.unpack(unseal(key, sealed))) for key, sealed in rows}

    def put_many(self, txn: Transaction, parent: InodeNo, rows: Sequence[tuple[bytes, NameRow]]) -> None:
        """As `put` for each: half the time, more where names do not come in order."""
        prefix = _PARENT.pack(parent)
        by_name, by_seq = [], []
        for name, row in rows:
            key = prefix + name
            by_name.append((key, seal(key, _NAME_ROW.pack(*row))))
            seq_key = _SEQ_KEY.pack(parent, row.seq)
            by_seq.append((seq_key, seal(seq_key, _SEQ_ROW.pack(row.inode, row.kind) + name)))
        by_name.sort()  # neighbours lie on the same page of the file
        with txn.cursor(db=self._names) as cursor:
            cursor.putmulti(by_name)
        with txn.cursor(db=self._dirseq) as cursor:
            cursor.putmulti(by_seq)

    def put(self, txn: Transaction, parent: InodeNo, name: bytes, row: NameRow) -> None:
        key = _PARENT.pack(parent) + name
        txn.put(key, seal(key, _NAME_ROW.pack(*row)), db=self._names)
        seq_key = _SEQ_KEY.pack(parent, row.seq)
        txn.put(seq_key, seal(seq_key, _SEQ_ROW.pack(row.inode, row.kind) + name), db=self._dirseq)

    def touch(self, txn: Transaction, parent: InodeNo, name: bytes, row: NameRow) -> None:
        """Store a row whose inode, kind and seq did not change (only pass or checked_at)."""
        key = _PARENT.pack(parent) + name
        txn.put(key, seal(key, _NAME_ROW.pack(*row)), db=self._names)

    def delete(self, txn: Transaction, parent: InodeNo, name: bytes) -> NameRow | None:
        row = self.get(txn, parent, name)
        if row is not None:
            txn.delete(_PARENT.pack(parent) + name, db=self._names)
            txn.delete(_SEQ_KEY.pack(parent, row.seq), db=self._dirseq)
        return row

    def after(self, txn: Transaction, parent: InodeNo, seq: int, count: int) -> list[SeqRow]:
        """Return up to `count` rows of a directory whose seq is greater than `seq`, in order."""
        found: list[SeqRow] = []
        prefix = _PARENT.pack(parent)
        with txn.cursor(db=self._dirseq) as cursor:
            if not cursor.set_range(_SEQ_KEY.pack(parent, seq + 1)):
                return found
            for key, sealed in itertools.islice(cursor, count):
                if not key.startswith(prefix):
                    break
                found.append(_seq_row(key, sealed))
        return found

    def before(self, txn: Transaction, parent: InodeNo, seq: int, count: int) -> list[SeqRow]:
        """Return up to `count` rows of a directory whose seq is smaller than `seq`, the nearest first."""
        found: list[SeqRow] = []
        prefix = _PARENT.pack(parent)
        with txn.cursor(db=self._dirseq) as cursor:
            if not (cursor.prev() if cursor.set_range(_SEQ_KEY.pack(parent, seq)) else cursor.last()):
                return found
            for key, sealed in cursor.iterprev():
                if not key.startswith(prefix) or len(found) >= count:
                    break
                found.append(_seq_row(key, sealed))
        return found

    def iterate(self, txn: Transaction, parent: InodeNo, start: bytes = b"") -> Iterator[tuple[bytes, NameRow]]:
        """Yield (name, row) in bytewise order of names, from `start` on. The table must not change meanwhile."""
        prefix = _PARENT.pack(parent)
        with txn.cursor(db=self._names) as cursor:
            if not cursor.set_range(prefix + start):
                return
            for key, sealed in cursor:
                if not key.startswith(prefix):
                    return
                yield bytes(key[8:]), NameRow(*_NAME_ROW.unpack(unseal(key, sealed)))


def _seq_row(key: bytes, sealed: bytes) -> SeqRow:
    value = unseal(key, sealed)
    inode, kind = _SEQ_ROW.unpack_from(value)
    return _make_seq_row((_SEQ.unpack_from(key, 8)[0], inode, kind, value[_SEQ_ROW.size :]))
