"""Starts the supervisor before it is known what it is to serve, with the lock of the cache open and not taken yet.

State: the process and the pipes to it. Imports next to nothing, as nothing else can go on before.
"""

from __future__ import annotations

import os
from collections.abc import Mapping

from fusecache.custody.cache_lock import open_cache_lock
from fusecache.custody.spawn import SUPERVISOR_MODULE, spawn_supervisor
from fusecache.pod.arguments import Arguments

_DENIED = 4  # ExitStatus.DENIED


class EarlyError(Exception):
    """The pod is not made as it has to be: one sentence."""

    status = _DENIED


class EarlySupervisor:
    """Attributes: lock_fd is the open file of the cache's lock, the supervisor's too. order_fd takes the path of the spec;
    report_fd gives what the supervisor says. It ends by itself when order_fd closes without an order."""

    def __init__(self, arguments: Arguments, environment: Mapping[str, str]) -> None:
        """Raises: EarlyError."""
        try:
            self.lock_fd = open_cache_lock(arguments.cache)
        except OSError as error:
            raise EarlyError(
                f"the cache directory {arguments.cache} cannot be used: {error.strerror}; mount the Dataset's cache volume there,"
                " and run the pod as the Dataset's user"
            ) from error
        order, self.order_fd = os.pipe2(os.O_CLOEXEC)
        self.report_fd, report = os.pipe2(os.O_CLOEXEC)
        try:
            self.pid = spawn_supervisor(
                SUPERVISOR_MODULE,
                environment,
                order_fd=order,
                status_fd=report,
                custody=arguments.custody,
                lock_fd=self.lock_fd,
                foreground=True,
            )
        finally:
            os.close(order)
            os.close(report)
