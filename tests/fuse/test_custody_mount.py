"""A real mount by the supervisor, with fake daemons: made, refused, busy, ended; nothing may be left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.exit_status import ExitStatus, exit_status_of
from fusecache.contract.mount_spec import Verify
from fusecache.contract.run_files import SUPERVISOR_SOCKET
from fusecache.custody import fuse_mount
from fusecache.custody.mountinfo import find_mount
from fusecache.custody.unmount import unmount
from tests.support.custody_mount import CustodyMount
from tests.support.mounted import wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]


Make = Callable[..., CustodyMount]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Makes mounts (not started) and takes them away."""
    made: list[CustodyMount] = []

    def make(name: str = "m", **spec_fields: Any) -> CustodyMount:
        made.append(CustodyMount(tmp_path, name, **spec_fields))
        return made[-1]

    yield make
    for one in reversed(made):
        one.close()


@pytest.fixture
def mount(make: Make) -> CustodyMount:
    return make(serve_processes=2)


def umount(mount: CustodyMount, *, lazy: bool = False) -> None:
    unmount(str(mount.run_root), str(mount.mountpoint), lazy=lazy)


def end_holder(holder: subprocess.Popen[bytes]) -> int:
    """Let it read once more from the file it has open, and end; returns its exit status."""
    holder.communicate(b"\n", timeout=10)
    return holder.returncode


def test_mounts_reads_and_leaves_nothing(mount: CustodyMount) -> None:
    assert mount.start() == {"state": "ready"}
    assert mount.read() == b"h" * 4096
    entry = find_mount(str(mount.mountpoint))
    assert entry is not None
    assert entry.source == "fusecache"
    assert {"ro", "nosuid", "nodev", "allow_other", "default_permissions", "max_read=1048576"} <= entry.options
    record = mount.record
    assert (record.state, record.access, record.device) == ("ready", "passthrough", entry.device)
    assert record.is_supervised
    assert len(record.serve) == 2
    assert Path(f"/sys/class/bdi/{entry.device}/read_ahead_kb").read_text() == f"{fuse_mount.READ_AHEAD_KIB}\n"
    assert os.stat(mount.run_dir).st_mode & 0o777 == 0o700
    assert all(os.lstat(mount.run_dir / name).st_mode & 0o077 == 0 for name in ("miss.sock", "control.sock", SUPERVISOR_SOCKET))
    umount(mount)
    assert mount.leftovers() == []
    assert mount.wait_ended() == 0
    assert mount.starts[-1]["role"] == "fetch-stopped"  # it could write its clean marker


def test_first_start_is_told_so(mount: CustodyMount) -> None:
    mount.start()
    assert wait_until(lambda: len(mount.starts) == 3, 10)  # the second serve comes after the mount answers
    fetch, *serves = sorted(mount.starts, key=lambda start: start["role"])
    assert fetch["fresh_connection"] is True
    assert fetch["drop_index"] is False
    assert sorted(serve["serve_index"] for serve in serves) == [0, 1]
    assert {serve["index_id"] for serve in serves} == {"00"}
    assert fetch["spec"] == str(mount.run_dir / "spec.json")


def test_serve_0_alone_answers_the_first_request(mount: CustodyMount) -> None:
    mount.misdeed("serve.late.0", "0.3")  # another one would have taken INIT by then
    assert mount.start() == {"state": "ready"}
    assert wait_until(lambda: len(mount.starts) == 3, 10)
    assert [start["serve_index"] for start in mount.starts if start["role"] == "serve"] == [0, 1]


def test_mounting_twice_names_the_cure(mount: CustodyMount, make: Make) -> None:
    mount.start()
    other = make(state_dir=str(mount.base / "other-state"), run_dir=str(mount.run_root / "second"))
    answer = other.start()
    assert answer["state"] == "failed"
    assert answer["kind"] == ErrorKind.BUSY
    assert f"fusecache umount {mount.mountpoint}" in answer["message"]
    assert other.wait_ended() == ExitStatus.BUSY
    assert not other.run_dir.exists()
    assert mount.read() == b"h" * 4096


def test_same_run_directory_is_left_alone(mount: CustodyMount) -> None:
    mount.start()
    first = mount.process
    assert mount.start()["kind"] == ErrorKind.BUSY
    assert mount.wait_ended() == ExitStatus.BUSY
    mount.process = first
    assert mount.read() == b"h" * 4096
    assert mount.record.is_supervised


def test_one_cache_one_owner(mount: CustodyMount, make: Make) -> None:
    mount.start()
    other = make("second")
    answer = other.start()
    assert answer["kind"] == ErrorKind.BUSY
    assert str(mount.mountpoint) in answer["message"]
    assert f"pid {mount.record.supervisor.pid}" in answer["message"]
    assert other.leftovers() == []
    umount(mount)
    assert other.start() == {"state": "ready"}
    umount(other)


def test_fetch_that_refuses_fails_the_mount_with_its_sentence(mount: CustodyMount) -> None:
    mount.misdeed("fetch.fail", "the access key is wrong; check AWS_ACCESS_KEY_ID")
    answer = mount.start()
    assert answer == {"state": "failed", "kind": 4, "message": "the access key is wrong; check AWS_ACCESS_KEY_ID"}
    assert mount.wait_ended() == ExitStatus.DENIED
    assert mount.leftovers() == []


def test_fetch_that_always_dies_fails_the_mount(mount: CustodyMount) -> None:
    mount.misdeed("fetch.exit", "-9")
    answer = mount.start()
    assert answer["state"] == "failed"
    assert "status -9" in answer["message"]
    assert [start["role"] for start in mount.starts] == ["fetch"] * 3
    assert mount.leftovers() == []


