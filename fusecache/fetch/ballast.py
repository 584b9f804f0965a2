"""A few MiB beside the index that are given up when its disk is full: deleting from the index needs pages too.

State: whether the ballast is there. Called by fetch's event loop only; allocating 4 MiB does not write them.
"""

from __future__ import annotations

import logging
import os
import time
from pathlib import Path

from fusecache.contract.run_files import BALLAST

log = logging.getLogger(__name__)

BALLAST_BYTES = 4 << 20
RETRY_SECONDS = 10.0
ROOM_FACTOR = 4  # it is made again when the disk has so many times its size: not to take what was just given


class Ballast:
    """Invariant: while `is_there`, the disk holds BALLAST_BYTES that nobody needs."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / BALLAST
        self._retry_at = 0.0
        self.is_there = False
        self.times_released = 0

    def make(self) -> None:
        """Allocate it. Logged and tried again later if there is no room."""
        try:
            fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            try:
                os.posix_fallocate(fd, 0, BALLAST_BYTES)
            finally:
                os.close(fd)
        except OSError as error:
            log.warning("no room for %d bytes of ballast in %s: %s; free space on that disk", BALLAST_BYTES, self._path, error)
            self._remove()
            self._retry_at = time.monotonic() + RETRY_SECONDS
        else:
            self.is_there = True

    def release(self) -> bool:
        """Give it up; return whether there was some."""
        self._retry_at = time.monotonic() + RETRY_SECONDS
        if not self._remove():
            return False
        self.times_released += 1
        log.warning("the disk of %s is full: gave up the ballast, so that the index can shrink; free space there", self._path)
        return True

    def tick(self) -> None:
        """Make it again when there is room."""
        if self.is_there or time.monotonic() < self._retry_at:
            return
        self._retry_at = time.monotonic() + RETRY_SECONDS
        try:
            space = os.statvfs(self._path.parent)
        except OSError:
            return
        if space.f_bavail * space.f_frsize >= ROOM_FACTOR * BALLAST_BYTES:
            self.make()

    def _remove(self) -> bool:
        self.is_there = False
        try:
            os.unlink(self._path)
        except OSError:
            return False
        return True
