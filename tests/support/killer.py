"""Ends daemons of a mount again and again while others read from it, and remembers when.

Owns one thread from `start` to `stop`. Every kill goes to a process that the supervisor had announced and that was alive: what
`kills` holds did land.
"""

from __future__ import annotations

import itertools
import random
import signal
import threading
import time
from collections.abc import Sequence
from types import TracebackType
from typing import NamedTuple, Self

from fusecache.custody.mount_table import MountRecord, ProcessId
from tests.support.mounted import Mounted, kill

LOOK_SECONDS = 0.01  # how often to look for the successor of a process that was killed


class Kill(NamedTuple):
    at: float  # monotonic
    role: str
    pid: int


class Killer:
    """Use as a context manager. Kills `roles` in turn, every `interval` seconds, until `stop`."""

    def __init__(
        self, mounted: Mounted, roles: Sequence[str], interval: float, *, number: int = signal.SIGKILL, seed: int = 0
    ) -> None:
        self.kills: list[Kill] = []
        self._mounted = mounted
        self._roles = itertools.cycle(roles)
        self._interval = interval
        self._number = number
        self._random = random.Random(seed)
        self._stop = threading.Event()
        self._dead: set[ProcessId] = set()
        self._thread = threading.Thread(target=self._run, name="killer")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()

    def stop(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        due = time.monotonic() + self._interval
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            due = time.monotonic() + self._interval
            role = next(self._roles)
            while not self._stop.is_set() and not self._kill_one(role):
                self._stop.wait(LOOK_SECONDS)

    def _kill_one(self, role: str) -> bool:
        processes = processes_of(self._mounted.record(), role)
        alive = [process for process in processes if process not in self._dead and process.is_alive]
        if not alive:
            return False
        process = self._random.choice(alive)
        self._dead.add(process)
        if not kill(process.pid, self._number):
            return False
        self.kills.append(Kill(time.monotonic(), role, process.pid))
        return True

    def explain(self, slowest: Sequence[tuple[float, float, str]], count: int = 3) -> str:
        """Say what was killed during the longest waits."""
        lines = []
        for seconds, ended, what in slowest[:count]:
            during = [one for one in self.kills if ended - seconds - 0.05 < one.at < ended]
            said = [f"{one.role} {ended - one.at:.2f} s before its end" for one in during[-3:]]
            lines.append(f"{seconds:.3f} s for {what}: {len(during)} kills: {', '.join(said)}")
        return "\n".join(lines)


def processes_of(record: MountRecord, role: str) -> list[ProcessId]:
    if role == "serve":
        return record.serve
    return [process for process in [record.supervisor if role == "supervisor" else record.fetch] if process is not None]
