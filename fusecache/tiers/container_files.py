"""Names and descriptors of containers: where a container's file is, and an LRU of open descriptors for readers.

A container's path is built from its number alone, never from an object's key. A container leaves by unlink, so an open
descriptor goes on reading the old bytes; numbers are never reused, so a cached descriptor never reads another container's.
"""

from __future__ import annotations

import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Sequence
from pathlib import Path

MAX_OPEN_CONTAINERS = 512  # half the usual soft limit of 1024 descriptors
# How often reads look for descriptors of removed containers, whose bytes take space until they are closed: a tier that is
# overwritten with 500 MB/s is 25 MB over its quota at most. 512 of them cost 150 us.
SWEEP_SECONDS = 0.05


def container_path(tier_path: str | Path, container: int) -> str:
    """`<tier>/c/<low byte>/<number>`, in hex: 256 directories keep each small."""
    return f"{tier_path}/c/{container & 0xFF:02x}/{container:012x}"


class OpenContainers:
    """Thread-safe LRU of read-only descriptors.

    Invariant: a descriptor is closed only when no `pread_into` of it is under way."""

    def __init__(
        self, tier_paths: Sequence[str | Path], limit: int = MAX_OPEN_CONTAINERS, in_memory: Collection[int] = ()
    ) -> None:
        """`in_memory`: numbers of the tiers on tmpfs, which nobody has to wait for."""
        self._paths = [str(path) for path in tier_paths]
        self._in_memory = frozenset(in_memory)
        self.before_waiting: Callable[[], None] = lambda: None  # called by a thread that is about to wait for a disk
        self._limit = limit
        self._lock = threading.Lock()
        self._open: OrderedDict[tuple[int, int], int] = OrderedDict()
        self._next_sweep = 0.0

    def pread_into(self, tier: int, container: int, buffer: memoryview, offset: int) -> int:
        """Read into `buffer`; return how many bytes there were. Raises OSError (a container that is gone is a miss)."""
        key = (tier, container)
        with self._lock:
            fd = self._open.pop(key, -1)
        if fd < 0:
            fd = os.open(container_path(self._paths[tier], container), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            if tier not in self._in_memory:
                if _is_read_at_once(fd, buffer, offset):
                    return len(buffer)
                self.before_waiting()
            return os.preadv(fd, [buffer], offset)
        finally:
            self._give_back(key, fd)

    def open_copy(self, tier: int, container: int) -> int:
        """Return a new descriptor that the caller closes."""
        return os.open(container_path(self._paths[tier], container), os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)

    def forget(self, tier: int, container: int) -> None:
        with self._lock:
            fd = self._open.pop((tier, container), -1)
        if fd >= 0:
            os.close(fd)

    def _give_back(self, key: tuple[int, int], fd: int) -> None:
        # A descriptor in use is not in the dictionary: two threads on one container open it twice and one copy is closed here.
        surplus = -1
        with self._lock:
            if key in self._open:
                surplus = fd
            else:
                self._open[key] = fd
                if len(self._open) > self._limit:
                    surplus = self._open.popitem(last=False)[1]
        if surplus >= 0:
            os.close(surplus)
        if time.monotonic() >= self._next_sweep:
            self.close_removed()

    def close_removed(self) -> int:
        """Close descriptors of containers that were unlinked; return how many. Reads call this themselves; somebody else has to
        when there are none."""
        removed = []
        with self._lock:
            self._next_sweep = time.monotonic() + SWEEP_SECONDS
            for key, fd in list(self._open.items()):
                if os.fstat(fd).st_nlink == 0:
                    removed.append(self._open.pop(key))
        for fd in removed:
            os.close(fd)
        return len(removed)

    def close(self) -> None:
        with self._lock:
            for fd in self._open.values():
                os.close(fd)
            self._open.clear()


def _is_read_at_once(fd: int, buffer: memoryview, offset: int) -> bool:
    """Fill the buffer if all of it is in the page cache. A file system that cannot tell may always wait."""
    try:
        return os.preadv(fd, [buffer], offset, os.RWF_NOWAIT) == len(buffer)
    except OSError:
        return False
