"""Calls of the kernel that work on descriptors instead of paths, which the standard library lacks. Stateless.

Numbers are the same on every architecture (all are newer than 5.1's common table).
"""

from __future__ import annotations

import ctypes
import os
import struct

RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, RESOLVE_BENEATH = 0x02, 0x04, 0x08
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV = 0x1, 0x2, 0x4

_SYS_OPEN_TREE, _SYS_MOVE_MOUNT, _SYS_OPENAT2, _SYS_MOUNT_SETATTR = 428, 429, 437, 442
_OPEN_TREE_CLONE = 1
_OPEN_TREE_CLOEXEC = os.O_CLOEXEC
_AT_EMPTY_PATH = 0x1000
_AT_SYMLINK_NOFOLLOW = 0x100
_MOVE_MOUNT_F_EMPTY_PATH, _MOVE_MOUNT_T_EMPTY_PATH = 0x4, 0x40

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def openat2(dir_fd: int, path: str, flags: int, resolve: int) -> int:
    """Return a descriptor of a path that the kernel resolved under `resolve`. Raises: OSError, also for what that forbids."""
    how = struct.pack("=QQQ", flags | os.O_CLOEXEC, 0, resolve)
    return _check(_libc.syscall(_SYS_OPENAT2, dir_fd, os.fsencode(path), how, len(how)), path)


def open_tree(dir_fd: int, path: str) -> int:
    """Return a detached bind mount of what is there (`path` "": of the descriptor itself). Raises: OSError."""
    flags = _OPEN_TREE_CLONE | _OPEN_TREE_CLOEXEC | _AT_SYMLINK_NOFOLLOW | (0 if path else _AT_EMPTY_PATH)
    return _check(_libc.syscall(_SYS_OPEN_TREE, dir_fd, os.fsencode(path), ctypes.c_uint(flags)), f"open_tree {path}")


def mount_setattr(tree_fd: int, attributes: int) -> None:
    """Set attributes of a detached mount. Raises: OSError."""
    attr = struct.pack("=QQQQ", attributes, 0, 0, 0)
    _check(_libc.syscall(_SYS_MOUNT_SETATTR, tree_fd, b"", ctypes.c_uint(_AT_EMPTY_PATH), attr, len(attr)), "mount_setattr")


def move_mount(tree_fd: int, target_fd: int) -> None:
    """Attach a detached mount to the directory of a descriptor. Raises: OSError."""
    flags = _MOVE_MOUNT_F_EMPTY_PATH | _MOVE_MOUNT_T_EMPTY_PATH
    _check(_libc.syscall(_SYS_MOVE_MOUNT, tree_fd, b"", target_fd, b"", ctypes.c_uint(flags)), "move_mount")


def mount_id_of(fd: int) -> int:
    """Return the id (first field of mountinfo) of the mount that a descriptor lies in. Asks no file system. Raises: OSError."""
    with open(f"/proc/self/fdinfo/{fd}") as file:
        for line in file:
            name, _, value = line.partition(":")
            if name == "mnt_id":
                return int(value)
    raise OSError(f"descriptor {fd} has no mount")
