"""Starts the supervisor of a mount before the command line knows what to mount, so that both import side by side.

State: the supervisor between `begin` and `take` or `abandon`; one at most. It waits for the path of its spec on a pipe, and ends
with its children when that closes: so it never outlives a command that fails, however it fails. Imports next to nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from fusecache.custody.spawn import SUPERVISOR_MODULE, spawn_supervisor

_WITHOUT = frozenset({"--foreground", "--help", "-h"})

_early: EarlySupervisor | None = None


class EarlySupervisor:
    """Attributes: order_fd takes the path of the spec; report_fd gives what the supervisor says."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        order, self.order_fd = os.pipe2(os.O_CLOEXEC)
        self.report_fd, report = os.pipe2(os.O_CLOEXEC)
        try:
            self.pid = spawn_supervisor(SUPERVISOR_MODULE, environment, order_fd=order, status_fd=report)
        finally:
            os.close(order)
            os.close(report)

    def order(self, spec_path: str) -> None:
        """Tell it what to mount. If it died, its report says so."""
        try:
            os.write(self.order_fd, os.fsencode(spec_path))
        except BrokenPipeError:
            pass
        finally:
            os.close(self.order_fd)


def begin(arguments: Sequence[str]) -> None:
    """Start one if these are the arguments of a command that will most likely need it."""
    global _early
    if len(arguments) >= 3 and arguments[0] == "mount" and not _WITHOUT.intersection(arguments):
        _early = EarlySupervisor(os.environ)


def take() -> EarlySupervisor | None:
    """Return the one that was begun: it is the caller's."""
    global _early
    taken, _early = _early, None
    return taken


def abandon() -> None:
    """End the one that was begun, if nobody took it."""
    early = take()
    if early is not None:
        os.close(early.order_fd)
        os.close(early.report_fd)
        os.waitpid(early.pid, 0)
