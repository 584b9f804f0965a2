"""Daemons that die under readers are replaced from their spares; a damaged index is made anew; a dead supervisor leaves no dead
mount."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import Engine
from fusecache.custody.mount_table import MountRecord, ProcessId, list_mounts
from fusecache.custody.mountinfo import find_mount
from fusecache.custody.unmount import unmount
from tests.support.custody_mount import CustodyMount

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
    return make()


def umount(mount: CustodyMount, *, lazy: bool = False) -> None:
    unmount(str(mount.run_root), str(mount.mountpoint), lazy=lazy)


@pytest.mark.parametrize("role", ["serve", "fetch"])
def test_killed_daemon_is_replaced_by_its_spare(mount: CustodyMount, role: str, allowed: Callable[[float], float]) -> None:
    mount.start()
    mount.wait_spares()
    before = mount.record
    victim = before.serve[0] if role == "serve" else before.fetch
    assert victim is not None
    began = time.monotonic()
    os.kill(victim.pid, signal.SIGKILL)
    assert mount.read() == b"h" * 4096
    waited = time.monotonic() - began
    mount.wait(lambda record: record.restarts == 1 and record.state == "ready")
    after = mount.record
    successor = after.serve[0] if role == "serve" else after.fetch
    assert successor in before.spares
    print(f"{role} killed: a read from another process took {waited * 1000:.1f} ms")
    assert waited < allowed(2.0)  # the successor was a spare (above); the rest is how busy the machine is
    mount.wait_spares()
    assert mount.record.spares != before.spares
    umount(mount)
    assert mount.leftovers() == []


def test_request_that_died_with_its_daemon_is_answered(mount: CustodyMount) -> None:
    mount.start()
    mount.wait_spares()
    mount.misdeed("serve.exit.once", "-9")
    began = time.monotonic()
    assert mount.read() == b"h" * 4096
    print(f"a read whose serve process died took {(time.monotonic() - began) * 1000:.1f} ms")
    assert mount.record.restarts == 1


def test_repeated_kills_under_a_reader(make: Make, allowed: Callable[[float], float]) -> None:
    mount = make(serve_processes=2)
    mount.start()
    mount.wait_spares()
    path = mount.mountpoint / "hello"
    code = f"""
import time
end = time.monotonic() + 3
longest = count = 0
while time.monotonic() < end:
    began = time.monotonic()
    with open({str(path)!r}, 'rb', buffering=0) as file:
        assert file.read(4096) == b'h' * 4096
    longest = max(longest, time.monotonic() - began)
    count += 1
