"""One measurement, and the accounts it is made of: what was done in which time, and whose CPU time that took.

Owns nothing but sums; from the one thread of the bench.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from tests.bench import processes
from tests.bench.columns import MB_S, SECONDS, Column
from tests.bench.readers import Reading


@dataclasses.dataclass(frozen=True, slots=True)
class Figure:
    """One measurement, of one pass or several.

    CPU seconds of the contender, the server, the readers, and of everything else on the machine are for a pass, as is `seconds`.
    """

    contender: str
    column: str
    round: int
    value: float
    seconds: float
    contender_cpu: float = 0.0
    server_cpu: float = 0.0
    reader_cpu: float = 0.0
    other_cpu: float = 0.0
    peak_memory_bytes: int = 0
    passes: int = 1


class Accounts:
    """What the counted passes of one measurement came to, CPU time included."""

    def __init__(self, pids: Callable[[], set[int]], server_pid: int) -> None:
        self._pids = pids
        self._server_pid = server_pid
        self.passes = 0
        self.seconds = 0.0
        self._amount = 0
        self._used = self._server = self._readers = self._others = 0.0
        self._memory = 0

    def begin(self) -> None:
        self._contender_before = processes.cpu_seconds(self._pids())
        self._server_before = processes.cpu_seconds([self._server_pid])
        self._machine_before = processes.machine_busy_seconds()

    def end(self, reading: Reading) -> None:
        machine = processes.machine_busy_seconds() - self._machine_before
        server = processes.cpu_seconds([self._server_pid]) - self._server_before
        pids = self._pids()
        used = processes.cpu_seconds(pids) - self._contender_before
        self._memory = max(self._memory, processes.peak_memory_bytes(pids))
        self.passes += 1
        self.seconds += reading.seconds
        self._amount += reading.amount
        self._used += used
        self._server += server
        self._readers += reading.cpu_seconds
        self._others += machine - server - used - reading.cpu_seconds

    def figure(self, contender: str, column: Column, number: int) -> Figure:
        rate = self._amount / self.seconds / (1e6 if column.unit == MB_S else 1.0)
        return Figure(
            contender=contender,
            column=column.name,
            round=number,
            value=self.seconds / self.passes if column.unit == SECONDS else rate,
            seconds=self.seconds / self.passes,
            contender_cpu=max(0.0, self._used) / self.passes,
            server_cpu=self._server / self.passes,
            reader_cpu=self._readers / self.passes,
            other_cpu=max(0.0, self._others) / self.passes,
            peak_memory_bytes=self._memory,
            passes=self.passes,
        )
