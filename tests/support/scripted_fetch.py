"""The listening end of the miss socket, played by the test itself: accept, look at what came, answer, die.

Owns the listening socket (as custody does) and the current connection. Everything blocks for a few seconds at most, then fails.
"""

from __future__ import annotations

import socket
from pathlib import Path

from fusecache.contract import run_files
from fusecache.contract.messages import MAX_MESSAGE_BYTES, STATUS_OK, Answer, Op, Request

TIMEOUT_SECONDS = 5.0


class ScriptedFetch:
    def __init__(self, run_dir: Path) -> None:
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(run_dir / run_files.MISS_SOCKET))
        self._listener.listen(8)
        self._listener.settimeout(TIMEOUT_SECONDS)
        self._connection: socket.socket | None = None

    def accept(self) -> Request:
        """Take a connection; return its HELLO."""
        self._connection, _ = self._listener.accept()
        self._connection.settimeout(TIMEOUT_SECONDS)
        return self.receive()

    def receive(self) -> Request:
        assert self._connection is not None
        return Request.unpack(self._connection.recv(MAX_MESSAGE_BYTES))

    def receive_nothing(self, seconds: float = 0.05) -> bool:
        assert self._connection is not None
        self._connection.settimeout(seconds)
        try:
            self._connection.recv(MAX_MESSAGE_BYTES)
        except TimeoutError:
            return True
        finally:
            self._connection.settimeout(TIMEOUT_SECONDS)
        return False

    def answer(self, token: int, status: int = STATUS_OK) -> None:
        self.send(Answer(Op.ANSWER, token, status).pack())

    def send(self, data: bytes) -> None:
        assert self._connection is not None
        self._connection.send(data)

    def die(self) -> None:
        """End the connection, as the kernel does for a killed process. With messages unread, the other end sees a reset."""
        assert self._connection is not None
        self._connection.close()
        self._connection = None

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
        self._listener.close()
