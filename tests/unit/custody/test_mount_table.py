from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from fusecache.base.run_sockets import connect_in, listen_in
from fusecache.contract.run_files import MOUNT_STATE
from fusecache.custody.mount_table import MountRecord, ProcessId, find_record, list_mounts, remove_leftovers, run_root

US = ProcessId.of(os.getpid())
GONE = ProcessId(os.getpid(), 1)


def record(root: Path, name: str, supervisor: ProcessId = GONE, **fields: object) -> MountRecord:
    run_dir = root / name
    run_dir.mkdir(parents=True)
    one = MountRecord(f"/mnt/{name}", "d", ["s3://b"], "native", str(run_dir), "/state", supervisor)
    for field, value in fields.items():
        setattr(one, field, value)
    one.store()
    return one


def test_record_survives_storing(tmp_path: Path) -> None:
    one = record(tmp_path, "a", fetch=US, serve=[US, GONE], spares=[GONE], device="0:39", state="ready", restarts=3)
    assert MountRecord.load(str(tmp_path / "a")) == one
    assert (tmp_path / "a" / MOUNT_STATE).stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "a") == [MOUNT_STATE]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"supervisor": 1}', "\xff"])
def test_what_is_no_record_is_skipped(tmp_path: Path, text: str) -> None:
    record(tmp_path, "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / MOUNT_STATE).write_bytes(text.encode("latin1"))
    (tmp_path / "empty").mkdir()
    assert [one.mountpoint for one in list_mounts(str(tmp_path))] == ["/mnt/good"]
    assert list_mounts(str(tmp_path / "missing")) == []


def test_supervised_record_is_preferred(tmp_path: Path) -> None:
    record(tmp_path, "a", mountpoint="/mnt/x")
    record(tmp_path, "b", US, mountpoint="/mnt/x")
    record(tmp_path, "c", mountpoint="/mnt/x")
    found = find_record(str(tmp_path), "/mnt/x")
    assert found is not None
    assert found.run_dir == str(tmp_path / "b")
    assert find_record(str(tmp_path), "/mnt/y") is None


def test_leftovers_are_those_of_which_nothing_lives(tmp_path: Path) -> None:
    record(tmp_path, "alive", US)
    record(tmp_path, "orphaned", fetch=US)
    record(tmp_path, "dead", fetch=GONE, serve=[GONE])
    record(tmp_path, "own")
    assert remove_leftovers(str(tmp_path), str(tmp_path / "own")) == ["/mnt/dead"]
    assert sorted(os.listdir(tmp_path)) == ["alive", "orphaned", "own"]


def test_run_root() -> None:
    assert run_root(0, "/run/user/0") == "/run/fusecache"
    assert run_root(5, "/run/user/5") == "/run/user/5/fusecache"
    assert run_root(5, None) == "/tmp/fusecache-5"


def test_sockets_work_below_long_paths_and_are_private(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120) / ("e" * 120)
    deep.mkdir(parents=True)
    with listen_in(str(deep), "s", socket.SOCK_STREAM):
        pass
    with listen_in(str(deep), "s", socket.SOCK_STREAM) as listener:  # over the stale one
        assert (deep / "s").lstat().st_mode & 0o777 == 0o600
        with connect_in(str(deep), "s", socket.SOCK_STREAM, 1.0) as client:
            server, _ = listener.accept()
            with server:
                client.sendall(b"x")
                assert server.recv(1) == b"x"
    with pytest.raises(ConnectionRefusedError):
        connect_in(str(deep), "s", socket.SOCK_STREAM)
