"""How a cgroup's memory limit is shared out: tmpfs and memfds are charged to the cgroup that writes them, as processes are."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

# Measured with 64 readers: supervisor 13, fetch 20 before it holds any data, serve 13, a spare of each 25, request slots 5; each
# further serve with its slots is 14.
PROCESSES_BYTES = 96 << 20
FURTHER_SERVE_BYTES = 14 << 20
IN_FLIGHT_SHARE = 8  # of the limit: 32 MiB of 256 MiB keep eight 4 MiB ranges under way
BOUNCE_SHARE = 16
HEADROOM_SHARE = 10  # the kernel's own memory, page tables, and what the interpreters' allocators do not give back at once
LEAST_IN_FLIGHT_BYTES = 8 << 20
LEAST_BOUNCE_BYTES = 4 << 20
IN_FLIGHT_OVERHEAD = 2.0  # measured 2.1: a range exists twice while a client puts it together, and each thread has an arena


class MemoryShares(NamedTuple):
    """Between store and tiers; for reads that no tier takes; for all MEM tiers together (None: no limit)."""

    in_flight_bytes: int
    bounce_bytes: int
    memory_tier_bytes: int | None


def share_memory(limit_bytes: int | None, in_flight_bytes: int, bounce_bytes: int, serve_processes: int = 1) -> MemoryShares:
    """Return how much each may take under a limit, at most what was asked for."""
    if limit_bytes is None:
        return MemoryShares(in_flight_bytes, bounce_bytes, None)
    in_flight = min(in_flight_bytes, max(LEAST_IN_FLIGHT_BYTES, limit_bytes // IN_FLIGHT_SHARE))
    bounce = min(bounce_bytes, max(LEAST_BOUNCE_BYTES, limit_bytes // BOUNCE_SHARE))
    processes = PROCESSES_BYTES + (serve_processes - 1) * FURTHER_SERVE_BYTES
    reserve = processes + int(in_flight * IN_FLIGHT_OVERHEAD) + bounce + limit_bytes // HEADROOM_SHARE
    return MemoryShares(in_flight, bounce, max(0, limit_bytes - reserve))


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
