"""JSON lines over supervisor.sock: one request a line, answered in order, some later than asked.

State: the open connections. Called from the supervisor's loop; neither reading nor answering blocks. Requests: {"do": "umount",
"lazy": bool}, answered when everything is gone; {"do": "status"}, answered with the fields of mount.json; {"do": "yield"}: end
at once, and leave mount and cache to a daemon that waits for them. An answer has "done": true; an error also "error": SENTENCE,
"kind": ErrorKind.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import struct
from collections.abc import Callable
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody.event_loop import EventLoop

log = logging.getLogger(__name__)

MAX_LINE_BYTES = 64 << 10
Reply = Callable[[dict[str, Any]], None]
Handler = Callable[[dict[str, Any], Reply], None]


def error_answer(error: CacheError) -> dict[str, Any]:
    return {"done": True, "error": str(error), "kind": int(error.kind)}


class RequestServer:
    """Only the owner and root get to the socket, by its mode."""

    def __init__(self, loop: EventLoop, listener: socket.socket, handler: Handler) -> None:
        self._loop = loop
        self._listener = listener
        self._handler = handler
        self._connections: dict[socket.socket, bytes] = {}
        listener.setblocking(False)
        loop.register(listener.fileno(), self._accept)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            connection, _ = self._listener.accept()
            connection.setblocking(False)
            self._connections[connection] = b""
            self._loop.register(connection.fileno(), lambda: self._read(connection))

    def _read(self, connection: socket.socket) -> None:
        try:
            data = connection.recv(MAX_LINE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        buffered = self._connections[connection] + data
        if not data or len(buffered) > MAX_LINE_BYTES:
            return self._drop(connection)
        *lines, self._connections[connection] = buffered.split(b"\n")
        for line in lines:
            self._answer(connection, line)

    def _answer(self, connection: socket.socket, line: bytes) -> None:
        def reply(answer: dict[str, Any]) -> None:
            with contextlib.suppress(OSError):  # who asked has gone
                connection.send(json.dumps(answer).encode() + b"\n")

        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ValueError("not an object")
            self._handler(request, reply)
        except CacheError as error:
            reply(error_answer(error))
        except ValueError as error:
            reply(error_answer(CacheError(ErrorKind.INVALID, f"not a request: {error}; send one JSON object a line")))
        except (OSError, struct.error) as error:  # a full disk, memory that a daemon has truncated: nothing to end for
            log.error("a request failed: %r", error)
            reply(error_answer(CacheError(ErrorKind.UNAVAILABLE, f"it failed: {error}")))

    def _drop(self, connection: socket.socket) -> None:
        self._loop.unregister(connection.fileno())
        del self._connections[connection]
        connection.close()

    def close(self) -> None:
        for connection in list(self._connections):
            self._drop(connection)
        self._loop.unregister(self._listener.fileno())
        self._listener.close()
