"""Custody as a process, and a client of it. Owns the process; what it mounts lies below a directory of the test."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

from fusecache.base.run_sockets import connect_in
from fusecache.contract.keeping import ADMIN_SOCKET, CUSTODY_SOCKET, MOUNTS_DIR, STATE_VERSION
from fusecache.custody.mountinfo import find_mount
from tests.support.mounted import ROOT, wait_until


class Keeper:
    """`grace`: seconds that a mount may be without a daemon."""

    def __init__(self, base: Path, grace: str = "300") -> None:
        self._grace = grace
        self.root = base / "custody"
        self.root.mkdir(exist_ok=True)
        self.mountpoint = base / "mnt"
        self.mountpoint.mkdir(exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "fusecache.custody.keeper", "--root", str(self.root), "--grace", self._grace]
        self.process = subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
        assert wait_until(self._answers, 10.0)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            return "mounts" in self.ask({"do": "list"})
        return False

    def stop(self, number: signal.Signals) -> None:
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(10)
            self.process = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        with connect_in(str(self.root), ADMIN_SOCKET, socket.SOCK_STREAM, 10.0) as connection, connection.makefile("rb") as lines:
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(lines.readline())
        assert isinstance(answer, dict)
        return answer

    def mount(self, **more: Any) -> dict[str, Any]:
        order = {
            "do": "mount", "id": "one", "mountpoint": str(self.mountpoint), "serve_count": 1, "read_write": False,
            "allow_other": True, "uid": 0, "tiers": [], "passthrough": True,
        }  # fmt: skip
        return self.ask({**order, **more})

    def say(self, message: dict[str, Any]) -> dict[str, Any]:
        """As a daemon would, which then goes away."""
        answer, fds = self._tell(message)
        for fd in fds:
            os.close(fd)
        return {**answer, "fds": len(fds)}

    def take(self) -> int:
        """Take the mount as a daemon would. Return the descriptor of the shared memory."""
        _, (memory, *others) = self._tell({"do": "take", "version": STATE_VERSION})
        for fd in others:
            os.close(fd)
        return memory

    def _tell(self, message: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
        directory = str(self.root / MOUNTS_DIR / "one")
        with connect_in(directory, CUSTODY_SOCKET, socket.SOCK_SEQPACKET, 10.0) as connection:
            connection.sendall(json.dumps(message).encode())
            data, fds, _, _ = socket.recv_fds(connection, 16384, 64)
        return json.loads(data), list(fds)

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        while find_mount(str(self.mountpoint)) is not None:
            subprocess.run(["umount", "-l", str(self.mountpoint)], check=True, timeout=10)
