"""One tier: a directory with a quota, its containers' files, and what it holds right now.

State: `used_bytes` counts live extents, reservations under way and ranges that are freed but not punched out yet, each rounded
up to ALIGNMENT: so it is never below what `du` shows. Owned by fetch's event loop; worker threads get duplicated descriptors
and offsets only.
"""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import shutil
import time
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

from fusecache.contract.mount_spec import Medium, TierSpec
from fusecache.tiers.container_files import container_path

log = logging.getLogger(__name__)

ALIGNMENT = 4096  # page size: what tmpfs and ext4 allocate, and what a hole can be punched in
FAILING_SECONDS = 5.0  # how long a tier that returned an error is left alone: a guess between log noise and lost cache
MAX_WRITABLE = 128  # descriptors kept open for writing

_libc = ctypes.CDLL(None, use_errno=True)
_PUNCH_HOLE_KEEP_SIZE = 0x02 | 0x01


def align(length: int) -> int:
    return -(-length // ALIGNMENT) * ALIGNMENT


class Tier:
    """Invariant: used_bytes <= quota_bytes, except for what a smaller quota than last time left over."""

    def __init__(self, number: int, spec: TierSpec, quota_bytes: int) -> None:
        self.number = number
        self.path = Path(spec.path)
        self.medium = spec.medium
        self.quota_bytes = quota_bytes
        self.high, self.low = spec.high, spec.low
        self.high_bytes = int(quota_bytes * spec.high)
        self.low_bytes = int(quota_bytes * spec.low)
        self.used_bytes = 0
        self.errors = 0
        self.last_error = ""
        self._is_made = False
        self.failing_until = 0.0
        self._writable: OrderedDict[int, int] = OrderedDict()

    @property
    def is_memory(self) -> bool:
        return self.medium is Medium.MEM

    def prepare(self) -> None:
        """Make the directories. Raises OSError."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.path / "c").mkdir(mode=0o700, exist_ok=True)
        self._is_made = True

    def is_failing(self) -> bool:
        return time.monotonic() < self.failing_until

    def note_failure(self, error: OSError) -> None:
        """Leave the tier alone for a while. Logged once per outage."""
        self._count(str(error))
        if not self.is_failing():
            log.warning(
                "tier %s: %s; reads go on without it. Check that the directory exists, is writable and has free space",
                self.path,
                error,
            )
        self.failing_until = time.monotonic() + FAILING_SECONDS
        self.close_writable()  # a removed directory: descriptors of files that nobody can open any more

    def note_small_quota(self, block_size: int) -> None:
        """Once, at the start: a tier that takes no whole block. It is of use for objects that are smaller than one."""
        if self.quota_bytes < block_size:
            self._count(
                f"the quota of {self.quota_bytes} bytes is smaller than a block of {block_size}: "
                "larger objects are not cached here"
            )
            log.warning("tier %s: %s; raise the quota", self.path, self.last_error)

    def _count(self, error: str) -> None:
        self.errors += 1
        self.last_error = error

    def fits(self, length: int) -> bool:
        return self.used_bytes + length <= self.quota_bytes

    def duplicate_for_writing(self, container: int, *, create: bool) -> int:
        """Return a descriptor that the caller closes. Raises OSError."""
        fd = self._writable.get(container, -1)
        if fd < 0:
            fd = self._open(container, create)
            self._writable[container] = fd
            if len(self._writable) > MAX_WRITABLE:
                os.close(self._writable.popitem(last=False)[1])
        else:
            self._writable.move_to_end(container)
        return os.dup(fd)

    def _open(self, container: int, create: bool) -> int:
        path = container_path(self.path, container)
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_CREAT if create else 0)
        try:
            return os.open(path, flags, 0o600)
        except FileNotFoundError:
            if not create:
                raise
            if self._is_made and not os.path.isdir(self.path / "c"):
                self._count("its directory was removed; what it held is fetched again")
                log.warning("tier %s: %s. Whoever removed it will do so again", self.path, self.last_error)
            self.prepare()
            os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            return os.open(path, flags, 0o600)

    def changed_ns(self, container: int) -> int:
        """Return the ctime of a container's file. Raises OSError."""
        return os.stat(container_path(self.path, container)).st_ctime_ns

    def has(self, container: int) -> bool:
        """Whether the container's file is where readers look for it."""
        return os.path.exists(container_path(self.path, container))

    def size_of(self, container: int) -> int:
        """Return the length of a container's file; 0 if it cannot be seen."""
        try:
            return os.stat(container_path(self.path, container)).st_size
        except OSError:
            return 0

    def allocated_bytes(self, container: int) -> int:
        """Return what a container's file takes on the disk; 0 if it cannot be seen."""
        try:
            return os.stat(container_path(self.path, container)).st_blocks * 512
        except OSError:
            return 0

    def containers_on_disk(self) -> Iterator[int]:
        """Yield the numbers of the files there are, whatever the index says of them."""
        for file in (self.path / "c").glob("*/*"):
            with contextlib.suppress(ValueError):
                yield int(file.name, 16)

    def unlink(self, container: int) -> None:
        self.forget(container)
        try:
            os.unlink(container_path(self.path, container))
        except FileNotFoundError:
            pass
        except OSError as error:
            self.note_failure(error)

    def punch(self, container: int, offset: int, length: int) -> None:
        """Give the pages of a range back. The range is aligned; nobody may read it any more."""
        try:
            fd = self.duplicate_for_writing(container, create=False)
        except FileNotFoundError:
            return
        except OSError as error:
            self.note_failure(error)
            return
        try:
            if _libc.fallocate(fd, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(offset), ctypes.c_long(length)):
                code = ctypes.get_errno()
                self.note_failure(OSError(code, os.strerror(code)))
        finally:
            os.close(fd)

    def forget(self, container: int) -> None:
        fd = self._writable.pop(container, -1)
        if fd >= 0:
            os.close(fd)

    def close_writable(self) -> None:
        for fd in self._writable.values():
            os.close(fd)
        self._writable.clear()

    def wipe(self) -> None:
        """Remove all containers: the index that described them is gone. Raises nothing."""
        self.close_writable()
        self._is_made = False
        shutil.rmtree(self.path / "c", ignore_errors=True)

    def sync(self) -> None:
        """syncfs(2) of the tier's file system."""
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            return
        try:
            _libc.syncfs(fd)
        finally:
            os.close(fd)
