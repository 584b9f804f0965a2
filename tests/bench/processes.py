"""Finds the processes of a contender by a mark in their environment, counts their CPU time, ends what is left of them.

Owns no state: everything is read from /proc. Daemons that detach themselves are found too, as are children whose environment was
cleaned, by their parents.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

MARK = "FUSECACHE_BENCH"
_TICK_SECONDS = 1 / os.sysconf("SC_CLK_TCK")


def find_marked(mark: str) -> set[int]:
    """Return the processes that carry `mark` in their environment, and their descendants."""
    wanted = f"{MARK}={mark}".encode()
    parents: dict[int, int] = {}
    found = set()
    for name in os.listdir("/proc"):
        if not name.isdecimal():
            continue
        with contextlib.suppress(OSError, ValueError, IndexError):
            parents[int(name)] = int(_stat_fields(int(name))[1])
            if wanted in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.add(int(name))
    grown = True
    while grown:
        children = {pid for pid, parent in parents.items() if parent in found and pid not in found}
        found |= children
        grown = bool(children)
    return found - {os.getpid()}


def cpu_seconds(pids: Iterable[int]) -> float:
    """Return user and system time that processes have used so far; those that ended count as nothing."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError, IndexError):
            fields = _stat_fields(pid)
            total += (int(fields[11]) + int(fields[12])) * _TICK_SECONDS
    return total


def machine_busy_seconds() -> float:
    """Return CPU time that all cores together have spent on anything but idling and waiting for disks, since boot."""
    fields = [int(field) for field in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    user, nice, system, _idle, _iowait, irq, softirq, steal = fields
    return (user + nice + system + irq + softirq + steal) * _TICK_SECONDS


def peak_memory_bytes(pids: Iterable[int]) -> int:
    """Return the sum of the processes' peak resident sizes (shared pages count in each)."""
    return sum(_status_bytes(pid, "VmHWM:") for pid in pids)


def anonymous_memory_bytes(pids: Iterable[int]) -> int:
    """Return the sum of what processes hold in memory that is no file's and not shared: RssAnon."""
    return sum(_status_bytes(pid, "RssAnon:") for pid in pids)


def wait_gone(mark: str, seconds: float) -> None:
    """Wait until no process of a contender is left, that long at most."""
    deadline = time.monotonic() + seconds
    while pids := find_marked(mark):
        if time.monotonic() > deadline:
            return
        _reap(pids)
        time.sleep(0.02)


def end_marked(mark: str, patience_seconds: float = 3.0) -> None:
    """Ask what is left of a contender to end, then kill it."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        pids = find_marked(mark)
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        deadline = time.monotonic() + patience_seconds
        while time.monotonic() < deadline:
            _reap(pids)
            if not find_marked(mark):
                return
            time.sleep(0.05)


def _reap(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)


def marked_environment(environment: Mapping[str, str], mark: str) -> dict[str, str]:
    return {**environment, MARK: mark}


def _stat_fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the third on (state, ppid, ...)."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def _status_bytes(pid: int, field: str) -> int:
    """Return a field of /proc/PID/status that is given in kB; 0 if the process ended."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) << 10
    return 0
