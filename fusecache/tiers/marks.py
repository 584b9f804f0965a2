"""Access marks: one byte a block in a file that readers write through mmap, since they cannot write the index.

A block's slot is its `order` modulo the number of slots. Two blocks may share a slot when more than MARK_SLOTS blocks were
cached since; then one keeps the other alive a round longer, which costs a little hit ratio and nothing else.
"""

from __future__ import annotations

import mmap
import os
from pathlib import Path

MARK_SLOTS = 1 << 24  # 16 million blocks; a sparse file of 16 MiB of which only touched pages exist


class Marks:
    """Invariant: 0 = not read since the hand passed, 1 = read. Lost marks only cost hit ratio."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        try:
            if create and os.fstat(fd).st_size != MARK_SLOTS:
                os.ftruncate(fd, 0)
                os.ftruncate(fd, MARK_SLOTS)
            self._map = mmap.mmap(fd, MARK_SLOTS)
        finally:
            os.close(fd)

    def set(self, order: int) -> None:
        slot = order % MARK_SLOTS
        if not self._map[slot]:  # a read is cheaper than dirtying a page that is set already
            self._map[slot] = 1

    def take(self, order: int) -> bool:
        """Return whether the block was read, and clear its mark."""
        slot = order % MARK_SLOTS
        if self._map[slot]:
            self._map[slot] = 0
            return True
        return False

    def is_set(self, order: int) -> bool:
        return bool(self._map[order % MARK_SLOTS])

    def close(self) -> None:
        self._map.close()
