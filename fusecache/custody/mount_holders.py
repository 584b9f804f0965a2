"""Who keeps a mount busy, found by reading links in /proc.

Owns no state. Links are read as text and never followed, so that a mount whose daemon hangs cannot hold us.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass

MAX_HOLDERS = 5


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    command: str
    what: str  # "working directory", "open file PATH", ...


def find_holders(mountpoint: str, limit: int = MAX_HOLDERS) -> list[Holder]:
    """Return up to `limit` processes that hold something under `mountpoint`; only those that this user may look at."""
    holders = []
    for name in os.listdir("/proc"):
        if not name.isdigit():
            continue
        with contextlib.suppress(OSError):
            for what in _uses(f"/proc/{name}", mountpoint):
                with open(f"/proc/{name}/comm") as file:
                    holders.append(Holder(int(name), file.read().strip(), what))
                break
        if len(holders) == limit:
            break
    return holders


def describe_holders(mountpoint: str) -> str:
    """Return "PID NAME (what), ..." for an error message."""
    holders = find_holders(mountpoint)
    if not holders:
        return "processes that this user may not inspect"
    return ", ".join(f"{holder.pid} {holder.command} ({holder.what})" for holder in holders)


def _uses(process: str, mountpoint: str) -> Iterator[str]:
    """Yield what a process holds; the first is enough for the caller, who stops here."""
    for link, what in (("cwd", "working directory"), ("root", "root directory"), ("exe", "program")):
        if _lies_under(_read_link(f"{process}/{link}"), mountpoint):
            yield what
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"{process}/fd"):
            target = _read_link(f"{process}/fd/{fd}")
            if _lies_under(target, mountpoint):
                yield f"open file {target!r}"
    with contextlib.suppress(OSError), open(f"{process}/maps", "rb") as maps:
        prefix = os.fsencode(mountpoint) + b"/"
        for line in maps:
            fields = line.split(None, 5)  # address, permissions, offset, device, inode, path
            if len(fields) == 6 and fields[5].startswith(prefix):
                yield f"mapped file {os.fsdecode(fields[5].rstrip())!r}"


def _read_link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _lies_under(path: str, mountpoint: str) -> bool:
    return path == mountpoint or path.startswith(mountpoint + "/")
