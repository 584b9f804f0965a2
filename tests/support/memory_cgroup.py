"""A memory cgroup of a test's own, v2 or v1: a limit for a command and all its children, and what they took.

Owns the cgroup's directory and a sampling thread, from `__enter__` to `__exit__`. Needs root.

What is held against the limit is the memory that the kernel cannot take back: anonymous pages, shared memory (tmpfs, memfds) and
the kernel's own. Page cache is charged too, and fills any limit sooner or later, but it is given back when something else needs
room; so the cgroup's own high-water mark says nothing.
"""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")
SAMPLE_SECONDS = 0.05
REMOVE_SECONDS = 5.0


def missing_memory_cgroup() -> str | None:
    """Return why no memory cgroup can be made here, or None."""
    if os.geteuid() != 0:
        return "a memory cgroup needs root"
    if os.access(V1 / "cgroup.procs", os.W_OK):
        return None
    with contextlib.suppress(OSError):
        if "memory" in (V2 / "cgroup.subtree_control").read_text().split():
            return None
    return "no memory controller: neither cgroup v1's at /sys/fs/cgroup/memory nor v2's in /sys/fs/cgroup/cgroup.subtree_control"


class MemoryCgroup:
    """Use as a context manager.

    Attributes:
        peak_bytes: the most that could not be taken back, sampled every 50 ms.
        samples: how often it was looked at.
    """

    def __init__(self, name: str, limit_bytes: int) -> None:
        self._is_v1 = os.access(V1 / "cgroup.procs", os.W_OK)
        self.directory = (V1 if self._is_v1 else V2) / name
        self.limit_bytes = limit_bytes
        self.peak_bytes = 0
        self.peak_parts: dict[str, int] = {}
        self.samples = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="memory-cgroup")

    @property
    def prefix(self) -> list[str]:
        """Put before a command: it and all that it starts are in the cgroup."""
        return [sys.executable, "-S", str(Path(__file__).with_name("in_cgroup.py")), str(self.directory)]

    @property
    def oom_kills(self) -> int:
        name, key = ("memory.oom_control", "oom_kill") if self._is_v1 else ("memory.events", "oom_kill")
        return self._table(name).get(key, 0)

    @property
    def processes(self) -> list[int]:
        return [int(line) for line in (self.directory / "cgroup.procs").read_text().split()]

    def _table(self, name: str) -> dict[str, int]:
        lines = (line.split() for line in (self.directory / name).read_text().splitlines())
        return {line[0]: int(line[1]) for line in lines if len(line) == 2}

    def _parts(self) -> dict[str, int]:
        table = self._table("memory.stat")
        if self._is_v1:
            kernel = int((self.directory / "memory.kmem.usage_in_bytes").read_text())
            return {"anonymous": table["total_rss"], "shared": table["total_shmem"], "kernel": kernel}
        kernel = table.get("kernel", 0) - table.get("slab_reclaimable", 0)
        return {"anonymous": table["anon"], "shared": table["shmem"], "kernel": kernel}

    def _sample(self) -> None:
        while not self._stop.wait(SAMPLE_SECONDS):
            parts = self._parts()
            self.samples += 1
            if sum(parts.values()) > self.peak_bytes:
                self.peak_bytes, self.peak_parts = sum(parts.values()), parts

    def __enter__(self) -> Self:
        self.directory.mkdir()
        limit = "memory.limit_in_bytes" if self._is_v1 else "memory.max"
        (self.directory / limit).write_text(str(self.limit_bytes))
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        deadline = time.monotonic() + REMOVE_SECONDS
        while self.directory.exists():
            try:
                self.directory.rmdir()
            except OSError:  # its last process is on its way out
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
