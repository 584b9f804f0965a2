"""Buffers for large ranges, used again and again: a fresh one costs a page fault and zeroing for every 4 KiB.

Thread-safe. Invariant: at most KEPT buffers lie here unused, none after `release_idle`; a borrowed one belongs to its borrower.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from fusecache.fetch.range_size import MAX_RANGE_BYTES

POOLED_BYTES = 1 << 20  # below this malloc's own memory is warm enough
KEPT = 5  # as many large ranges as are in flight for one stream, and a demand


class BufferPool:
    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._free: list[bytearray] = []
        self._used = False

    @contextlib.contextmanager
    def borrow(self, length: int) -> Iterator[memoryview]:
        """Give a buffer of `length` bytes, at most MAX_RANGE_BYTES, with anything in it."""
        with self._lock:
            self._used = True
            buffer = self._free.pop() if self._free else None
        if buffer is None:
            buffer = bytearray(MAX_RANGE_BYTES)
        try:
            with memoryview(buffer) as view, view[:length] as target:
                yield target
        finally:
            with self._lock:
                if len(self._free) < KEPT:
                    self._free.append(buffer)

    def release_idle(self) -> None:
        """Called now and then: gives the memory back when nothing was borrowed since the last call."""
        with self._lock:
            if not self._used:
                self._free.clear()
            self._used = False