print(count, longest)
"""
    reader = subprocess.Popen(["timeout", "-s", "KILL", "20", "python3", "-c", code], stdout=subprocess.PIPE)
    kills = 0
    while reader.poll() is None:
        time.sleep(0.4)
        victims = [process for process in mount.record.serve if process.is_alive]
        if victims and reader.poll() is None:
            os.kill(victims[kills % len(victims)].pid, signal.SIGKILL)
            kills += 1
    output = reader.communicate()[0].split()
    assert reader.returncode == 0
    print(f"{int(output[0])} reads, none failed, {kills} kills, longest wait {float(output[1]) * 1000:.0f} ms")
    assert kills >= 5
    assert float(output[1]) < allowed(1.0)
    mount.wait(lambda record: record.restarts == kills)


def test_index_damaged_drops_it_and_replaces_everybody(mount: CustodyMount) -> None:
    mount.start()
    mount.wait_spares()
    mount.misdeed("serve.exit.once", "86")
    assert mount.read() == b"h" * 4096
    mount.wait(lambda record: record.state == "ready" and record.index_rebuilds == 1)
    fetches = [start for start in mount.starts if start["role"] == "fetch"]
    assert [start["drop_index"] for start in fetches] == [False, True]
    assert fetches[1]["fresh_connection"] is False
    assert mount.starts[-1]["index_id"] == "00-new"


def test_three_crashes_by_signal_mean_a_damaged_index(mount: CustodyMount) -> None:
    mount.start()
    for number in (signal.SIGBUS, signal.SIGSEGV, signal.SIGABRT):
        mount.wait(lambda record: record.state == "ready" and record.serve and record.serve[0].is_alive)
        count = sum(start["role"] == "serve" for start in mount.starts)
        os.kill(mount.record.serve[0].pid, number)
        mount.wait(lambda record, count=count: sum(start["role"] == "serve" for start in mount.starts) > count)
    mount.wait(lambda record: record.index_rebuilds == 1 and record.state == "ready")
    assert [start["drop_index"] for start in mount.starts if start["role"] == "fetch"] == [False, True]
    assert mount.read() == b"h" * 4096


def test_other_index_replaces_serves(mount: CustodyMount) -> None:
    mount.start()
    mount.misdeed("index_id", "01")
    fetch = mount.record.fetch
    assert fetch is not None
    os.kill(fetch.pid, signal.SIGKILL)
    mount.wait(lambda record: mount.starts[-1]["role"] == "serve" and mount.starts[-1]["index_id"] == "01")
    assert mount.read() == b"h" * 4096
    assert mount.record.restarts == 1  # the serve was no casualty


def test_failure_after_the_mount_is_up_is_tried_again(mount: CustodyMount) -> None:
    mount.start()
    mount.misdeed("fetch.fail", "the key was revoked; give a new one")
    fetch = mount.record.fetch
    assert fetch is not None
    os.kill(fetch.pid, signal.SIGKILL)
    mount.wait(lambda record: record.state == "degraded" and "revoked" in record.last_error)
    assert mount.read() == b"h" * 4096  # hits go on
    time.sleep(1.2)
    assert sum(start["role"] == "fetch" for start in mount.starts) <= 4  # it is not tried in a loop
    (mount.fake_dir / "fetch.fail").unlink()
    mount.wait(lambda record: record.state == "ready" and record.last_error == "")
    umount(mount)
    assert mount.leftovers() == []


def test_serve_that_dies_at_every_start_is_not_started_in_a_loop(mount: CustodyMount) -> None:
    mount.start()
    mount.wait_spares()
    mount.misdeed("serve.exit_at_start", "3")
    os.kill(mount.record.serve[0].pid, signal.SIGKILL)
    time.sleep(3.0)
    count = sum(start["role"] == "serve" for start in mount.starts)
    assert 4 <= count <= 12
    assert mount.record.state == "degraded"
    (mount.fake_dir / "serve.exit_at_start").unlink()
    assert mount.read() == b"h" * 4096


def test_fetch_that_crashes_after_every_ready_is_not_started_in_a_loop(mount: CustodyMount) -> None:
    mount.start()
    mount.wait_spares()
    mount.misdeed("fetch.ready_then_exit", "3")
    fetch = mount.record.fetch
    assert fetch is not None
    os.kill(fetch.pid, signal.SIGKILL)
    time.sleep(4.0)
    count = sum(start["role"] == "fetch" for start in mount.starts)
    assert 4 <= count <= 12
    assert mount.read() == b"h" * 4096  # hits go on
    (mount.fake_dir / "fetch.ready_then_exit").unlink()
    mount.wait(lambda record: record.state == "ready" and record.last_error == "")


def test_killed_supervisor_children_go_on_and_umount_cleans_up(mount: CustodyMount, make: Make) -> None:
    mount.start()
    mount.wait_spares()
    assert mount.process is not None
    spares = mount.record.spares
    mount.process.kill()
    mount.process.wait()
    assert mount.read() == b"h" * 4096
    assert not mount.record.is_supervised
    other = make("second")
    answer = other.start()
    assert answer["kind"] == ErrorKind.BUSY  # the daemons that go on still own the cache
    other.wait_ended()
    assert mount.start()["kind"] == ErrorKind.BUSY
    mount.wait_ended()
    holder = mount.hold()
    with pytest.raises(CacheError, match=rf"{holder.pid} .*--lazy"):
        umount(mount)
    holder.communicate(b"\n", timeout=10)
    umount(mount)
    assert mount.leftovers() == []
    assert not any(process.is_alive for process in spares)
    assert mount.start() == {"state": "ready"}


def test_everybody_killed_leaves_a_dead_mount_that_umount_clears(mount: CustodyMount) -> None:
    mount.start()
    record = mount.record
    holder = mount.hold()
    assert mount.process is not None
    mount.process.kill()
    mount.process.wait()
    for process in record.daemons:
        if process.is_alive:
            os.kill(process.pid, signal.SIGKILL)
    with pytest.raises(subprocess.CalledProcessError):
        mount.read()
    umount(mount)  # not lazy: nobody can use it any more
    assert mount.leftovers() == []
    holder.communicate(b"\n", timeout=10)
    assert mount.start() == {"state": "ready"}


def test_leftover_run_directory_is_removed_by_the_next_mount(mount: CustodyMount, tmp_path: Path) -> None:
    dead = tmp_path / "run" / "dead"
    dead.mkdir(parents=True)
    record = MountRecord(str(tmp_path / "gone"), "d", [], "native", str(dead), "", ended_process())
    record.store()
    mount.start()
    assert [one.mountpoint for one in list_mounts(str(tmp_path / "run"))] == [str(mount.mountpoint)]


def ended_process() -> ProcessId:
    process = subprocess.Popen(["sleep", "60"])
    identity = ProcessId.of(process.pid)
    process.kill()
    process.wait()
    return identity


def test_libfuse_engine_gets_a_new_mount(make: Make) -> None:
    mount = make(engine=Engine.PYFUSE3, serve_processes=4)
    mount.start()
    assert len(mount.record.serve) == 1
    first = mount.record.device
    holder = mount.hold()
    os.kill(mount.record.serve[0].pid, signal.SIGKILL)
    mount.wait(lambda record: record.restarts == 1 and record.state == "ready" and record.device != "" and record.serve)
    assert mount.read() == b"h" * 4096
    assert mount.record.device != first
    holder.communicate(b"\n", timeout=10)
    assert holder.returncode != 0  # what was open on the old mount is lost, but ends
    umount(mount)
    assert find_mount(str(mount.mountpoint)) is None
