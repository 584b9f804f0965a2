"""Starts the supervisor of a mount and waits for its word.

State: the pid and the status pipe, until `wait_ready` returned or `give_up` ended it. Called by `fusecache mount` from its one
thread. The supervisor has a session of its own: a Ctrl-C in the terminal reaches the command only, which gives up in order.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from fusecache.cli import early_supervisor
from fusecache.contract.errors import CacheError, ErrorKind, not_ready_in_time
from fusecache.custody.spawn import SUPERVISOR_MODULE, spawn_supervisor, supervisor_environment

GIVE_UP_SECONDS = 5.0  # how long a supervisor that is told to stop may clean up after itself
_MAX_REPORT_BYTES = 64 << 10


def become_supervisor(spec_path: str, environment: Mapping[str, str], module: str, timeout_seconds: float) -> NoReturn:
    """Go on as the supervisor, in the foreground, under our own pid."""
    arguments = [sys.executable, "-P", "-m", module, "--spec", spec_path, "--foreground", "--timeout", str(timeout_seconds)]
    os.execve(sys.executable, arguments, supervisor_environment(environment))


class StartedSupervisor:
    """A supervisor between its start and its word. Afterwards it lives on without us."""

    def __init__(self, spec_path: str, environment: Mapping[str, str], module: str) -> None:
        early = early_supervisor.take() if module == SUPERVISOR_MODULE else None
        if early is not None:
            self._reader, self.pid = early.report_fd, early.pid
            early.order(spec_path)
        else:
            self._reader, writer = os.pipe2(os.O_CLOEXEC)
            try:
                self.pid = spawn_supervisor(module, environment, spec_path=spec_path, status_fd=writer)
            finally:
                os.close(writer)
        self._pidfd = os.pidfd_open(self.pid)

    def wait_ready(self, timeout_seconds: float, sources: Sequence[str]) -> None:
        """Wait until the mount answers. `sources`: URLs, for the message.

        Raises: CacheError with the supervisor's own sentence; TIMEOUT; BUG if it ended without a word. `give_up` must follow.
        """
        deadline = time.monotonic() + timeout_seconds
        report = self._read_report(deadline)
        if report is None:
            raise not_ready_in_time(sources, timeout_seconds)
        if report.get("state") == "ready":
            self._close()
            return
        if report.get("state") == "failed":
            raise CacheError(_kind(report.get("kind")), str(report.get("message") or "the mount failed without a reason"))
        raise CacheError(ErrorKind.BUG, "the supervisor ended without a word; run fusecache mount --foreground to see why")

    def _read_report(self, deadline: float) -> dict[str, Any] | None:
        """Return the report, {} if the supervisor ended without one, None when the time is over."""
        data = b""
        poller = select.poll()
        poller.register(self._reader, select.POLLIN)
        while not data.endswith(b"\n") and len(data) < _MAX_REPORT_BYTES:
            left = deadline - time.monotonic()
            if left <= 0:
                return None
            if not poller.poll(left * 1000):
                continue
            piece = os.read(self._reader, _MAX_REPORT_BYTES)
            if not piece:
                break
            data += piece
        try:
            report = json.loads(data)
        except ValueError:
            return {}
        return report if isinstance(report, dict) else {}

    def give_up(self) -> None:
        """End the supervisor: it takes its mount and children away if it still can. What it leaves is the caller's to remove."""
        if self._pidfd < 0:
            return  # it said ready before we were interrupted: the mount is made, and stays
        self._close_reader()  # a supervisor that is not ready stops when nobody waits for it
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, signal.SIGTERM)
        if not self._wait_end(GIVE_UP_SECONDS):
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)
            self._wait_end(GIVE_UP_SECONDS)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, os.WNOHANG)
        self._close()

    def _wait_end(self, seconds: float) -> bool:
        poller = select.poll()
        poller.register(self._pidfd, select.POLLIN)
        return bool(poller.poll(seconds * 1000))

    def _close_reader(self) -> None:
        reader, self._reader = self._reader, -1
        if reader >= 0:
            os.close(reader)

    def _close(self) -> None:
        self._close_reader()
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)


def _kind(value: object) -> ErrorKind:
    try:
        return ErrorKind(int(str(value)))
    except ValueError:
        return ErrorKind.BUG
