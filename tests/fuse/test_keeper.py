"""Custody as a process of its own: what it refuses, what it remembers, and when it ends a connection. (tests/csi kills it.)"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusecache.base import durable_files
from fusecache.contract.errors import ErrorKind
from fusecache.contract.keeping import CUSTODY_SOCKET, JOURNAL_DIR, MOUNTS_DIR, STATE_VERSION
from fusecache.custody.mountinfo import find_mount
from tests.support.keeper import Keeper
from tests.support.mounted import ROOT

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

GRACE_SECONDS = "1.5"


@pytest.fixture
def keeper(disk_path: Path) -> Iterator[Keeper]:
    keeper = Keeper(disk_path, GRACE_SECONDS)
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


def test_there_is_one_for_a_directory(keeper: Keeper) -> None:
    """Two were started when a call and the driver's own look met a custody that had just died; the first stayed for ever."""
    second = Keeper(keeper.root.parent, GRACE_SECONDS)
    command = [sys.executable, "-P", "-m", "fusecache.custody.keeper", "--root", str(second.root)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=10, check=False
    )
    assert done.returncode == 1
    assert "another custody runs" in done.stderr
    assert "error" not in keeper.ask({"do": "list"})
    keeper.stop(signal.SIGKILL)
    keeper.start()


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


def test_custody_that_died_before_it_knew_what_it_had_mounted(keeper: Keeper) -> None:
    """It was killed for memory between mounting and writing that down: a dead mount stayed below each later one."""
    keeper.mount()
    keeper.stop(signal.SIGKILL)
    (entry,) = (keeper.root / JOURNAL_DIR).iterdir()
    (order,) = durable_files.load_all(keeper.root / JOURNAL_DIR).values()
    durable_files.write(entry, {**order, "device": ""})
    keeper.start()
    assert find_mount(str(keeper.mountpoint)) is None
    assert keeper.ask({"do": "list"})["mounts"] == {}


def test_a_directory_where_the_socket_was(keeper: Keeper) -> None:
    """The directory is the daemon's: what it makes there must not keep custody from starting, with all other mounts."""
    keeper.mount()
    socket_path = keeper.root / MOUNTS_DIR / "one" / CUSTODY_SOCKET
    socket_path.unlink()
    (socket_path / "full").mkdir(parents=True)
    keeper.stop(signal.SIGTERM)
    keeper.start()
    assert set(keeper.ask({"do": "list"})["mounts"]) == {"one"}
    keeper.ask({"do": "unmount", "id": "one", "detach": True, "abort": True})
    assert find_mount(str(keeper.mountpoint)) is None


def test_memory_that_a_daemon_has_truncated(keeper: Keeper) -> None:
    keeper.mount()
    memory = keeper.take()
    os.ftruncate(memory, 0)
    os.close(memory)
    (one,) = keeper.ask({"do": "list"})["mounts"].values()
    assert (one["is_held"], one["is_initialized"]) == (True, False)
