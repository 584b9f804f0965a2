"""Processes that outlive the driver, and must not stay as zombies while it lives. Stateless."""

from __future__ import annotations

import asyncio
import contextlib
import os


def reap_some_time(pid: int) -> None:
    """Collect the exit status of a child when it ends."""
    fd = os.pidfd_open(pid)
    loop = asyncio.get_running_loop()

    def reap() -> None:
        loop.remove_reader(fd)
        os.close(fd)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)

    loop.add_reader(fd, reap)
