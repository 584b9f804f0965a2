"""Access marks: one byte a block in a file that readers write through mmap, since they cannot write the index.

A block's slot is its `order` modulo the number of slots. Two blocks may share a slot when more than MARK_SLOTS blocks were
cached since; then one keeps the other alive a round longer, which costs a little hit ratio and nothing else.

The file is allocated as a whole: a write through mmap that finds no space on the disk is a SIGBUS, which kills its process. Where
there is no room for it, each process marks in memory of its own, and fetch sees nothing of what was read.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
from pathlib import Path

log = logging.getLogger(__name__)

MARK_SLOTS = 1 << 24  # 16 million blocks, 16 MiB
ROOM_FACTOR = 1.5


class Marks:
    """Invariant: 0 = not read since the hand passed, 1 = read. Lost marks only cost hit ratio. `is_shared`: others see them."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        try:
            if create and os.fstat(fd).st_size != MARK_SLOTS:
                os.ftruncate(fd, 0)
                os.ftruncate(fd, MARK_SLOTS)
            if create:
                _allocate(fd, path)
            self.is_shared = os.fstat(fd).st_blocks * 512 >= MARK_SLOTS
            # A private map of the file would not do: on tmpfs even reading a hole takes space.
            self._map = mmap.mmap(fd if self.is_shared else -1, MARK_SLOTS)
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


def _allocate(fd: int, path: Path) -> None:
    try:
        if os.fstat(fd).st_blocks * 512 >= MARK_SLOTS:
            return
        space = os.statvfs(path)
        if space.f_bavail * space.f_frsize < ROOM_FACTOR * MARK_SLOTS:  # what was tried in vain could stay allocated
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.posix_fallocate(fd, 0, MARK_SLOTS)
    except OSError as error:
        log.warning("no room for access marks in %s: %s; what leaves the cache is chosen without them", path, error)
