"""What fake daemons share: the control channel, the record of starts, and the misdeeds that files in FAKE_DIR ask for."""

from __future__ import annotations

import array
import json
import os
import socket
from pathlib import Path
from typing import Any


class Control:
    def __init__(self, fd: int) -> None:
        self._socket = socket.socket(fileno=fd)

    def receive(self) -> tuple[dict[str, Any] | None, list[int]]:
        """Return a message with its descriptors; None when the supervisor is gone."""
        fds = array.array("i")
        data, ancillary, _, _ = self._socket.recvmsg(65536, socket.CMSG_SPACE(16 * fds.itemsize))
        for _, _, payload in ancillary:
            fds.frombytes(payload)
        return (json.loads(data) if data else None), list(fds)

    def tell(self, message: dict[str, Any]) -> None:
        self._socket.send(json.dumps(message).encode())


def fake_dir() -> Path:
    return Path(os.environ["FAKE_DIR"])


def note_start(role: str, message: dict[str, Any]) -> None:
    with open(fake_dir() / "starts", "a") as file:
        file.write(json.dumps({"role": role, "pid": os.getpid(), **message}) + "\n")


def misdeed(name: str) -> str:
    """Return the text of the file `name`, or of `name.once`, which is removed; "" if there is neither."""
    for path in (fake_dir() / f"{name}.once", fake_dir() / name):
        try:
            text = path.read_text()
        except FileNotFoundError:
            continue
        if path.name.endswith(".once"):
            path.unlink(missing_ok=True)
        return text
    return ""


def end(status: str) -> None:
    """End this process with an exit status, or, if negative, by that signal."""
    number = int(status)
    if number < 0:
        os.kill(os.getpid(), -number)
    os._exit(number)
