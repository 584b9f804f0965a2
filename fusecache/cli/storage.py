"""What this machine offers to put a cache on: file systems, their media, and the memory limit.

Stateless; read by tier parsing and by `doctor`. Looks only at directories the user named and at /proc and /sys.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from typing import NamedTuple

from fusecache.contract.mount_spec import Medium
from fusecache.custody.mountinfo import read_mountinfo

_MEMORY_FILE_SYSTEMS = ("tmpfs", "ramfs")
_NO_LIMIT = 1 << 60  # cgroup v1 writes a number near 2^63 for "no limit"


class FileSystem(NamedTuple):
    """One file system as statvfs(3) and mountinfo tell it; sizes in bytes, `free_bytes` for ordinary users."""

    fstype: str
    device: int
    total_bytes: int
    free_bytes: int
    medium: Medium


def file_system_of(path: str) -> FileSystem:
    """Return the file system that holds `path`. Raises: OSError."""
    status = os.stat(path)
    space = os.statvfs(path)
    fstype = _fstype_of(status.st_dev)
    return FileSystem(
        fstype=fstype,
        device=status.st_dev,
        total_bytes=space.f_blocks * space.f_frsize,
        free_bytes=space.f_bavail * space.f_frsize,
        medium=_medium_of(fstype, status.st_dev),
    )


def _fstype_of(device: int) -> str:
    wanted = f"{os.major(device)}:{os.minor(device)}"
    return next((entry.fstype for entry in read_mountinfo() if entry.device == wanted), "unknown")


_VIRTUAL_DISKS = ("vd", "xvd")  # virtio, Xen


def _medium_of(fstype: str, device: int) -> Medium:
    """tmpfs is memory; a disk that says it rotates is an HDD; everything else (also what does not say) counts as an SSD.

    Virtual disks say that they rotate whatever lies under them, as nobody told them otherwise: they count as SSD.
    """
    if fstype in _MEMORY_FILE_SYSTEMS:
        return Medium.MEM
    base = f"/sys/dev/block/{os.major(device)}:{os.minor(device)}"
    if os.path.basename(os.path.realpath(base)).startswith(_VIRTUAL_DISKS):
        return Medium.SSD
    for place in (f"{base}/queue/rotational", f"{base}/../queue/rotational"):  # a disk, or a partition of one
        with contextlib.suppress(OSError), open(place) as file:
            return Medium.HDD if file.read().strip() == "1" else Medium.SSD
    return Medium.SSD


def ram_bytes() -> int:
    """Return the physical memory of the machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def memory_limit_bytes(read: Callable[[str], str] | None = None) -> int | None:
    """Return the lowest memory limit of the cgroups this process is in, or None without one.

    Args:
        read: returns a file's text or raises OSError; for tests.
    Looks at cgroup v2 (every level from our own to the root) and at the memory controller of v1.
    """
    read = read or _read_text
    limits = []
    try:
        lines = read("/proc/self/cgroup").splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            root, name = "/sys/fs/cgroup", "memory.max"
        elif "memory" in controllers.split(","):
            root, name = "/sys/fs/cgroup/memory", "memory.limit_in_bytes"
        else:
            continue
        parts = [part for part in path.split("/") if part not in ("", "..")]
        for depth in range(len(parts), -1, -1):
            with contextlib.suppress(OSError, ValueError):  # "max", or a level outside our cgroup namespace
                limits.append(int(read("/".join([root, *parts[:depth], name]))))
    real = [limit for limit in limits if limit < _NO_LIMIT]
    return min(real) if real else None


def _read_text(path: str) -> str:
    with open(path) as file:
        return file.read()
