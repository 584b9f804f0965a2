"""Disks under the cache that are full, read-only or gone: readers get their bytes from the store (figure 12)."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stress.conftest import make_files
from tests.support.mounted import Mounted
from tests.support.readers import Readers, Seen
from tests.support.small_disks import SmallDisk

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root, pytest.mark.timeout(180)]

Keep = Callable[[str, str, str, str], None]
MODES = ["random"] * 4 + ["sequential", "walk", "direct"]
PROMISE = "0 failed, 0 wrong; served from the store; counted"


@pytest.fixture
def truth(disk_path: Path) -> Path:
    make_files(disk_path / "truth", small=200, large=4, large_bytes=12 << 20)
    return disk_path / "truth"


@pytest.fixture
def seconds(full_length: bool) -> float:
    return 15.0 if full_length else 3.0


def read(mounted: Mounted, truth: Path, seconds: float) -> Seen:
    readers = Readers(mounted.mountpoint, truth, seconds, MODES, drop_caches=0.005)
    try:
        return readers.collect()
    finally:
        readers.kill()


def metric(mounted: Mounted, name: str) -> int:
    return int(mounted.metrics()[f"fusecache_{name}"])


def describe(seen: Seen, mounted: Mounted) -> str:
    served, errors = metric(mounted, "bounced_bytes_total"), metric(mounted, "tier_errors")
    return (
        f"{seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong, {seen.hung} hung; {errors} errors of tiers and "
        f"{metric(mounted, 'index_errors')} of the index counted, {served >> 20} MiB served around the cache"
    )


def told(mounted: Mounted) -> str:
    """What a user sees."""
    return mounted.run("status", str(mounted.mountpoint)).stdout


def assert_survived(mounted: Mounted, seen: Seen) -> None:
    seen.assert_clean()
    assert mounted.status()["restarts"] == 0, mounted.log()[-2000:]


def test_full_disk_of_a_tier(disk_path: Path, truth: Path, seconds: float, promise: Keep) -> None:
    """The quota is larger than what others leave of the disk."""
    with (
        SmallDisk(disk_path / "disk", 96 << 20, image=disk_path / "image") as disk,
        Mounted(disk_path, [f"file://{truth}"], tiers=[f"{disk.path}:64Mi"]) as mounted,
    ):
        disk.fill(leave_bytes=4 << 20)
        seen = read(mounted, truth, seconds)
        assert metric(mounted, "tier_errors") > 0, "the disk was never full"
        promise("12", "the disk of a tier is full", describe(seen, mounted), PROMISE)
        assert_survived(mounted, seen)
        disk.empty()
        assert recovers(mounted, truth), "the tier is not used again when there is room"


def test_tier_out_of_inodes(disk_path: Path, truth: Path, seconds: float, promise: Keep) -> None:
    with (
        SmallDisk(disk_path / "disk", 96 << 20, inodes=12) as disk,
        Mounted(disk_path, [f"file://{truth}"], tiers=[f"{disk.path}:64Mi"]) as mounted,
    ):
        with contextlib.suppress(OSError):
            for number in range(12):
                (disk.path / f"taken-{number}").touch()
        seen = read(mounted, truth, seconds)
        assert metric(mounted, "tier_errors") > 0, "there were inodes enough"
        promise("12a", "the disk of a tier has no inodes left", describe(seen, mounted), PROMISE)
        assert_survived(mounted, seen)


def test_removed_tier_directory(disk_path: Path, truth: Path, seconds: float, promise: Keep) -> None:
    tier = disk_path / "tier"
    with Mounted(disk_path, [f"file://{truth}"], tiers=[f"{tier}:64Mi"]) as mounted:
        mounted.run("warm", str(mounted.mountpoint), check=False)
        assert mounted.status()["cached_bytes"] > 0
        before = mounted.status()["remote_bytes"]
        removed = sum(1 for path in tier.rglob("*") if path.is_file())
        shutil.rmtree(tier)
        seen = read(mounted, truth, seconds)
        assert removed > 0
        assert mounted.status()["remote_bytes"] > before
        assert metric(mounted, "tier_errors") == 1
        assert mounted.log().count("its directory was removed") == 1
        assert "its directory was removed" in told(mounted)
        promise("12b", f"a tier's directory removed with its {removed} containers", describe(seen, mounted), PROMISE)
        assert_survived(mounted, seen)


def test_read_only_tier(disk_path: Path, truth: Path, seconds: float, promise: Keep) -> None:
    with (
        SmallDisk(disk_path / "disk", 128 << 20) as disk,
        Mounted(disk_path, [f"file://{truth}"], tiers=[f"{disk.path}:64Mi"]) as mounted,
    ):
        with immutable(disk.path):
            seen = read(mounted, truth, seconds)
            assert metric(mounted, "tier_errors") > 0, "the tier was not read-only"
            promise("12c", "a tier becomes read-only", describe(seen, mounted), PROMISE)
            assert_survived(mounted, seen)
        assert recovers(mounted, truth)


def test_quota_smaller_than_a_block(disk_path: Path, truth: Path, seconds: float, promise: Keep) -> None:
    with Mounted(disk_path, [f"file://{truth}"], tiers=[f"{disk_path / 'tier'}:512Ki"]) as mounted:
        seen = read(mounted, truth, seconds)
        promise("12d", "a tier's quota is smaller than one block", describe(seen, mounted), PROMISE)
        assert metric(mounted, "bounced_bytes_total") > 0
        assert metric(mounted, "tier_errors") == 1
        assert "smaller than a block" in told(mounted)
        assert_survived(mounted, seen)


def test_full_disk_of_the_index(disk_path: Path, truth: Path, seconds: float, promise: Keep) -> None:
    """The index cannot grow, and whatever is given up for it is taken by others at once."""
    with SmallDisk(disk_path / "state", 48 << 20, image=disk_path / "image") as disk:
        tiers, options = [f"{disk_path / 'tier'}:64Mi"], {"cache_dir": str(disk.path)}
        with Mounted(disk_path, [f"file://{truth}"], tiers=tiers, options=options) as mounted:
            assert wait_listed(mounted)
            with disk.kept_full():
                seen = read(mounted, truth, seconds)
            assert metric(mounted, "bounced_bytes_total") > 0, "the index never lacked room"
            assert metric(mounted, "index_errors") > 0
            assert mounted.status()["state"] == "degraded"
            assert "changes of the index that found no room" in told(mounted)
            promise("12e", "the disk of the index is full", describe(seen, mounted), PROMISE)
            assert_survived(mounted, seen)
            disk.empty()
            assert recovers(mounted, truth)


def test_full_disk_of_the_index_before_anything_is_listed(disk_path: Path, truth: Path, seconds: float, promise: Keep) -> None:
    """Names need room in the index: what is given up for it must do."""
    with SmallDisk(disk_path / "state", 48 << 20, image=disk_path / "image") as disk:
        tiers, options = [f"{disk_path / 'tier'}:64Mi"], {"cache_dir": str(disk.path), "sync_listing": "false"}
        with Mounted(disk_path, [f"file://{truth}"], tiers=tiers, options=options) as mounted:
            disk.fill()
            seen = read(mounted, truth, seconds)
            assert "gave up the ballast" in mounted.log(), "the index never lacked room"
            assert metric(mounted, "index_errors") > 0
            assert "changes of the index that found no room" in told(mounted)
            promise("12f", "the disk of the index is full before anything was listed", describe(seen, mounted), PROMISE)
            assert_survived(mounted, seen)
            disk.empty()
            assert recovers(mounted, truth)


def wait_listed(mounted: Mounted) -> bool:
    end = time.monotonic() + 20
    while time.monotonic() < end:
        if mounted.status()["listing_complete"]:
            return True
        time.sleep(0.2)
    return False


def recovers(mounted: Mounted, truth: Path) -> bool:
    """Whether the cache takes bytes again within some seconds. What it holds is dropped first: it may be everything."""
    mounted.run("drop", str(mounted.mountpoint))
    end = time.monotonic() + 20
    before = mounted.status()["cached_bytes"]
    while time.monotonic() < end:
        read(mounted, truth, 0.5).assert_clean()
        if mounted.status()["cached_bytes"] > before:
            return True
    return False


@contextlib.contextmanager
def immutable(directory: Path) -> Iterator[None]:
    """What `remount,ro` would be if nothing was open for writing: no file below can be changed, made or removed."""
    change(directory, "+i")
    try:
        yield
    finally:
        change(directory, "-i")


def change(directory: Path, flag: str) -> None:
    done = subprocess.run(["chattr", "-R", flag, str(directory)], capture_output=True, text=True, timeout=30)
    if done.returncode:
        pytest.skip(f"chattr cannot make this file system immutable: {done.stderr.strip()}")
