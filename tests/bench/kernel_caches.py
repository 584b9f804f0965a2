"""Drops what the kernel caches, and takes FUSE mounts away, also those whose daemon is gone. Stateless; for root."""

from __future__ import annotations

import contextlib
import re
import subprocess
import time
from pathlib import Path

PAGES = 1
EVERYTHING = 3  # and dentries and inodes


def drop_caches(what: int) -> None:
    """Drop clean pages (PAGES) or pages, dentries and inodes (EVERYTHING). Files on tmpfs stay: their pages are the files."""
    Path("/proc/sys/vm/drop_caches").write_text(str(what))


def drops_so_far() -> int:
    """Return how often pages were dropped since boot, by anybody."""
    for line in Path("/proc/vmstat").read_text().splitlines():
        if line.startswith("drop_pagecache "):
            return int(line.split()[1])
    return 0


def mounted(mountpoint: Path) -> str:
    """Return the device of the topmost mount there as MAJ:MIN, "" if there is none. The mount itself is not touched."""
    device = ""
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        fields = line.split(" ")
        if re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), fields[4]) == str(mountpoint):
            device = fields[2]
    return device


def wait_mounted(mountpoint: Path, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not mounted(mountpoint):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def abort(mountpoint: Path) -> None:
    """Make every request that waits in the kernel for this mount's daemon fail."""
    device = mounted(mountpoint)
    if device:
        with contextlib.suppress(OSError):
            Path(f"/sys/fs/fuse/connections/{device.partition(':')[2]}/abort").write_text("1")


def unmount(mountpoint: Path) -> None:
    """Unmount whatever is there; by force if it does not go."""
    for options in ([], ["-l"]):
        for _ in range(5):
            if not mounted(mountpoint):
                return
            if options:
                abort(mountpoint)
            with contextlib.suppress(subprocess.TimeoutExpired):
                subprocess.run(["umount", *options, str(mountpoint)], check=False, capture_output=True, timeout=10)
            if mounted(mountpoint):
                time.sleep(0.2)
