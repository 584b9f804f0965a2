"""A mount in a memory cgroup that is smaller than what it was asked to cache in memory, under 64 readers (figure 6)."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stress.conftest import make_files
from tests.support.memory_cgroup import MemoryCgroup, missing_memory_cgroup
from tests.support.mounted import Mounted
from tests.support.readers import Readers
from tests.support.seaweed import Seaweed
from tests.support.small_disks import SmallDisk
from tests.support.stored_truth import environment, upload

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root, pytest.mark.timed]

LIMIT_BYTES = 256 << 20
SHARE = 0.9
MODES = ["random"] * 40 + ["sequential"] * 12 + ["direct"] * 8 + ["walk"] * 4


@pytest.mark.timeout(400)
@pytest.mark.skipif(missing_memory_cgroup() is not None, reason=str(missing_memory_cgroup()))
def test_nobody_is_killed_for_memory(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], seaweed: Seaweed
) -> None:
    seconds = 60.0 if full_length else 6.0
    truth = disk_path / "truth"
    size = make_files(truth, small=400, large=8, large_bytes=30 << 20)
    upload(seaweed, "memory", truth)
    cgroup = MemoryCgroup(f"fusecache-test-{os.getpid()}", LIMIT_BYTES)
    with cgroup, SmallDisk(disk_path / "memory", 1 << 30) as memory:
        mounted = Mounted(
            disk_path,
            ["s3://memory"],
            tiers=[f"{memory.path}:400Mi", f"{disk_path / 'ssd'}:128Mi"],
            environment=environment(seaweed.endpoint_url),
            prefix=cgroup.prefix,
        )
        with mounted:
            assert cgroup.processes, "the mount is not in the cgroup"
            readers = Readers(mounted.mountpoint, truth, seconds, MODES, drop_caches=0.002)
            try:
                seen = readers.collect(grace_seconds=60)
            finally:
                readers.kill()
            status = mounted.status()
            kills, inside = cgroup.oom_kills, set(cgroup.processes)
            daemons = {*mounted.pids("supervisor"), *mounted.pids("fetch"), *mounted.pids("serve")}
    parts = ", ".join(f"{name} {value >> 20} MiB" for name, value in cgroup.peak_parts.items())
    print(f"{status['tiers']}, {status['remote_bytes'] >> 20} MiB fetched, restarts {status['restarts']}")
    assert daemons <= inside
    assert cgroup.samples > seconds * 5
    assert status["remote_bytes"] > size * 0.5, "hardly anything was fetched: the run proves nothing"
    promise(
        "6",
        f"memory limit of {LIMIT_BYTES >> 20} MiB, MEM tier of 400 MiB asked for, {len(MODES)} readers, data twice the cache",
        f"{kills} OOM kills; peak that cannot be taken back {cgroup.peak_bytes / LIMIT_BYTES:.0%} of the limit ({parts}); "
        f"{seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong, {seen.hung} hung",
        "0 OOM kills, peak < 90 %, 0 failed, 0 wrong",
    )
    assert kills == 0
    assert status["restarts"] == 0
    assert cgroup.peak_bytes < SHARE * LIMIT_BYTES
    seen.assert_clean()