def test_daemon_that_cannot_be_imported_is_named(mount: CustodyMount) -> None:
    mount.modules = ("--fetch-module=tests.nowhere", "--serve-module=tests.nowhere")
    answer = mount.start()
    assert answer["state"] == "failed"
    assert "No module named tests.nowhere" in answer["message"]
    assert mount.leftovers() == []


@pytest.mark.parametrize("what", ["missing", "file"])
def test_mount_point_must_be_a_directory(make: Make, tmp_path: Path, what: str) -> None:
    place = tmp_path / "place"
    if what == "file":
        place.touch()
    mount = make(mountpoint=str(place))
    answer = mount.start()
    expected = ErrorKind.NOT_A_DIRECTORY if what == "file" else ErrorKind.NOT_FOUND
    assert answer["kind"] == expected
    assert mount.wait_ended() == exit_status_of(expected)
    assert not mount.run_dir.exists()


def test_busy_umount_names_the_holder_and_lazy_ends_it(mount: CustodyMount) -> None:
    mount.start()
    holder = mount.hold()
    try:
        with pytest.raises(CacheError) as caught:
            umount(mount)
        assert caught.value.kind is ErrorKind.BUSY
        assert f"{holder.pid} " in str(caught.value)
        assert "hello" in str(caught.value)
        assert "--lazy" in str(caught.value)
        assert mount.read() == b"h" * 4096
        umount(mount, lazy=True)
        assert mount.leftovers() == []
    finally:
        end_holder(holder)


def test_umount_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(CacheError) as caught:
        unmount(str(tmp_path / "run"), str(tmp_path))
    assert caught.value.kind is ErrorKind.NOT_FOUND


@pytest.mark.parametrize("busy", [False, True])
def test_sigterm_ends_it_busy_or_not(mount: CustodyMount, busy: bool) -> None:
    mount.start()
    holder = mount.hold() if busy else None
    assert mount.process is not None
    mount.process.send_signal(signal.SIGTERM)
    assert mount.wait_ended() == 0
    assert mount.leftovers() == []
    if holder is not None:
        end_holder(holder)


def test_foreground_interrupt(mount: CustodyMount) -> None:
    assert mount.start(foreground=True) == {"state": "ready"}
    assert not (mount.run_dir / "log").exists()
    assert mount.process is not None
    mount.process.send_signal(signal.SIGINT)
    assert mount.wait_ended() == 0
    assert mount.leftovers() == []


def test_serve_that_does_not_stop_is_ended(mount: CustodyMount) -> None:
    mount.start()
    mount.misdeed("serve.ignore_stop", "1")
    mount.misdeed("serve.hang", "60")
    reader = subprocess.Popen(["dd", f"if={mount.mountpoint}/hello", "of=/dev/null", "status=none"], stderr=subprocess.DEVNULL)
    time.sleep(0.3)  # the request has to arrive
    umount(mount, lazy=True)
    assert reader.wait(10) != 0
    assert mount.leftovers() == []


def test_starter_that_goes_away_ends_it(mount: CustodyMount) -> None:
    mount.misdeed("fetch.exit", "-19")  # SIGSTOP: never ready
    mount.give_up_starting(0.5)
    assert mount.wait_ended() == ExitStatus.INTERRUPTED
    for start in mount.starts:
        assert not Path(f"/proc/{start['pid']}").exists()
    assert mount.leftovers() == []


def test_umount_from_outside_ends_it(mount: CustodyMount) -> None:
    mount.start()
    subprocess.run(["umount", str(mount.mountpoint)], check=True, timeout=10)
    assert mount.wait_ended() == 0
    assert mount.leftovers() == []


def test_abort_ends_what_waits_for_a_daemon_that_never_comes(tmp_path: Path) -> None:
    one = fuse_mount.make_mount(str(tmp_path), 3, allow_other=True)
    try:
        assert one.is_cloned
        assert len(one.fds) == 3
        reader = subprocess.Popen(["ls", str(tmp_path)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        with pytest.raises(subprocess.TimeoutExpired):
            reader.wait(0.3)
        assert one.is_connected()
        one.abort()
        assert reader.wait(5) != 0
        assert not one.is_connected()
    finally:
        one.unmount(detach=True)
        one.close()
    one.unmount(detach=False)  # nothing there any more


def test_passthrough_by_favour(mount: CustodyMount) -> None:
    mount.start()
    assert mount.read("backed") == b"b" * 4096  # the container's bytes; serve itself would answer b"h"
    assert mount.record.passthrough_problem == ""


def test_passthrough_is_refused_where_every_byte_is_checked(make: Make) -> None:
    mount = make(verify=Verify.ALWAYS)
    mount.start()
    assert mount.read("backed") == b"h" * 4096


def test_credentials_reach_no_public_place(mount: CustodyMount) -> None:
    mount.environment = {"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI"}
    mount.start()
    record = mount.record
    pids = [record.supervisor.pid, *(process.pid for process in record.daemons)]
    for pid in pids:
        assert b"wJalrXUtnFEMI" not in Path(f"/proc/{pid}/cmdline").read_bytes()
        assert Path(f"/proc/{pid}/limits").read_text().split("Max core file size")[1].split()[0] == "0"
    assert "wJalrXUtnFEMI" not in "".join(path.read_text() for path in mount.run_dir.iterdir() if path.is_file())
    assert os.stat(f"/proc/{record.supervisor.pid}/maps").st_uid == 0
    assert "wJalrXUtnFEMI" not in json.dumps(mount.starts)
