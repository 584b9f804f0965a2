"""What is mounted where, from /proc/self/mountinfo: the only way custody looks at a mount, since stat(2) could hang.

Owns no state; each call reads the file anew.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

FSTYPE = "fuse.fusecache"


@dataclass(frozen=True, slots=True)
class MountEntry:
    """One line of mountinfo.

    Attributes:
        device: st_dev as "major:minor"; for FUSE the minor is the connection's number in fusectl too.
        mountpoint: decoded path.
        options: of the mount and of its super block together.
    """

    mount_id: int
    device: str
    mountpoint: str
    fstype: str
    source: str
    options: frozenset[str]

    @property
    def connection(self) -> int:
        return int(self.device.partition(":")[2])

    @property
    def is_fuse(self) -> bool:
        return self.fstype in ("fuse", "fuseblk") or self.fstype.startswith("fuse.")


def _decode(field: bytes) -> str:
    """Undo the kernel's octal escapes of blank, tab, newline and backslash."""
    if b"\\" in field:
        for octal, plain in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
            field = field.replace(octal, plain)
    return os.fsdecode(field)


def parse_mountinfo(data: bytes) -> list[MountEntry]:
    """Parse the file's text (proc(5)), oldest mount first."""
    entries = []
    for line in data.splitlines():
        fields = line.split(b" ")
        dash = fields.index(b"-", 6)
        options = frozenset((fields[5] + b"," + fields[dash + 3]).decode(errors="replace").split(","))
        entries.append(
            MountEntry(
                mount_id=int(fields[0]),
                device=fields[2].decode(),
                mountpoint=_decode(fields[4]),
                fstype=fields[dash + 1].decode(errors="replace"),
                source=_decode(fields[dash + 2]),
                options=options,
            )
        )
    return entries


def read_mountinfo() -> list[MountEntry]:
    with open("/proc/self/mountinfo", "rb") as file:
        return parse_mountinfo(file.read())


def find_mount(mountpoint: str) -> MountEntry | None:
    """Return the topmost mount at exactly this path, or None."""
    found = None
    for entry in read_mountinfo():
        if entry.mountpoint == mountpoint:
            found = entry
    return found


def is_mounted(mountpoint: str, device: str) -> bool:
    """Whether the mount with st_dev `device` is (still) somewhere at `mountpoint`, on top or not."""
    return any(entry.mountpoint == mountpoint and entry.device == device for entry in read_mountinfo())


def resolve_mountpoint(path: str) -> str:
    """Return `path` absolute and free of symbolic links, without a stat(2) of what may be a dead mount.

    Only the parents are looked at, and the last component when nothing is mounted there.
    """
    path = os.path.abspath(path)
    for _ in range(40):  # as many links as the kernel follows
        parent, name = os.path.split(path)
        path = os.path.join(os.path.realpath(parent), name) if name else parent
        if find_mount(path) is not None:
            return path
        try:
            link = os.readlink(path)
        except OSError:
            return path
        path = os.path.abspath(os.path.join(os.path.dirname(path), link))
    return path
