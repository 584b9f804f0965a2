"""Asking the privileged supervisor for favours (contract/process.py): one question at a time over the favour channel.

State: the channel. Thread-safe. The answer comes at once, so a lock held while waiting is held shortly.
"""

from __future__ import annotations

import array
import json
import socket
import threading
from typing import Any

_MAX_ANSWER_BYTES = 4096
# The supervisor answers at once; it may be paused (a debugger, a frozen machine), and a reader must not wait for that for ever.
# A guess.
_TIMEOUT_SECONDS = 5.0


class FavourClient:
    """Implements `fuse.native.settings.Favours`."""

    def __init__(self, channel: socket.socket) -> None:
        self._channel = channel
        self._channel.settimeout(_TIMEOUT_SECONDS)
        self._lock = threading.Lock()
        self._broken = False

    def open_file(self, inode: int, unique: int, container_fd: int) -> int | None:
        answer = self._ask({"ask": "open", "inode": inode, "unique": unique}, container_fd)
        return int(answer["backing_id"]) if answer.get("mode") == "passthrough" else None

    def release_file(self, inode: int, unique: int) -> None:
        self._ask({"ask": "release", "inode": inode, "unique": unique}, -1)

    def _ask(self, question: dict[str, Any], fd: int) -> dict[str, Any]:
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))] if fd >= 0 else []
        with self._lock:
            if self._broken:
                raise ConnectionError("the supervisor did not answer in time before")
            try:
                self._channel.sendmsg([json.dumps(question).encode()], rights)
                data = self._channel.recv(_MAX_ANSWER_BYTES)
            except TimeoutError:
                self._broken = True  # an answer that comes later must not be taken for that of another question
                raise
        if not data:
            raise ConnectionError("the supervisor closed the favour channel")
        answer = json.loads(data)
        if not isinstance(answer, dict) or "error" in answer:
            raise ConnectionError(f"the supervisor answered {answer!r}")
        return answer
