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
        # Read, not mapped: a page that was never written stays a hole, and rows are taken from the first on.
        self._memory = mmap.mmap(fd, TOTAL_BYTES)
        self._rows: dict[int, int] = {}
        self._given_back: list[int] = []
        data = os.pread(fd, TOTAL_BYTES, 0)
        used = data[: MODES * ROW_BYTES].rstrip(b"\0")
        self._next_row = -(-len(used) // ROW_BYTES)  # this one and all after it are free
        for row in range(self._next_row):
            inode = _U64.unpack_from(data, row * ROW_BYTES)[0]
            if inode:
                self._rows[inode] = row
            else:
                self._given_back.append(row)
        self._next_answer = 0
        self._answers = list(_answers(data[MODES * ROW_BYTES :])) if any(data[MODES * ROW_BYTES :]) else []

    def modes(self) -> Iterator[tuple[int, int, int]]:
        """Yield inode, backing id, opens."""
        for inode, row in self._rows.items():
            yield (inode, *_REST.unpack_from(self._memory, row * ROW_BYTES + 8))

    def take_answers(self) -> list[tuple[str, int, int]]:
        """Return question, unique, backing id of what was there at the start, once."""
        found, self._answers = self._answers, []
        return found

    def put(self, inode: int, backing_id: int, opens: int) -> None:
        row = self._rows.get(inode)
        if row is None:
            if self._given_back:
                row = self._given_back.pop()
            elif self._next_row < MODES:
                row, self._next_row = self._next_row, self._next_row + 1
            else:
                return
            self._rows[inode] = row
        _REST.pack_into(self._memory, row * ROW_BYTES + 8, backing_id, opens)
        _U64.pack_into(self._memory, row * ROW_BYTES, inode)

    def drop(self, inode: int) -> None:
        row = self._rows.pop(inode, None)
        if row is not None:
            _U64.pack_into(self._memory, row * ROW_BYTES, 0)
            self._given_back.append(row)

    def answered(self, question: str, unique: int, backing_id: int) -> None:
        at = (MODES + self._next_answer) * ROW_BYTES
        self._next_answer = (self._next_answer + 1) % ANSWERS
        _REST.pack_into(self._memory, at + 8, 0, 0)
        _U64.pack_into(self._memory, at, unique)
        _REST.pack_into(self._memory, at + 8, backing_id, QUESTIONS.index(question))

    def close(self) -> None:
        self._memory.close()


def _answers(data: bytes) -> Iterator[tuple[str, int, int]]:
    for at in range(0, len(data), ROW_BYTES):
        unique = _U64.unpack_from(data, at)[0]
        backing_id, question = _REST.unpack_from(data, at + 8)
        if 0 < question < len(QUESTIONS):
            yield QUESTIONS[question], unique, backing_id
