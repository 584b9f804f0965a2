"""The lock of one dataset's cache directory: whoever lacks it never opens the index.

State: one open file. The supervisor takes it and its children inherit the descriptor: should the supervisor be killed, the lock
lives on with the daemons that still use the index, and ends with the last of them.
"""

from __future__ import annotations

import os

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.run_files import LOCK
from fusecache.custody import kernel


def take_cache_lock(state_dir: str, mountpoint: str) -> int:
    """Return the descriptor that holds the lock; the file then says who we are: pid, newline, mount point.

    Raises: CacheError(BUSY) naming the mount that holds it.
    """
    fd = open_cache_lock(state_dir)
    try:
        if not kernel.lock_exclusively(fd):
            pid, _, holder = os.pread(fd, 8192, 0).decode(errors="surrogateescape").strip().partition("\n")
            raise CacheError(
                ErrorKind.BUSY,
                f"the cache in {state_dir} is in use by the mount at {holder or 'an unknown place'} (pid {pid or 'unknown'});"
                f" unmount that one first with: fusecache umount {holder or 'MOUNTPOINT'}",
            )
        note_holder(fd, mountpoint)
    except BaseException:
        os.close(fd)
        raise
    return fd


def open_cache_lock(state_dir: str) -> int:
    """Return a descriptor of the lock, which nobody holds by that. Raises: OSError."""
    os.makedirs(state_dir, mode=0o700, exist_ok=True)
    return os.open(os.path.join(state_dir, LOCK), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def note_holder(fd: int, mountpoint: str) -> None:
    """Write down who holds the lock."""
    os.ftruncate(fd, 0)
    os.pwrite(fd, os.fsencode(f"{os.getpid()}\n{mountpoint}\n"), 0)
