"""A daemon that lives but hangs (stopped, as a debugger or a mistaken `kill -STOP` leaves it) is replaced, and readers go on."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from fusecache.custody.heartbeat import HUNG_SECONDS, TICK_SECONDS
from tests.stress.conftest import make_files
from tests.support.fault_proxy import FaultProxy, Gone, Plan
from tests.support.mounted import Mounted
from tests.support.readers import Readers
from tests.support.seaweed import Seaweed
from tests.support.stored_truth import environment, upload

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root, pytest.mark.timeout(240), pytest.mark.timed]

PATIENCE_SECONDS = HUNG_SECONDS + 4 * TICK_SECONDS


@pytest.mark.parametrize("role", ["serve", "fetch"])
def test_a_stopped_daemon_is_replaced(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], role: str
) -> None:
    if not full_length:
        pytest.skip("runs with --full-length: it takes as long as a daemon may be silent")
    truth = disk_path / "truth"
    make_files(truth, small=200, large=4, large_bytes=12 << 20)
    seconds = PATIENCE_SECONDS + 10
    # A quota below the data: readers miss all the time, so that each of them needs both daemons.
    with Mounted(
        disk_path,
        [f"file://{truth}"],
        tiers=[f"{disk_path / 'tier'}:24Mi"],
        options={"deadline": "120"},
        arguments=["--serve-processes", "1"],  # of two the other would go on answering, and nobody wait
    ) as mounted:
        before = mounted.status()["pids"]
        pid = before["fetch"] if role == "fetch" else before["serve"][0]
        readers = Readers(mounted.mountpoint, truth, seconds, ["random"] * 3 + ["sequential", "walk"], drop_caches=0.005)
        try:
            time.sleep(1)
            os.kill(pid, signal.SIGSTOP)
            seen = readers.collect()
        finally:
            readers.kill()
        status = mounted.status()
        after = status["pids"]
        assert "no sign of life" in mounted.log()
    promise(
        f"2{role[0]}",
        f"{role} stopped (SIGSTOP), as if it hung",
        f"{seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong, {seen.hung} hung, longest {seen.longest_seconds:.1f} s; "
        f"{status['restarts']} replaced",
        f"0 failed, 0 wrong, 0 hung; replaced within {PATIENCE_SECONDS:.0f} s",
    )
    seen.assert_clean()
    assert pid not in (after["fetch"], *after["serve"])
    assert status["restarts"] == 1
    assert 1.0 < seen.longest_seconds < PATIENCE_SECONDS


def test_daemons_that_wait_for_a_store_are_left_alone(disk_path: Path, full_length: bool, seaweed: Seaweed) -> None:
    """Nothing else happens meanwhile: every thread sleeps, and a reader waits."""
    if not full_length:
        pytest.skip("runs with --full-length: it takes longer than a daemon may be silent")
    truth = disk_path / "truth"
    make_files(truth, small=0, large=1, large_bytes=2 << 20)
    upload(seaweed, "waited-for", truth)
    name = "large-0"
    with FaultProxy(seaweed.endpoint_url) as proxy:
        options = {"prefetch": "false", "deadline": "200"}
        with Mounted(disk_path, ["s3://waited-for"], environment=environment(proxy.url), options=options) as mounted:
            subprocess.run(["timeout", "-s", "KILL", "60", "ls", "-lR", str(mounted.mountpoint)], check=True, capture_output=True)
            proxy.set_plan(Plan(gone=Gone.STALL))
            reader = subprocess.Popen(["cat", str(mounted.mountpoint / name)], stdout=subprocess.PIPE)
            time.sleep(PATIENCE_SECONDS + 2 * TICK_SECONDS)
            assert reader.poll() is None, "the reader did not wait: the run proves nothing"
            proxy.set_plan(Plan())
            data, _ = reader.communicate(timeout=90)
            assert data == (truth / name).read_bytes()
            assert mounted.status()["restarts"] == 0
