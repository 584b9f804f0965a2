"""One child process and the control channel to it.

State: pid, pidfd and our end of the SEQPACKET pair. Called by the supervisor from its one thread. Processes are started with
posix_spawn (vfork and exec): the supervisor's memory is never copied, and no descriptor but those named crosses.
"""

from __future__ import annotations

import array
import contextlib
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody import kernel
from fusecache.custody.event_loop import close_quietly

FETCH = "fetch"
SERVE = "serve"
MAX_MESSAGE_BYTES = 64 << 10
_DEFAULT_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGPIPE)


class Child:
    """A process of one role. It is a *spare* until START was sent.

    One that is started before anybody knows the mount has no log (`log_fd` -1) and no lock until `adopt`.

    Attributes:
        serve_index: which serve process it is since START; -1 for fetch and spares.
        started_at: monotonic seconds of START.
        is_ready: it said ready.
        failure: what it said when it gave up, or None.
        is_replaced: the supervisor ended it on purpose, its death is not counted.
        favour_channel: our end of what serve asks favours on, or None.
        status: exit status (minus the signal's number), or None while it runs.
    """

    def __init__(self, role: str, module: str, environment: Mapping[str, str], inherited_fds: Sequence[int], log_fd: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                passed = (theirs.fileno(), *inherited_fds)
                actions: list[Any] = [(os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0)]
                if log_fd >= 0:
                    actions += [(os.POSIX_SPAWN_DUP2, log_fd, 1), (os.POSIX_SPAWN_DUP2, log_fd, 2)]
                else:
                    actions += [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_WRONLY, 0) for fd in (1, 2)]
                actions += [(os.POSIX_SPAWN_DUP2, fd, fd) for fd in passed]  # onto itself: clears close-on-exec
                arguments = [sys.executable, "-P", "-m", module, str(theirs.fileno())]
                self.pid = os.posix_spawn(
                    sys.executable,
                    arguments,
                    dict(environment),
                    file_actions=actions,
                    setsid=True,
                    setsigmask=[],
                    setsigdef=_DEFAULT_SIGNALS,
                )
        except OSError as error:
            ours.close()
            raise CacheError(
                ErrorKind.BUG, f"{sys.executable} cannot be started: {error.strerror}; check the installation"
            ) from error
        ours.setblocking(False)
        self.role = role
        self.channel = ours
        self.pidfd = os.pidfd_open(self.pid)
        self.start_time = kernel.process_start_time(self.pid) or 0
        self.serve_index = -1
        self.is_started = False
        self.started_at = 0.0
        self.is_ready = False
        self.failure: CacheError | None = None
        self.is_replaced = False
        self.favour_channel: socket.socket | None = None
        self.status: int | None = None

    @property
    def name(self) -> str:
        return f"serve {self.serve_index}" if self.role == SERVE and self.is_started else self.role

    def start(self, message: Mapping[str, Any], fds: Sequence[int]) -> None:
        """Send START. The child need not have come up yet: the socket keeps it. A dead child is noticed by its pidfd."""
        self.is_started = True
        self.started_at = time.monotonic()
        self._send({"do": "start", **message}, fds)

    def adopt(self, log_fd: int, lock_fd: int) -> None:
        """Give a child that was started early what others inherit."""
        self._send({"do": "adopt"}, (log_fd, lock_fd))

    def ask_to_stop(self) -> None:
        self._send({"do": "stop"}, ())

    def ask_to_finish(self) -> None:
        self._send({"do": "finish"}, ())

    def ping(self) -> bool:
        """Ask for a sign of life; return whether the question could be sent."""
        return self._send({"do": "ping"}, ())

    def _send(self, message: Mapping[str, Any], fds: Sequence[int]) -> bool:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            self.channel.sendmsg([json.dumps(message).encode()], rights)
        except OSError:  # it died, or does not read: its pidfd or a deadline tells
            return False
        return True

    def receive(self) -> dict[str, Any] | None:
        """Return the next message, or None if there is none now (or never again)."""
        try:
            data = self.channel.recv(MAX_MESSAGE_BYTES)
        except OSError:
            return None
        if not data:
            return None
        try:
            message = json.loads(data)
        except ValueError:
            return {}
        return message if isinstance(message, dict) else {}

    def kill(self) -> None:
        if self.status is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> int:
        """Collect the exit status of a process whose pidfd is readable, and close what belonged to it."""
        result = os.waitid(os.P_PIDFD, self.pidfd, os.WEXITED)
        assert result is not None
        self.status = result.si_status if result.si_code == os.CLD_EXITED else -result.si_status
        close_quietly(self.pidfd)
        self.channel.close()
        if self.favour_channel is not None:
            self.favour_channel.close()
        return self.status
