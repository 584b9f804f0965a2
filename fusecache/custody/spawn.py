"""Starts the supervisor of a mount as a process of its own. Stateless; imports next to nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from typing import Any

SUPERVISOR_MODULE = "fusecache.custody"


def spawn_supervisor(
    module: str,
    environment: Mapping[str, str],
    *,
    status_fd: int,
    order_fd: int = -1,
    spec_path: str = "",
    custody: str = "",
    confinement: str = "",
    lock_fd: int = -1,
    foreground: bool = False,
) -> int:
    """Return the pid. The supervisor gets a session of its own, and of our descriptors stderr and those named.

    `custody`: where custody listens for the mount, if it is not to be made by the supervisor itself.
    `confinement`: what it gives up first, as JSON (base/confinement.py). `lock_fd`: of the open lock of the cache, which the
    caller takes before it gives the order. `foreground`: it logs to our stderr."""
    named = [fd for fd in (status_fd, order_fd, lock_fd) if fd >= 0]
    actions: list[Any] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        *((os.POSIX_SPAWN_DUP2, fd, fd) for fd in named),  # onto itself: clears close-on-exec
    ]
    what = ["--order-fd", str(order_fd)] if order_fd >= 0 else ["--spec", spec_path]
    arguments = [sys.executable, "-P", "-m", module, *what, "--status-fd", str(status_fd)]
    if custody:
        arguments += ["--custody", custody]
    if confinement:
        arguments += ["--confine", confinement]
    if lock_fd >= 0:
        arguments += ["--lock-fd", str(lock_fd)]
    if foreground:
        arguments += ["--foreground"]
    return os.posix_spawn(sys.executable, arguments, supervisor_environment(environment), file_actions=actions, setsid=True)


def supervisor_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the user's environment with the directory of this very package first on the module path.

    The supervisor is started with -P: `python -m` would otherwise import from whatever directory the user stands in.
    """
    package_parent = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    inherited = [os.path.abspath(path) for path in environment.get("PYTHONPATH", "").split(os.pathsep) if path]
    return {**environment, "PYTHONPATH": os.pathsep.join(dict.fromkeys([package_parent, *inherited]))}
