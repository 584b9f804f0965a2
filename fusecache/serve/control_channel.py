"""The child's end of the control channel (contract/process.py): START with its descriptors, stop, and what the child tells.

State: the socket. One thread receives; any thread tells.
"""

from __future__ import annotations

import array
import json
import socket
from collections.abc import Sequence
from typing import Any

from fusecache.base.adoption import adopt

_MAX_MESSAGE_BYTES = 64 << 10
_MAX_FDS = 16


class ControlChannel:
    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)
        self._socket.set_inheritable(False)

    def receive(self, fd_names: Sequence[str] = ()) -> tuple[dict[str, Any], dict[str, int]]:
        """Return the next message and the descriptors that came with it, by name.

        Raises: EOFError when the supervisor is gone; ValueError."""
        while True:
            message, received = self._receive()
            if message.get("do") != "adopt":
                break
            adopt(received)
        if fd_names and len(received) != len(fd_names):
            raise ValueError(f"the supervisor sent {len(received)} descriptors instead of {', '.join(fd_names)}")
        return message, dict(zip(fd_names, received, strict=False))

    def _receive(self) -> tuple[dict[str, Any], array.array[int]]:
        received = array.array("i")
        try:
            data, ancillary, _, _ = self._socket.recvmsg(
                _MAX_MESSAGE_BYTES, socket.CMSG_SPACE(_MAX_FDS * received.itemsize), socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError:
            data, ancillary = b"", []
        if not data:
            raise EOFError("the supervisor closed the control channel")
        for level, kind, payload in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                received.frombytes(payload[: len(payload) - len(payload) % received.itemsize])
        message = json.loads(data)
        if not isinstance(message, dict):
            raise ValueError(f"the supervisor sent {message!r}")
        return message, received

    def tell(self, **message: object) -> None:
        """Say something. A supervisor that is gone, or does not read, is no reason to fail."""
        try:
            self._socket.send(json.dumps(message).encode(), socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
        except OSError:
            return
