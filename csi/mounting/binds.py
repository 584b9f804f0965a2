"""Bind mounts of a dataset's mount (or of a directory in it) at the paths of volumes. Stateless; blocking.

Whether something is mounted at a place is seen by the ids of mounts, not by looking into it: what is dead there cannot hang us.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Callable, Collection

from csi.errors import not_found, refused
from csi.mounting import syscalls
from csi.mounting.paths import Place
from fusecache.custody import kernel
from fusecache.custody.mountinfo import FSTYPE, MountEntry, find_mount, read_mountinfo

_AT_FDCWD = -100
MOST_LAYERS = 16  # mounts over each other at one place: the live one, and dead ones that it was mounted over


def mounted_at(place: Place) -> MountEntry | None:
    """Return the mount on top at a place; None if there is none."""
    fd = place.open()
    if fd is None:
        return None
    try:
        return _entry_over(place.parent_fd, fd)
    finally:
        os.close(fd)


def open_source(mountpoint: str, device: str, directory: str) -> int:
    """Return a detached copy of a directory of the mount with st_dev `device`, for `attach`; closing it takes it away.

    May block as long as the daemon is silent. Raises: NOT_FOUND, FAILED_PRECONDITION.
    """
    if (below := find_mount(mountpoint)) is None or below.device != device:
        raise refused(f"the mount at {mountpoint} is gone: it is made anew, ask again")
    return _open_tree(_AT_FDCWD, f"{mountpoint}/{directory}" if directory else mountpoint, directory)


def attach(tree: int, place: Place, *, read_only: bool) -> None:
    """Mount what `open_source` has returned, which is closed in any case, at a place, over whatever of ours is there. Raises:
    FAILED_PRECONDITION."""
    _attach(tree, place, FSTYPE, read_only=read_only)


def bind_directory(fd: int, shown: str, place: Place, *, read_only: bool) -> None:
    """Mount an open directory of a local file system at a place where nothing is mounted. Raises: FAILED_PRECONDITION."""
    _attach(_open_tree(fd, "", shown), place, None, read_only=read_only)


def _open_tree(at: int, source: str, directory: str) -> int:
    """`source`: "" for `at` itself. `directory`: what it is called in an error."""
    try:
        return syscalls.open_tree(at, source)
    except OSError as error:
        if error.errno == errno.ENOENT:
            raise not_found(f"there is no directory {directory!r} in the volume's source") from error
        raise refused(f"{source or directory} cannot be bound: {error.strerror}") from error


def _attach(tree: int, place: Place, over: str | None, *, read_only: bool) -> None:
    """`over`: type of file system that may be there; None: nothing may."""
    try:
        attributes = syscalls.MOUNT_ATTR_NOSUID | syscalls.MOUNT_ATTR_NODEV
        syscalls.mount_setattr(tree, attributes | (syscalls.MOUNT_ATTR_RDONLY if read_only else 0))
        target = place.make()
        try:
            top = _entry_over(place.parent_fd, target)
            if top is not None and top.fstype != over:
                raise refused(f"{place.path} has another file system on it ({top.fstype}): unmount that first")
            syscalls.move_mount(tree, target)
        finally:
            os.close(target)
    except OSError as error:
        raise refused(f"{place.path} cannot be mounted on: {error.strerror}") from error
    finally:
        os.close(tree)


def unbind(place: Place) -> bool:
    """Take away all of our mounts at a place. Return whether there was one. Raises: FAILED_PRECONDITION for those of others."""
    return _unbind(place, lambda entry: entry.fstype == FSTYPE)


def device_of(fd: int) -> str:
    """Return the device of a directory, as mountinfo has it: not always st_dev, as each subvolume of btrfs has a number of its
    own."""
    mount_id = syscalls.mount_id_of(fd)
    for entry in read_mountinfo():
        if entry.mount_id == mount_id:
            return entry.device
    number = os.fstat(fd).st_dev
    return f"{os.major(number)}:{os.minor(number)}"


def unbind_directory(devices: Collection[str], place: Place) -> bool:
    """As `unbind`, for what `bind_directory` has bound of one of the devices."""
    return _unbind(place, lambda entry: entry.device in devices)


def _unbind(place: Place, is_ours: Callable[[MountEntry], bool]) -> bool:
    found = False
    for _ in range(MOST_LAYERS):
        top = mounted_at(place)
        if top is None:
            return found
        if not is_ours(top):
            raise refused(f"{place.path} has another file system on it ({top.fstype}): it is not ours to unmount")
        with contextlib.suppress(FileNotFoundError):
            kernel.umount(place.by_descriptor, detach=True)
        found = True
    raise refused(f"{place.path} still has mounts after {MOST_LAYERS} were taken away")


def _entry_over(parent_fd: int, fd: int) -> MountEntry | None:
    mount_id = syscalls.mount_id_of(fd)
    if mount_id == syscalls.mount_id_of(parent_fd):
        return None
    return next((entry for entry in read_mountinfo() if entry.mount_id == mount_id), None)
