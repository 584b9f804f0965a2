from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody import kernel
from fusecache.custody.cache_lock import take_cache_lock
from fusecache.custody.mount_table import ProcessId


def test_lock_belongs_to_the_open_file_and_outlives_its_taker(tmp_path: Path) -> None:
    lock = take_cache_lock(str(tmp_path), "/mnt/a b")
    with pytest.raises(CacheError) as caught:
        take_cache_lock(str(tmp_path), "/mnt/other")
    assert caught.value.kind is ErrorKind.BUSY
    assert "/mnt/a b" in str(caught.value)
    assert f"pid {os.getpid()}" in str(caught.value)
    heir = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock,))
    os.close(lock)
    with pytest.raises(CacheError):
        take_cache_lock(str(tmp_path), "/mnt/other")
    heir.communicate()
    os.close(take_cache_lock(str(tmp_path), "/mnt/other"))
    assert (tmp_path / "lock").read_text() == f"{os.getpid()}\n/mnt/other\n"
    assert (tmp_path / "lock").stat().st_mode & 0o777 == 0o600


def test_start_time_tells_processes_apart() -> None:
    process = subprocess.Popen(["cat"], stdin=subprocess.PIPE)
    identity = ProcessId.of(process.pid)
    earlier = ProcessId(process.pid, identity.start_time - 1)
    assert [identity.is_alive, earlier.is_alive] == [True, False]
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert kernel.process_start_time(process.pid) is None  # a zombie
    process.communicate()
    assert kernel.process_start_time(process.pid) is None


@pytest.mark.root
def test_fuse_control_is_reached_though_nobody_mounted_it() -> None:
    control = kernel.open_fuse_control()
    try:
        listing = os.open(".", os.O_RDONLY, dir_fd=control)
        assert all(name.isdigit() for name in os.listdir(listing))
        os.close(listing)
    finally:
        os.close(control)
    with pytest.raises(OSError):
        kernel.abort_fuse_connection(2**31)
