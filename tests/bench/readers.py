"""Starts reader processes together, lets them go together, pass after pass, and collects their reports.

Owns the processes while `started_readers` is entered; none outlives it. Called from the one thread of the bench.
"""

from __future__ import annotations

import contextlib
import json
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
READER = HERE / "reader_program.py"
STORE_CLIENT = HERE / "store_program.py"
START_SECONDS = 60.0


class ReadFailedError(Exception):
    """A reader reported an error, died, or did not end in time."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What all readers together did in a pass: `amount` in the job's unit, from the first one's start to the last one's end.

    `ended`: on the monotonic clock, which all processes share.
    """

    amount: int
    seconds: float
    cpu_seconds: float
    ended: float

    @property
    def rate(self) -> float:
        return self.amount / self.seconds


class Readers:
    """Processes that wait for their next pass. Made by `started_readers`, which also ends them."""

    def __init__(self, processes: Sequence[subprocess.Popen[str]], timeout_seconds: float) -> None:
        self._processes = processes
        self._timeout_seconds = timeout_seconds

    def run_pass(self, before: Callable[[], None] = lambda: None) -> Reading:
        """Let all of them do what they were ordered, once; `before` is called when none has begun. Raises: ReadFailedError."""
        before()
        for process in self._processes:
            _tell(process, "go")
        deadline = time.monotonic() + self._timeout_seconds
        reports = [_report(_hear(process, deadline)) for process in self._processes]
        began, ended = min(report["began"] for report in reports), max(report["ended"] for report in reports)
        amount, cpu = sum(report["amount"] for report in reports), sum(report["cpu"] for report in reports)
        return Reading(amount, (ended - began) / 1e9, cpu, ended / 1e9)


@contextlib.contextmanager
def started_readers(
    program: Path,
    orders: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str],
    timeout_seconds: float,
    on_timeout: Callable[[], None],
) -> Iterator[Readers]:
    """Start one reader for each order; all are ready when this yields, and gone afterwards.

    Args:
        timeout_seconds: for a pass.
        on_timeout: frees readers that hang in the kernel, so that they can be killed.

    Raises: ReadFailedError.
    """
    processes: list[subprocess.Popen[str]] = []
    try:
        for order in orders:
            processes.append(_spawn(program, environment))
            _tell(processes[-1], json.dumps(order))
        deadline = time.monotonic() + START_SECONDS
        for process in processes:
            if _hear(process, deadline).strip() != "ready":
                raise ReadFailedError("a reader did not start")
        yield Readers(processes, timeout_seconds)
    except ReadFailedError:
        on_timeout()
        raise
    finally:
        _end(processes, on_timeout)


def run_readers(
    program: Path,
    orders: Sequence[Mapping[str, Any]],
    environment: Mapping[str, str],
    timeout_seconds: float,
    on_timeout: Callable[[], None],
) -> Reading:
    """Run one reader for each order, once. Raises: ReadFailedError."""
    with started_readers(program, orders, environment, timeout_seconds, on_timeout) as readers:
        return readers.run_pass()


def _spawn(program: Path, environment: Mapping[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(  # a group of its own: Ctrl-C reaches the bench only, which ends them in order
        [sys.executable, "-P", str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=dict(environment),
        start_new_session=True,
    )


def _tell(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.write(line + "\n")
        process.stdin.flush()


def _hear(process: subprocess.Popen[str], deadline: float) -> str:
    assert process.stdout is not None
    ready, _, _ = select.select([process.stdout], [], [], max(0.0, deadline - time.monotonic()))
    if not ready:
        raise ReadFailedError("a reader did not end in time")
    return process.stdout.readline()


def _report(line: str) -> dict[str, Any]:
    if not line:
        raise ReadFailedError("a reader died")
    report: dict[str, Any] = json.loads(line)
    if report["error"]:
        raise ReadFailedError(report["error"])
    return report


def _end(processes: Sequence[subprocess.Popen[str]], on_timeout: Callable[[], None]) -> None:
    for process in processes:
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
    for process in processes:
        if process.poll() is None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(0.5)
        if process.poll() is None:
            process.kill()
            try:
                process.wait(2)
            except subprocess.TimeoutExpired:  # in the kernel, waiting for a file system that does not answer
                on_timeout()
                process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
