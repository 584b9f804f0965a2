"""Starts the supervisor of a mount before the command line knows what to mount, so that both import side by side.

State: the supervisor between `begin` and `take` or `abandon`; one at most. It waits for the path of its spec on a pipe, and ends
with its children when that closes: so it never outlives a command that fails, however it fails. Imports next to nothing.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

SUPERVISOR_MODULE = "fusecache.custody"
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


def spawn_supervisor(
    module: str, environment: Mapping[str, str], *, status_fd: int, order_fd: int = -1, spec_path: str = ""
) -> int:
    """Return the pid. The supervisor gets a session of its own, and of our descriptors stderr and those named."""
    named = [fd for fd in (status_fd, order_fd) if fd >= 0]
    actions: list[Any] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in named),  # onto itself: clears close-on-exec
    ]
    what = ["--order-fd", str(order_fd)] if order_fd >= 0 else ["--spec", spec_path]
    arguments = [sys.executable, "-P", "-m", module, *what, "--status-fd", str(status_fd)]
    return os.posix_spawn(sys.executable, arguments, supervisor_environment(environment), file_actions=actions, setsid=True)


def supervisor_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the user's environment with the directory of this very package first on the module path.

    The supervisor is started with -P: `python -m` would otherwise import from whatever directory the user stands in.
    """
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    inherited = [os.path.abspath(path) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**environment, "PYTHONPATH": os.pathsep.join(dict.fromkeys([package_parent, *inherited]))}
