"""Turns POSIX attributes (of a local file or an NFS file) into an `Entry` and a version. Stateless; any thread."""

from __future__ import annotations

import errno
import os
import stat
from typing import NamedTuple

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.protocol import Entry, EntryKind

_SPECIAL = {
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}

_FILE, _DIRECTORY, _SYMLINK = EntryKind.FILE, EntryKind.DIRECTORY, EntryKind.SYMLINK
_U64 = (1 << 64) - 1

_KINDS = {
    errno.ENOENT: ErrorKind.NOT_FOUND,
    errno.EACCES: ErrorKind.DENIED,
    errno.EPERM: ErrorKind.DENIED,
    errno.ENOTDIR: ErrorKind.NOT_A_DIRECTORY,
    errno.EISDIR: ErrorKind.IS_A_DIRECTORY,
    errno.ENAMETOOLONG: ErrorKind.NAME_TOO_LONG,
    errno.ESTALE: ErrorKind.STALE,
    errno.ETIMEDOUT: ErrorKind.TIMEOUT,
    errno.EINVAL: ErrorKind.INVALID,
    errno.EOPNOTSUPP: ErrorKind.UNSUPPORTED,
    errno.EEXIST: ErrorKind.EXISTS,
    errno.ENOTEMPTY: ErrorKind.NOT_EMPTY,
    errno.ENOSPC: ErrorKind.NO_SPACE,
    errno.EDQUOT: ErrorKind.NO_SPACE,
    errno.EROFS: ErrorKind.READ_ONLY,
    errno.ELOOP: ErrorKind.NOT_FOUND,  # O_NOFOLLOW met a symbolic link where a file or directory was listed before
}


class Attributes(NamedTuple):
    """What fstat says, in its units. `device` tells hard links on two file systems of one tree apart."""

    device: int
    inode: int
    mode: int
    nlink: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int


def stat_attributes(found: os.stat_result) -> Attributes:
    return Attributes(
        found.st_dev,
        found.st_ino,
        found.st_mode,
        found.st_nlink,
        found.st_uid,
        found.st_gid,
        found.st_size,
        found.st_mtime_ns,
        found.st_ctime_ns,
    )


def version_of(attributes: Attributes) -> bytes:
    """Return inode, size, mtime and ctime in hex, at most 67 bytes.

    ctime is part of it because mtime can be set back; so a chmod or a new hard link is a new version too. The device number
    is not: it changes when a volume is attached again, and would drop a whole cache.
    """
    _, inode, _, _, _, _, size, mtime_ns, ctime_ns = attributes
    return b"%x-%x-%x-%x" % (inode & _U64, size & _U64, mtime_ns & _U64, ctime_ns & _U64)


def without_times(version: bytes) -> bytes:
    """Return what of a version stays when only attributes are changed, and the mtime with them: inode and size."""
    return version.rsplit(b"-", 2)[0]


def mtime_of(version: bytes) -> int:
    """Return the mtime that a version was made of, in nanoseconds."""
    mtime_ns = int(version.rsplit(b"-", 2)[1], 16)
    return mtime_ns if mtime_ns < 1 << 63 else mtime_ns - (1 << 64)


def hidden_reason(mode: int) -> str | None:
    """Return why a file of this mode cannot be shown, or None if it can."""
    return _SPECIAL.get(stat.S_IFMT(mode))


def entry_of(name: bytes, attributes: Attributes, target: bytes = b"") -> Entry:
    """Return the entry of a regular file, directory or symbolic link (with its target)."""
    device, inode, mode, nlink, uid, gid, size, mtime_ns, _ = attributes
    kind_bits = stat.S_IFMT(mode)
    version = version_of(attributes)
    file_id = b""
    if kind_bits == stat.S_IFDIR:
        kind, size, version = _DIRECTORY, 0, b""
    elif kind_bits == stat.S_IFLNK:
        kind, size = _SYMLINK, len(target)
    else:
        kind = _FILE
        if nlink > 1:
            file_id = b"%x-%x" % (device, inode)
    return Entry(name, kind, size, mtime_ns, version, stat.S_IMODE(mode), uid, gid, nlink, target, file_id)


def error_of(number: int, what: str, detail: str = "") -> CacheError:
    """Return the CacheError for an errno. `what` names the object and the operation, without credentials."""
    kind = _KINDS.get(number, ErrorKind.UNAVAILABLE)
    cure = ""
    if kind is ErrorKind.DENIED:
        cure = "; let the user of the cache do that (chmod, or mount with a uid that may)"
    reason = detail or errno.errorcode.get(number, str(number))
    return CacheError(kind, f"{what}: {reason}{cure}")


def split_path(path: bytes) -> list[bytes]:
    """Return the components of a source path. Raises: INVALID for a path that no listing can have given."""
    if path == b"":
        return []
    components = path.split(b"/")
    if b"\0" in path or any(part in (b"", b".", b"..") for part in components):
        raise CacheError(ErrorKind.INVALID, f"{path!r} is not a path below the source's root")
    return components
