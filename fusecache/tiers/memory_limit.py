"""How much a MEM tier may really hold: tmpfs is charged to the cgroup that writes it."""

from __future__ import annotations

from pathlib import Path

RESERVE_BYTES = 192 << 20  # fetch, serve and what is in flight


def cgroup_limit_bytes() -> int | None:
    """Return the memory limit of this process's cgroup (v2 or v1), the smallest of its ancestors, or None."""
    limits = []
    for line in _lines("/proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            limits += _walk(Path("/sys/fs/cgroup"), path, "memory.max")
            limits += _walk(Path("/sys/fs/cgroup/unified"), path, "memory.max")
        elif "memory" in controllers.split(","):
            limits += _walk(Path("/sys/fs/cgroup/memory"), path, "memory.limit_in_bytes")
    return min(limits, default=None)


def effective_quota(quota_bytes: int, limit_bytes: int | None) -> int:
    """Return the quota of a MEM tier under a memory limit; 0 if nothing is left."""
    return quota_bytes if limit_bytes is None else max(0, min(quota_bytes, limit_bytes - RESERVE_BYTES))


def _walk(mount: Path, path: str, name: str) -> list[int]:
    found = []
    parts = [part for part in path.split("/") if part and part != ".."]
    for depth in range(len(parts), -1, -1):
        for line in _lines(mount.joinpath(*parts[:depth], name)):
            if line.strip().isdigit() and int(line) < 1 << 60:  # v1 says "unlimited" as a number near 2^63
                found.append(int(line))
    return found


def _lines(path: str | Path) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
