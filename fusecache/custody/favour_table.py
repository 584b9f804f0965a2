"""The I/O modes of inodes and the latest answers, in a memfd that outlives custody (contract/keeping.py).

Owns the layout below, and which rows are free. One writer: whoever answers favours. A row is written with its inode last when it
is taken, and first when it is given back, so that a death between leaves no half of one.

| rows | little-endian |
|---|---|
| `MODES` of 16 bytes | inode u64 (0: free), backing id u32 (0: cached), opens u32 |
| `ANSWERS` of 16 bytes, a ring | unique u64, backing id u32, question u32 (0: free, 1 open, 2 release) |
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

MODES = 1 << 16
ANSWERS = 4096
ROW_BYTES = 16
TOTAL_BYTES = (MODES + ANSWERS) * ROW_BYTES
_U64 = struct.Struct("<Q")
_REST = struct.Struct("<II")
QUESTIONS = ("", "open", "release")


def make_favour_table() -> int:
    """Return the memfd, all free."""
    fd = os.memfd_create("fusecache-favours", os.MFD_CLOEXEC)
    os.ftruncate(fd, TOTAL_BYTES)
    return fd


class FavourTable:
    """A table that is full takes nothing more: what is not in it is forgotten if custody dies, and then counted anew."""

    def __init__(self, fd: int) -> None:
        self._memory = mmap.mmap(fd, TOTAL_BYTES)
        self._rows: dict[int, int] = {}
        self._free: list[int] = []
        for row in reversed(range(MODES)):
            inode = _U64.unpack_from(self._memory, row * ROW_BYTES)[0]
            if inode:
                self._rows[inode] = row
            else:
                self._free.append(row)
        self._next_answer = 0

    def modes(self) -> Iterator[tuple[int, int, int]]:
        """Yield inode, backing id, opens."""
        for inode, row in self._rows.items():
            yield (inode, *_REST.unpack_from(self._memory, row * ROW_BYTES + 8))

    def answers(self) -> Iterator[tuple[str, int, int]]:
        """Yield question, unique, backing id."""
        for row in range(MODES, MODES + ANSWERS):
            unique = _U64.unpack_from(self._memory, row * ROW_BYTES)[0]
            backing_id, question = _REST.unpack_from(self._memory, row * ROW_BYTES + 8)
            if 0 < question < len(QUESTIONS):
                yield QUESTIONS[question], unique, backing_id

    def put(self, inode: int, backing_id: int, opens: int) -> None:
        row = self._rows.get(inode)
        if row is None:
            if not self._free:
                return
            row = self._rows[inode] = self._free.pop()
        _REST.pack_into(self._memory, row * ROW_BYTES + 8, backing_id, opens)
        _U64.pack_into(self._memory, row * ROW_BYTES, inode)

    def drop(self, inode: int) -> None:
        row = self._rows.pop(inode, None)
        if row is not None:
            _U64.pack_into(self._memory, row * ROW_BYTES, 0)
            self._free.append(row)

    def answered(self, question: str, unique: int, backing_id: int) -> None:
        at = (MODES + self._next_answer) * ROW_BYTES
        self._next_answer = (self._next_answer + 1) % ANSWERS
        _REST.pack_into(self._memory, at + 8, 0, 0)
        _U64.pack_into(self._memory, at, unique)
        _REST.pack_into(self._memory, at + 8, backing_id, QUESTIONS.index(question))

    def close(self) -> None:
        self._memory.close()
