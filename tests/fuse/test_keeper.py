"""Custody as a process of its own: what it refuses, what it remembers, and when it ends a connection. (tests/csi kills it.)"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusecache.base.run_sockets import connect_in
from fusecache.contract.errors import ErrorKind
from fusecache.contract.keeping import ADMIN_SOCKET, CUSTODY_SOCKET, MOUNTS_DIR, STATE_VERSION
from fusecache.custody.mountinfo import find_mount
from tests.support.mounted import ROOT, wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

GRACE_SECONDS = "1.5"


class Keeper:
    def __init__(self, base: Path) -> None:
        self.root = base / "custody"
        self.root.mkdir(exist_ok=True)
        self.mountpoint = base / "mnt"
        self.mountpoint.mkdir(exist_ok=True)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-P", "-m", "fusecache.custody.keeper", "--root", str(self.root), "--grace", GRACE_SECONDS]
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
        directory = str(self.root / MOUNTS_DIR / "one")
        with connect_in(directory, CUSTODY_SOCKET, socket.SOCK_SEQPACKET, 10.0) as connection:
            connection.sendall(json.dumps(message).encode())
            data, fds, _, _ = socket.recv_fds(connection, 16384, 64)
        for fd in fds:
            os.close(fd)
        return {**json.loads(data), "fds": len(fds)}

    def close(self) -> None:
        self.stop(signal.SIGKILL)
        while find_mount(str(self.mountpoint)) is not None:
            subprocess.run(["umount", "-l", str(self.mountpoint)], check=True, timeout=10)


@pytest.fixture
def keeper(disk_path: Path) -> Iterator[Keeper]:
    keeper = Keeper(disk_path)
    keeper.start()
    yield keeper
    keeper.close()


def test_a_mount_is_made_once_given_and_taken_away(keeper: Keeper) -> None:
    device = keeper.mount()["device"]
    entry = find_mount(str(keeper.mountpoint))
    assert entry is not None
    assert entry.device == device
    assert keeper.mount()["device"] == device
    assert keeper.mount(serve_count=2)["kind"] == ErrorKind.EXISTS
    given = keeper.say({"do": "take", "version": STATE_VERSION})
    assert (given["did"], given["device"], given["fds"]) == ("given", device, 4)
    assert keeper.say({"do": "take", "version": STATE_VERSION + 1})["kind"] == ErrorKind.UNSUPPORTED
    assert keeper.say({"do": "nonsense"})["did"] == "refused"
    assert keeper.say({"do": "return", "version": STATE_VERSION, "device": device})["kind"] == ErrorKind.BUSY
    for _ in range(2):
        assert "error" not in keeper.ask({"do": "unmount", "id": "one", "detach": True})
    assert find_mount(str(keeper.mountpoint)) is None
    assert keeper.ask({"do": "list"})["mounts"] == {}
    assert list((keeper.root / "journal").iterdir()) == []


@pytest.mark.parametrize(
    "request_",
    [{"do": "mount", "id": "../x"}, {"do": "mount", "id": "one"}, {"do": "what", "id": "one"}, {}, {"do": "use", "id": "x"}],
)
def test_what_is_refused(keeper: Keeper, request_: dict[str, Any]) -> None:
    assert "error" in keeper.ask(request_)
    assert keeper.ask({"do": "list"})["mounts"] == {}


def test_a_connection_without_a_daemon_is_ended(keeper: Keeper) -> None:
    """Whoever waits in it gets an error, and no hang."""
    keeper.mount()
    reader = subprocess.Popen(
        ["timeout", "-s", "KILL", "20", "ls", str(keeper.mountpoint)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    began = time.monotonic()
    _, said = reader.communicate(timeout=30)
    assert reader.returncode == 2, said
    assert time.monotonic() - began > 1.0


def test_custody_that_died_knows_what_is_mounted_and_what_is_gone(keeper: Keeper) -> None:
    """Nobody has the descriptors any more: the mount is told of as not held, and is made anew on request."""
    device = keeper.mount()["device"]
    keeper.stop(signal.SIGKILL)
    keeper.start()
    (one,) = keeper.ask({"do": "list"})["mounts"].values()
    assert (one["device"], one["is_held"], one["has_daemon"]) == (device, False, False)
    assert keeper.say({"do": "take", "version": STATE_VERSION})["kind"] == ErrorKind.UNAVAILABLE
    keeper.ask({"do": "unmount", "id": "one", "detach": True})
    assert find_mount(str(keeper.mountpoint)) is None
    keeper.mount()
    keeper.stop(signal.SIGKILL)
    subprocess.run(["umount", "-l", str(keeper.mountpoint)], check=True, timeout=10)
    keeper.start()
    assert keeper.ask({"do": "list"})["mounts"] == {}
