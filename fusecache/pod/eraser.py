"""Removes everything that a Dataset has on a node, when it is gone: files in tiers, the index, the lock last.

What is not in the store yet is not removed unless that is asked for. Stateless; blocking.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Mapping
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody import kernel
from fusecache.custody.cache_lock import open_cache_lock
from fusecache.pod.arguments import Arguments


def refuse_loss(status: Mapping[str, Any]) -> None:
    """Raises: CacheError(BUSY): files that programs have written would be lost."""
    pending, kept = int(status.get("pending_files", 0)), int(status.get("kept_files", 0))
    if pending:
        raise CacheError(
            ErrorKind.BUSY, f"{pending} files that were written are not in the store yet: they are uploaded first, wait for it"
        )
    if kept:
        raise CacheError(
            ErrorKind.BUSY,
            f"{kept} files that were written could not be uploaded, and are in {status.get('kept_dir', 'the cache')}: copy them,"
            " then annotate the Dataset with fusecache.io/discard-unsaved=true",
        )


def erase(arguments: Arguments) -> None:
    """Remove what is in the cache directory. Directories that are volumes of their own stay, empty. Raises: CacheError(BUSY):
    another pod has the cache; OSError."""
    lock_fd = open_cache_lock(arguments.cache)
    try:
        if not kernel.lock_exclusively(lock_fd):
            raise CacheError(ErrorKind.BUSY, "another pod of the Dataset has the cache of this node now: ask again")
        lock = os.path.basename(os.readlink(f"/proc/self/fd/{lock_fd}"))
        names = [name for name in os.listdir(arguments.cache) if name != lock]
        for name in [*names, lock]:
            _remove(os.path.join(arguments.cache, name))
    finally:
        os.close(lock_fd)


def _remove(path: str) -> None:
    if not os.path.isdir(path) or os.path.islink(path):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        return
    for name in os.listdir(path):
        below = os.path.join(path, name)
        if os.path.isdir(below) and not os.path.islink(below):
            shutil.rmtree(below)
        else:
            os.unlink(below)
    with contextlib.suppress(OSError):  # a volume: EBUSY
        os.rmdir(path)
