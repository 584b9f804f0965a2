"""The doors to the kernel that the standard library lacks: mount(2), FUSE ioctls, OFD locks.

Owns no state. Called by the rest of custody from its one thread; nothing here blocks on a FUSE mount.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import struct

MS_RDONLY = 1
MS_NOSUID = 2
MS_NODEV = 4
MNT_FORCE = 1
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

# include/uapi/linux/fuse.h, magic 229
_DEV_IOC_CLONE = 0x8004E500  # _IOR(229, 0, u32): the descriptor to join
_DEV_IOC_BACKING_OPEN = 0x4010E501  # _IOW(229, 1, struct fuse_backing_map): s32 fd, u32 flags, u64 padding
_DEV_IOC_BACKING_CLOSE = 0x4004E502  # _IOW(229, 2, u32): the backing id
_FLOCK = struct.Struct("@hhqqi4x")  # struct flock: type, whence, start, length, pid (0 for OFD locks)

_SYS_FSOPEN, _SYS_FSCONFIG, _SYS_FSMOUNT = 430, 431, 432  # the same on every architecture (since 5.2)
_FSCONFIG_CMD_CREATE = 6
_FSMOUNT_CLOEXEC = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def mount(source: str, target: str, fstype: str, flags: int, options: str) -> None:
    """mount(2). Raises: OSError."""
    _check(
        _libc.mount(source.encode(), os.fsencode(target), fstype.encode(), ctypes.c_ulong(flags), options.encode()),
        f"mount {target}",
    )


def umount(target: str, *, detach: bool = False, force: bool = False) -> None:
    """umount2(2), never through a symbolic link. `force` ends a FUSE connection even if the mount stays busy. Raises: OSError."""
    flags = UMOUNT_NOFOLLOW | (MNT_DETACH if detach else 0) | (MNT_FORCE if force else 0)
    _check(_libc.umount2(os.fsencode(target), flags), f"umount {target}")


def clone_fuse_device(fuse_fd: int) -> int:
    """Return a second descriptor of the FUSE connection with a request queue of its own. Raises: OSError."""
    clone = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(clone, _DEV_IOC_CLONE, struct.pack("=I", fuse_fd))
    except OSError:
        os.close(clone)
        raise
    return clone


def may_open_backing() -> bool:
    """Whether `open_backing` has a chance: root (CAP_SYS_ADMIN), kernel 6.9 or later."""
    return os.geteuid() == 0 and has_passthrough()


def has_passthrough() -> bool:
    """Whether the kernel knows passthrough at all (6.9)."""
    major, minor = (int("".join(filter(str.isdigit, part))) for part in os.uname().release.split(".", 2)[:2])
    return (major, minor) >= (6, 9)


def open_backing(fuse_fd: int, file_fd: int) -> int:
    """Return the id under which FUSE replies may name `file_fd` (kernel 6.9+, CAP_SYS_ADMIN). Raises: OSError."""
    backing_map = struct.pack("=iIQ", file_fd, 0, 0)
    # The id is the ioctl's return value, which Python returns for buffers that are not changed in place.
    buffer = ctypes.create_string_buffer(backing_map, len(backing_map))
    return _check(_libc.ioctl(fuse_fd, ctypes.c_ulong(_DEV_IOC_BACKING_OPEN), buffer), "FUSE_DEV_IOC_BACKING_OPEN")


def close_backing(fuse_fd: int, backing_id: int) -> None:
    """Give a backing id back; the kernel then drops its reference to the file. Raises: OSError."""
    fcntl.ioctl(fuse_fd, _DEV_IOC_BACKING_CLOSE, struct.pack("=I", backing_id))


def lock_exclusively(fd: int) -> bool:
    """Take an exclusive OFD lock on the whole file; False if somebody else holds it.

    The lock belongs to the open file: it lives until the last process that inherited `fd` has closed it.
    """
    return _lock(fd, fcntl.F_WRLCK)


def lock_shared(fd: int) -> bool:
    """As `lock_exclusively`, with others who do the same. A descriptor for reading is enough."""
    return _lock(fd, fcntl.F_RDLCK)


def wait_for_exclusive_lock(fd: int) -> None:
    """As `lock_exclusively`, and block until it is ours. Other threads go on meanwhile."""
    fcntl.fcntl(fd, fcntl.F_OFD_SETLKW, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))


def _lock(fd: int, kind: int) -> bool:
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in (errno.EAGAIN, errno.EACCES):
            return False
        raise
    return True


def open_fuse_control() -> int:
    """Return a directory descriptor of the fusectl file system, whether or not it is mounted anywhere. Raises: OSError."""
    visible = os.open("/sys/fs/fuse/connections", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    if os.listdir(visible):
        return visible
    os.close(visible)
    context = _check(_libc.syscall(_SYS_FSOPEN, b"fusectl", 1), "fsopen fusectl")
    try:
        _check(_libc.syscall(_SYS_FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0), "fsconfig fusectl")
        return _check(_libc.syscall(_SYS_FSMOUNT, context, _FSMOUNT_CLOEXEC, 0), "fsmount fusectl")
    finally:
        os.close(context)


def abort_fuse_connection(connection: int) -> None:
    """End a FUSE connection: whatever waits in it fails with ECONNABORTED.

    Raises: OSError (no such connection, not permitted).
    """
    control = open_fuse_control()
    try:
        abort = os.open(f"{connection}/abort", os.O_WRONLY | os.O_CLOEXEC, dir_fd=control)
        try:
            os.write(abort, b"1")
        finally:
            os.close(abort)
    finally:
        os.close(control)


def raise_read_ahead(device: str, kib: int) -> None:
    """Set the read-ahead of the mount with st_dev `device` ("0:39"). Raises: OSError."""
    with open(f"/sys/class/bdi/{device}/read_ahead_kb", "w") as file:
        file.write(str(kib))


def threads_of(pid: int) -> list[tuple[int, int, bytes]]:
    """Return (id, state as a byte, what it has run so far) of each thread of a process; [] if it is gone or cannot be seen."""
    found = []
    try:
        for tid in sorted(int(name) for name in os.listdir(f"/proc/{pid}/task")):
            with open(f"/proc/{pid}/task/{tid}/stat", "rb") as file:
                state = file.read().rpartition(b")")[2].split()[0][0]
            with open(f"/proc/{pid}/task/{tid}/schedstat", "rb") as file:
                found.append((tid, state, file.read()))
    except (OSError, IndexError):
        return []
    return found


def process_start_time(pid: int) -> int | None:
    """Return field 22 of /proc/PID/stat (clock ticks since boot), which tells a process from a later one of the same id.

    None if it is gone; a zombie counts as gone.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])
