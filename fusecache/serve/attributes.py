"""stat(2) fields of an inode row: what the source says, and the mount's defaults for what it does not say.

No state but the spec's defaults; any thread.
"""

from __future__ import annotations

import stat
from collections.abc import Callable

from fusecache.contract.mount_spec import MountSpec
from fusecache.fuse.filesystem_protocol import Attributes
from fusecache.index.inodes import NO_MODE, NO_OWNER, Inode, InodeFlag, InodeHead, InodeNo

# Values of fusecache.source.protocol.EntryKind, which readers do not import: sources are fetch's.
FILE, DIRECTORY, SYMLINK = 1, 2, 3
KIND_MODES = {FILE: stat.S_IFREG, DIRECTORY: stat.S_IFDIR, SYMLINK: stat.S_IFLNK}

_DIRECTORY_SIZE = 4096  # what most file systems show; programs use it for nothing
_SECTOR_BYTES = 512
_LINK_MODE = stat.S_IFLNK | 0o777


def attributes_of(spec: MountSpec) -> Callable[[InodeNo, Inode | InodeHead], Attributes]:
    """Return the function from an inode and its row to what the kernel is told of it."""
    default_modes = {
        FILE: stat.S_IFREG | spec.file_mode,
        DIRECTORY: stat.S_IFDIR | spec.dir_mode,
        SYMLINK: _LINK_MODE,
    }
    default_uid, default_gid, override = spec.uid, spec.gid, spec.override_owner

    def attributes(inode: InodeNo, row: Inode | InodeHead) -> Attributes:
        kind = row.kind
        mode = default_modes[kind] if row.mode == NO_MODE or kind == SYMLINK else KIND_MODES[kind] | row.mode & 0o7777
        is_directory = kind == DIRECTORY
        size = _DIRECTORY_SIZE if is_directory else row.size
        return Attributes(
            inode,
            mode,
            size,
            0 if row.flags & InodeFlag.GONE else 2 if is_directory else row.nlink or 1,
            default_uid if override or row.uid == NO_OWNER else row.uid,
            default_gid if override or row.gid == NO_OWNER else row.gid,
            row.mtime_ns,
            row.ctime_ns or row.mtime_ns,
            -(-size // _SECTOR_BYTES),
        )

    return attributes
