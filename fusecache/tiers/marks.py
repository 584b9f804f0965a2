"""Access marks: one byte a block in a file that readers write through mmap, since they cannot write the index.

A mark says when the block was read last, in ticks of a clock that fetch advances (`tiers/admission.py` says how long one is): 1
to TICKS, and round again. Byte 0 of the file is the clock. So fetch sees how long a block was idle without having to clear its
mark first and to come back later.

A block's slot is made of its `order`. Two blocks may share a slot when more than MARK_SLOTS blocks were cached since; then one
keeps the other alive a while longer, which costs a little hit ratio and nothing else.

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

FILE_BYTES = 1 << 24
MARK_SLOTS = FILE_BYTES - 1  # 16 million blocks, 16 MiB, less the clock
TICKS = 254  # what a byte holds besides UNREAD and COLD
NEVER = 255  # ticks: longer than any idle time that can be told
_CLOCK = 0  # the clock's place in the file
_UNREAD, _COLD = 0, 255
ROOM_FACTOR = 1.5


class Marks:
    """Invariants: a mark is UNREAD (not read since it was cached, or since SIEVE's hand passed), the tick of its last read, or
    COLD (the first to leave, unless it is read again). Lost marks only cost hit ratio. `is_shared`: other processes see them."""

    def __init__(self, path: Path, *, create: bool = False) -> None:
        fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | (os.O_CREAT if create else 0), 0o600)
        try:
            if create and os.fstat(fd).st_size != FILE_BYTES:
                os.ftruncate(fd, 0)
                os.ftruncate(fd, FILE_BYTES)
            if create:
                _allocate(fd, path)
            self.is_shared = os.fstat(fd).st_blocks * 512 >= FILE_BYTES
            # A private map of the file would not do: on tmpfs even reading a hole takes space.
            self._map = mmap.mmap(fd if self.is_shared else -1, FILE_BYTES)
        finally:
            os.close(fd)
        if not 1 <= self._map[_CLOCK] <= TICKS:  # a new file
            self._map[_CLOCK] = 1

    # -- the clock

    @property
    def tick(self) -> int:
        return self._map[_CLOCK]

    def advance(self) -> None:
        """Fetch only."""
        self._map[_CLOCK] = self._map[_CLOCK] % TICKS + 1

    # -- one block's mark

    def set(self, order: int) -> None:
        """The block is read now."""
        slot, now = 1 + order % MARK_SLOTS, self._map[_CLOCK]
        if self._map[slot] != now:  # a read is cheaper than dirtying a page that is set already
            self._map[slot] = now

    def clear(self, order: int) -> None:
        self._map[1 + order % MARK_SLOTS] = _UNREAD

    def chill(self, order: int) -> None:
        """Let the block be the first to leave."""
        self._map[1 + order % MARK_SLOTS] = _COLD

    def move(self, order: int, to: int) -> None:
        """Let another slot say the same; what was not read yet counts as read now."""
        self._map[1 + to % MARK_SLOTS] = self._map[1 + order % MARK_SLOTS] or self.tick

    def take(self, order: int) -> bool:
        """Return whether the block was read since the last time, and clear its mark."""
        if self.is_set(order):
            self.clear(order)
            return True
        return False

    def is_set(self, order: int) -> bool:
        return self._map[1 + order % MARK_SLOTS] not in (_UNREAD, _COLD)

    def is_unread(self, order: int) -> bool:
        return self._map[1 + order % MARK_SLOTS] == _UNREAD

    def idle_ticks(self, order: int) -> int:
        """Return the ticks since the block was read, modulo TICKS: who asks must ask often enough, and `chill` what is old."""
        mark = self._map[1 + order % MARK_SLOTS]
        return NEVER if mark in (_UNREAD, _COLD) else (self._map[_CLOCK] - mark) % TICKS

    def close(self) -> None:
        self._map.close()


def _allocate(fd: int, path: Path) -> None:
    try:
        if os.fstat(fd).st_blocks * 512 >= FILE_BYTES:
            return
        space = os.statvfs(path)
        if space.f_bavail * space.f_frsize < ROOM_FACTOR * FILE_BYTES:  # what was tried in vain could stay allocated
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.posix_fallocate(fd, 0, FILE_BYTES)
    except OSError as error:
        log.warning("no room for access marks in %s: %s; what leaves the cache is chosen without them", path, error)
