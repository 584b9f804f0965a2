"""The supervisor's side of custody as a process of its own: takes the mount over, brings it back when custody was started again.

State: the connection and what was given. Called from the supervisor's loop; only `take` waits. Messages: contract/keeping.py.
"""

from __future__ import annotations

import array
import contextlib
import json
import logging
import os
import select
import socket
from collections.abc import Callable, Sequence
from typing import Any

from fusecache.base.run_sockets import connect_in
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.keeping import CUSTODY_SOCKET, GIVEN_FDS, MAX_DATAGRAM_BYTES, MAX_FDS, STATE_VERSION
from fusecache.contract.shared_memory import H_INIT_DONE, U64
from fusecache.custody.event_loop import EventLoop, close_quietly

log = logging.getLogger(__name__)

TAKE_SECONDS = 10.0
RECONNECT_SECONDS = 0.1


class CustodyMount:
    """A mount that custody made: what the crew needs of it. Nothing here can take it away."""

    def __init__(self, client: CustodyClient, given: dict[str, Any], fds: list[int]) -> None:
        self._client = client
        self.mountpoint = str(given["mountpoint"])
        self.device = str(given["device"])
        self.is_read_only = bool(given["read_only"])
        self.fds = fds

    @property
    def connection(self) -> int:
        return int(self.device.partition(":")[2])

    def is_connected(self) -> bool:
        poller = select.poll()
        poller.register(self.fds[0], 0)
        return not any(event & (select.POLLERR | select.POLLNVAL) for _, event in poller.poll(0))

    def raise_read_ahead(self) -> str:
        """Have custody do it; what comes of it stands in its log."""
        self._client.send({"do": "read_ahead"})
        return ""

    def close(self) -> None:
        close_quietly(*self.fds)
        self.fds = []


class CustodyClient:
    """Attributes:
    shared_memory, bounce: of the mount, since `take`.
    """

    def __init__(self, directory: str, loop: EventLoop, on_end: Callable[[], None], on_kept: Callable[[], None]) -> None:
        """`on_end`: another daemon takes over, or the mount is gone. `on_kept`: custody was started again, and keeps the mount:
        serve needs new favour channels."""
        self._directory = directory
        self._loop = loop
        self._on_end = on_end
        self._on_kept = on_kept
        self._socket: socket.socket | None = None
        self._own: list[int] = []
        self._mount: CustodyMount | None = None
        self._closed = False

    @property
    def shared_memory(self) -> int:
        return self._own[0]

    @property
    def bounce(self) -> int:
        return self._own[1]

    def take(self) -> CustodyMount:
        """Take the mount over; its daemon, if there is one, is told to end. Raises: CacheError."""
        try:
            connection = connect_in(self._directory, CUSTODY_SOCKET, socket.SOCK_SEQPACKET, TAKE_SECONDS)
        except OSError as error:
            raise CacheError(ErrorKind.UNAVAILABLE, f"custody does not answer in {self._directory}: {error.strerror}") from error
        fds: list[int] = []
        try:
            connection.sendall(json.dumps({"do": "take", "version": STATE_VERSION}).encode())
            given = _receive(connection, fds)
            if given is None or given.get("did") != "given":
                raise _refusal(given)
            if len(fds) != len(GIVEN_FDS) + int(given["serve_count"]):
                raise CacheError(ErrorKind.BUG, "custody gave another number of descriptors than it said")
        except OSError as error:
            close_quietly(*fds)
            connection.close()
            raise CacheError(ErrorKind.UNAVAILABLE, f"custody does not answer in {self._directory}: {error}") from error
        except BaseException:
            close_quietly(*fds)
            connection.close()
            raise
        self._own = fds[: len(GIVEN_FDS)]
        self._mount = CustodyMount(self, given, fds[len(GIVEN_FDS) :])
        self._use(connection)
        return self._mount

    def pass_favours_on(self, channel: socket.socket) -> None:
        """Let custody answer what serve asks for on the other end."""
        self.send({"do": "favours"}, [channel.fileno()])

    def send(self, message: dict[str, Any], fds: Sequence[int] = ()) -> None:
        """Nothing, while custody is away."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        if self._socket is not None:
            with contextlib.suppress(OSError):
                self._socket.sendmsg([json.dumps(message).encode()], rights)

    def close(self) -> None:
        self._closed = True
        self._drop()
        if self._mount is not None:
            self._mount.close()
        close_quietly(*self._own)
        self._own = []

    def _use(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._loop.register(connection.fileno(), self._on_message)

    def _drop(self) -> None:
        if self._socket is not None:
            self._loop.unregister(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _on_message(self) -> None:
        assert self._socket is not None
        try:
            message = _receive(self._socket, [])
        except BlockingIOError:
            return
        except OSError:
            message = None
        if message is None:
            log.warning("custody is gone; it gets everything back when it is there again")
            self._drop()
            return self._loop.call_later(RECONNECT_SECONDS, self._bring_back)
        if message.get("do") == "end":
            log.info("another daemon takes over")
            self._on_end()
        elif message.get("did") == "kept":
            log.info("custody keeps the mount again")
            self._on_kept()
        elif message.get("did") == "refused":
            error = _refusal(message)
            log.error("custody does not keep the mount: %s", error)
            if error.kind in (ErrorKind.BUSY, ErrorKind.NOT_FOUND):
                self._on_end()
        elif message.get("problem"):
            log.info("%s", message["problem"])

    def _bring_back(self) -> None:
        if self._closed or self._mount is None:
            return
        try:
            connection = connect_in(self._directory, CUSTODY_SOCKET, socket.SOCK_SEQPACKET, RECONNECT_SECONDS)
        except OSError:
            return self._loop.call_later(RECONNECT_SECONDS, self._bring_back)
        self._use(connection)
        self.send({"do": "return", "version": STATE_VERSION, "device": self._mount.device}, [*self._own, *self._mount.fds])


def _receive(connection: socket.socket, fds: list[int]) -> dict[str, Any] | None:
    """Return a message, None at the end. Raises: OSError."""
    received = array.array("i")
    data, ancillary, _, _ = connection.recvmsg(
        MAX_DATAGRAM_BYTES, socket.CMSG_SPACE(MAX_FDS * received.itemsize), socket.MSG_CMSG_CLOEXEC
    )
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
    fds.extend(received)
    if not data:
        return None
    try:
        message = json.loads(data)
    except ValueError:
        return {}
    return message if isinstance(message, dict) else {}


def _refusal(message: dict[str, Any] | None) -> CacheError:
    if message is None:
        return CacheError(ErrorKind.UNAVAILABLE, "custody went away while it was asked for the mount: ask again")
    try:
        kind = ErrorKind(int(message.get("kind", ErrorKind.BUG)))
    except ValueError:
        kind = ErrorKind.BUG
    return CacheError(kind, str(message.get("error", "custody refused, and did not say why")))


def is_initialized(shared_memory: int) -> bool:
    """Whether a daemon has answered INIT on the connection that the memory belongs to."""
    return bool(U64.unpack(os.pread(shared_memory, U64.size, H_INIT_DONE))[0])
