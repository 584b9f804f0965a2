"""Buffers for large ranges, used again and again: a fresh one costs a page fault and zeroing for every 4 KiB.

Thread-safe. Invariant: at most `kept_bytes` lie here unused, none after `release_idle`; a borrowed buffer is its borrower's.
Sizes are powers of two, and each buffer is anonymous memory of its own: only what was written to takes memory, and it goes back
to the system as soon as the buffer is let go, which malloc does not promise.
"""

from __future__ import annotations

import contextlib
import mmap
import threading
from collections import defaultdict
from collections.abc import Iterator

from fusecache.fetch.range_size import MAX_RANGE_BYTES

POOLED_BYTES = 1 << 20  # below this malloc's own memory is warm enough
KEPT_BYTES = 5 * MAX_RANGE_BYTES


class BufferPool:
    def __init__(self, kept_bytes: int = KEPT_BYTES) -> None:
        self._lock = threading.Lock()
        self._free: defaultdict[int, list[mmap.mmap]] = defaultdict(list)
        self._most = kept_bytes
        self._used = False
        self.kept_bytes = 0

    @contextlib.contextmanager
    def borrow(self, length: int) -> Iterator[memoryview]:
        """Give a buffer of `length` bytes with anything in it."""
        buffer = self.take(length)
        try:
            with memoryview(buffer) as view, view[:length] as target:
                yield target
        finally:
            self.give_back(buffer)

    def take(self, length: int) -> mmap.mmap:
        """Return a buffer of at least `length` bytes with anything in it: for `give_back`, or just to be dropped."""
        size = max(mmap.PAGESIZE, 1 << (length - 1).bit_length())
        with self._lock:
            self._used = True
            if self._free[size]:
                self.kept_bytes -= size
                return self._free[size].pop()
        return mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)

    def give_back(self, buffer: mmap.mmap) -> None:
        """Nobody looks at it any more. (One that is not kept ends with its last reference.)"""
        size = len(buffer)
        with self._lock:
            if self.kept_bytes + size <= self._most:
                self.kept_bytes += size
                self._free[size].append(buffer)

    def release_idle(self) -> None:
        """Called now and then: gives the memory back when nothing was borrowed since the last call."""
        with self._lock:
            if not self._used:
                self._free.clear()
                self.kept_bytes = 0
            self._used = False
