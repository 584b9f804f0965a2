"""Mounts that are busy, taken, or whose processes died: clear errors, nothing is left behind (figure 5, without a cluster)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusecache.custody.mount_table import MountRecord
from tests.stress.conftest import make_files
from tests.support.mounted import CommandFailedError, Mounted, kill, wait_until
from tests.support.readers import Readers

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root, pytest.mark.timeout(120), pytest.mark.timed]

Keep = Callable[[str, str, str, str], None]
HOLDER = "import os,sys; os.open(sys.argv[1], os.O_RDONLY); print('open', flush=True); sys.stdin.read()"


@pytest.fixture
def truth(disk_path: Path) -> Path:
    make_files(disk_path / "truth", small=100, large=2, large_bytes=8 << 20)
    return disk_path / "truth"


@pytest.fixture
def mounted(disk_path: Path, truth: Path) -> Iterator[Mounted]:
    with Mounted(disk_path, [f"file://{truth}"]) as mounted:
        yield mounted


@pytest.fixture
def holder(mounted: Mounted) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has a file of the mount open."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(mounted.mountpoint / "large-0")], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"open\n"
        yield process
        process.kill()


def read(mounted: Mounted, truth: Path, seconds: float = 1.5, **more: float) -> int:
    readers = Readers(mounted.mountpoint, truth, seconds, ["random", "random", "walk", "sequential"], **more)
    try:
        seen = readers.collect()
    finally:
        readers.kill()
    seen.assert_clean()
    return seen.reads


def remains(mounted: Mounted, record: MountRecord) -> list[str]:
    """What is left of a mount that was taken away."""
    processes = [process for process in [record.supervisor, *record.daemons] if process.is_alive]
    found = [f"process {process.pid}" for process in processes]
    found += ["the mount"] if mounted.is_mounted() else []
    found += [record.run_dir] if os.path.exists(record.run_dir) else []
    return found


def kill_all(record: MountRecord) -> None:
    """SIGKILL the supervisor first, so that nobody is replaced, and wait until the others are gone."""
    for process in [record.supervisor, *record.daemons]:
        kill(process.pid)
    assert wait_until(lambda: not any(process.is_alive for process in [record.supervisor, *record.daemons]), 5.0)


def test_busy_mount_is_not_taken_away(mounted: Mounted, truth: Path, holder: subprocess.Popen[bytes]) -> None:
    record = mounted.record()
    with pytest.raises(CommandFailedError, match=rf"busy.*{holder.pid}.*--lazy"):
        mounted.umount()
    assert mounted.is_mounted()
    assert read(mounted, truth) > 0, "the attempt did harm"
    mounted.umount("--lazy")
    assert remains(mounted, record) == []


def test_second_mount_at_the_same_place(disk_path: Path, mounted: Mounted, truth: Path) -> None:
    before = mounted.record()
    with pytest.raises(CommandFailedError, match=r"busy.*fusecache umount"):
        Mounted(disk_path, [f"file://{truth}"]).mount()
    with pytest.raises(CommandFailedError, match="busy"):  # another dataset at the same place
        Mounted(disk_path, [f"file://{truth}/dir1"]).mount()
    assert set(before.daemons) <= set(mounted.record().daemons)  # others may have come since
    assert read(mounted, truth) > 0


def test_second_mount_of_the_same_dataset(disk_path: Path, mounted: Mounted, truth: Path) -> None:
    """Its cache has one owner: the other mount says whose it is."""
    other = Mounted(disk_path, [f"file://{truth}"], name="other")
    with pytest.raises(CommandFailedError, match=str(mounted.mountpoint)):
        other.mount()
    assert not other.is_mounted()
    assert read(mounted, truth) > 0


def test_killed_supervisor(disk_path: Path, mounted: Mounted, truth: Path, promise: Keep) -> None:
    record = mounted.record()
    kill(record.supervisor.pid)
    assert wait_until(lambda: not record.supervisor.is_alive, 5.0)
    reads = read(mounted, truth)
    assert mounted.status()["state"] == "dead"
    with pytest.raises(CommandFailedError, match="fusecache umount"):
        mounted.mount()
    began = time.monotonic()
    mounted.umount()
    took = time.monotonic() - began
    left = remains(mounted, record)
    mounted.mount()
    again = read(mounted, truth)
    promise(
        "5",
        "the supervisor killed",
        f"{reads} reads went on, 0 failed; umount took {took:.1f} s and left {len(left)} mounts, processes or directories; "
        f"{again} reads after the next mount",
        "reads go on; umount leaves nothing",
    )
    assert left == []


def test_everybody_killed(mounted: Mounted, truth: Path, promise: Keep, allowed: Callable[[float], float]) -> None:
    """A new mount at the same place, within seconds; whoever had a file open gets an error and no hang."""
    read(mounted, truth)
    record = mounted.record()
    readers = Readers(mounted.mountpoint, truth, 2.0, ["random", "direct", "direct"])  # direct: not from the page cache
    time.sleep(0.7)
    kill_all(record)
    seen = readers.collect(grace_seconds=5)
    readers.kill()
    assert seen.errors, "the readers did not notice: nothing was killed"
    with pytest.raises(CommandFailedError, match="fusecache umount"):
        mounted.mount()
    began = time.monotonic()
    mounted.umount()
    left = remains(mounted, record)
    mounted.mount()
    mounted.read_bytes("large-0", timeout=10)
    took = time.monotonic() - began
    reads = read(mounted, truth)
    promise(
        "5a",
        "supervisor, serve and fetch killed together, then `fusecache umount` and `fusecache mount`",
        f"{took:.1f} s until files can be read again, {len(left)} leftovers after umount; before: {seen.hung} readers hung, "
        f"{seen.failed} failed, {seen.wrong} wrong; after: {reads} reads, 0 failed, 0 wrong",
        "< 5 s, 0 hung, 0 wrong",
    )
    assert (left, seen.hung, seen.wrong) == ([], 0, 0)
    assert took < allowed(5.0)


def test_stop_of_the_machine_without_a_clean_stop(mounted: Mounted, truth: Path, promise: Keep) -> None:
    """As a power cut leaves it: another boot, no clean marker. What is on disk is not believed."""
    read(mounted, truth)
    mounted.run("warm", str(mounted.mountpoint))
    record = mounted.record()
    kill_all(record)
    mounted.umount()
    state = Path(record.state_dir)
    assert not (state / "clean").exists()
    (state / "boot_id").write_text("another boot")
    mounted.mount()
    before = mounted.status()
    reads = read(mounted, truth)
    after = mounted.status()
    promise(
        "5b",
        "machine stopped without a clean stop",
        f"{before['cached_bytes']} bytes believed to be cached at the next mount, {after['remote_bytes'] >> 20} MiB fetched "
        f"again, {reads} reads, 0 wrong",
        "the cache is dropped; 0 wrong",
    )
    assert before["cached_bytes"] == 0
    assert after["remote_bytes"] > 0


@pytest.mark.parametrize("boot", ["same boot", "other boot"])
def test_clean_stop_keeps_the_cache(mounted: Mounted, truth: Path, promise: Keep, boot: str) -> None:
    mounted.run("warm", str(mounted.mountpoint))
    cached = mounted.status()["cached_bytes"]
    state = Path(mounted.record().state_dir)
    mounted.umount()
    assert (state / "clean").exists()
    if boot == "other boot":
        (state / "boot_id").write_text("another boot")
    mounted.mount()
    reads = read(mounted, truth)
    status = mounted.status()
    promise(
        "5c" if boot == "same boot" else "5d",
        f"umount and mount, {boot}",
        f"{status['cached_bytes']} of {cached} bytes still cached, {status['remote_bytes']} bytes fetched by {reads} reads",
        "nothing is fetched twice",
    )
    assert cached > 0
    assert status["cached_bytes"] == cached
    assert status["remote_bytes"] == 0


def test_supervisor_told_to_end(mounted: Mounted, truth: Path, holder: subprocess.Popen[bytes]) -> None:
    """A service manager sends SIGTERM: the mount goes, busy or not, and leaves nothing."""
    record = mounted.record()
    os.kill(record.supervisor.pid, signal.SIGTERM)
    assert wait_until(lambda: remains(mounted, record) == [], 20.0), remains(mounted, record)
    mounted.mount()
    assert read(mounted, truth) > 0
