"""Whether a directory can be mounted on, and why not, before anything is started.

Stateless. Looks at the mount table first, and at the file system only through `guarded`.
"""

from __future__ import annotations

import errno
import os
import stat

from fusecache.cli.guarded import look
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody.mountinfo import FSTYPE, MountEntry, find_mount, resolve_mountpoint


def prepare_mountpoint(path: str, run_base: str) -> str:
    """Return the mount point absolute and without symbolic links.

    Raises: CacheError(NOT_FOUND, NOT_A_DIRECTORY, BUSY, DENIED, TIMEOUT), each with its cure.
    """
    resolved = look(path, lambda: resolve_mountpoint(path))
    entry = find_mount(resolved)
    if entry is not None and entry.is_fuse:
        raise _occupied(resolved, entry, run_base)
    try:
        status = look(resolved, lambda: os.stat(resolved))
    except FileNotFoundError:
        raise CacheError(ErrorKind.NOT_FOUND, f"mount point {resolved} does not exist; create it: mkdir -p {resolved}") from None
    except OSError as error:
        raise _unusable(resolved, error) from error
    if not stat.S_ISDIR(status.st_mode):
        raise CacheError(ErrorKind.NOT_A_DIRECTORY, f"mount point {resolved} is not a directory; name an (empty) directory")
    if os.geteuid() != 0 and status.st_uid != os.geteuid():
        raise CacheError(
            ErrorKind.DENIED,
            f"mount point {resolved} belongs to uid {status.st_uid}; an ordinary user can mount on own directories only",
        )
    return resolved


def _occupied(path: str, entry: MountEntry, run_base: str) -> CacheError:
    if entry.fstype != FSTYPE:
        return CacheError(
            ErrorKind.BUSY, f"mount point {path} is busy: a {entry.fstype} file system is mounted there; unmount it first"
        )
    from fusecache.custody.mount_table import find_record

    record = find_record(run_base, path)
    if record is not None and record.is_supervised:
        sources = ", ".join(record.sources)
        return CacheError(
            ErrorKind.BUSY, f"mount point {path} is busy: {sources} is mounted there; unmount it first: fusecache umount {path}"
        )
    return CacheError(
        ErrorKind.BUSY,
        f"mount point {path} is busy: a mount whose supervisor died is left there; remove it: fusecache umount {path}",
    )


def _unusable(path: str, error: OSError) -> CacheError:
    if error.errno == errno.ENOTCONN:
        return CacheError(
            ErrorKind.BUSY,
            f"a dead mount is in the way to {path}; find it with fusecache status, and remove it with fusecache umount",
        )
    if error.errno == errno.ENOTDIR:
        return CacheError(ErrorKind.NOT_A_DIRECTORY, f"mount point {path} is not a directory; name an (empty) directory")
    return CacheError(
        ErrorKind.DENIED,
        f"mount point {path} cannot be used: {os.strerror(error.errno or 0)}; use a directory that you may enter",
    )
