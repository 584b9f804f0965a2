"""The store goes away: it refuses and returns, it accepts and never answers, it is gone for good (figures 16 and 17)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stress.conftest import make_files
from tests.support.fault_proxy import FaultProxy, Gone, Plan
from tests.support.mounted import CommandFailedError, Mounted, wait_until
from tests.support.readers import Readers
from tests.support.seaweed import Seaweed
from tests.support.stored_truth import environment, upload

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root, pytest.mark.timed]

BANDWIDTH = 6 << 20  # bytes/s of the store while it answers: so that readers are in the middle of it when it goes
DEADLINE = 4.0
TOLERANCE = 0.2  # of the deadline
LONGEST_STALL = 1.5  # seconds, of cached data: a name out of date is asked for, until the store counts as silent


@pytest.fixture(scope="module")
def truth(seaweed: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`cached` and `cold` are read by readers; each file of `single` is read once, for its time."""
    directory = tmp_path_factory.mktemp("gone") / "truth"
    make_files(directory / "cached", small=60, large=2, large_bytes=3 << 20, seed=1)
    make_files(directory / "cold", small=0, large=4, large_bytes=12 << 20, seed=2)
    make_files(directory / "single", small=0, large=8, large_bytes=2 << 20, seed=3)
    upload(seaweed, "gone", directory)
    return directory


@pytest.fixture
def proxy(seaweed: Seaweed) -> Iterator[FaultProxy]:
    with FaultProxy(seaweed.endpoint_url) as opened:
        yield opened


def mount(disk_path: Path, proxy: FaultProxy, **options: str) -> Mounted:
    """Prefetch is off, so that what was not read is not cached."""
    return Mounted(disk_path, ["s3://gone"], environment=environment(proxy.url), options={"prefetch": "false", **options})


def cache(mounted: Mounted, *names: str) -> None:
    mounted.run("warm", *(str(mounted.mountpoint / name) for name in names))
    list_all(mounted)


def list_all(mounted: Mounted) -> None:
    subprocess.run(["timeout", "-s", "KILL", "60", "ls", "-lR", str(mounted.mountpoint)], check=True, stdout=subprocess.DEVNULL)


def start_reader(mounted: Mounted, name: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(["cat", name], cwd=mounted.base, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_readers_wait_for_a_store_that_refuses_and_returns(
    disk_path: Path,
    full_length: bool,
    allowed: Callable[[float], float],
    promise: Callable[[str, str, str, str], None],
    truth: Path,
    proxy: FaultProxy,
) -> None:
    outage = 10.0 if full_length else 3.0
    with mount(disk_path, proxy, deadline="40") as mounted:
        cache(mounted, "cached")
        proxy.set_plan(Plan(bandwidth_bytes_per_second=BANDWIDTH))
        cold = Readers(mounted.mountpoint / "cold", truth / "cold", outage + 4, ["sequential", "random", "direct"])
        cached = Readers(mounted.mountpoint / "cached", truth / "cached", outage + 4, ["sequential", "random", "walk"])
        try:
            time.sleep(1.5)
            proxy.set_plan(Plan(gone=Gone.REFUSE))
            gone_at = time.monotonic()
            waiting = start_reader(mounted, str(mounted.mountpoint / "single" / "large-0"))
            time.sleep(outage)
            proxy.set_plan(Plan())
            back_at = time.monotonic()
            first, complaint = waiting.communicate(timeout=60)
            to_first_read = time.monotonic() - back_at
            seen, seen_cached = cold.collect(), cached.collect()
        finally:
            cold.kill()
            cached.kill()
        status = mounted.status()
    promise(
        "16",
        f"store refuses for {back_at - gone_at:.0f} s in mid-read, then returns",
        f"uncached: {seen.reads} reads, {seen.failed} failed, {seen.wrong} wrong, longest {seen.longest_seconds:.1f} s, first "
        f"uncached read {to_first_read:.1f} s after it returned; cached: {seen_cached.reads} reads, {seen_cached.failed} "
        f"failed, {seen_cached.wrong} wrong, longest {seen_cached.longest_seconds:.2f} s",
        "0 failed, 0 wrong; first uncached read < 3 s",
    )
    assert seen.longest_seconds > outage / 2, "no reader was in the middle of something: the run proves nothing"
    assert first == (truth / "single" / "large-0").read_bytes(), complaint
    seen.assert_clean()
    seen_cached.assert_clean()
    assert status["errors"] == 0
    assert to_first_read < allowed(3.0)


def test_a_store_that_never_answers(
    disk_path: Path,
    full_length: bool,
    allowed: Callable[[float], float],
    promise: Callable[[str, str, str, str], None],
    truth: Path,
    proxy: FaultProxy,
) -> None:
    with mount(disk_path, proxy, deadline=str(DEADLINE)) as mounted:
        cache(mounted, "cached")
        proxy.reset()
        proxy.set_plan(Plan(gone=Gone.STALL))
        seconds = 20.0 if full_length else 6.0
        cached = Readers(mounted.mountpoint / "cached", truth / "cached", seconds, ["sequential", "random", "random", "walk"])
        try:
            reads = [time_failure(mounted, f"single/large-{number}") for number in range(3 if full_length else 1)]
            seconds_to_die = kill_a_waiting_reader(mounted, "single/large-7")
            seen = cached.collect()
        finally:
            cached.kill()
        started = time.monotonic()
        mounted.umount()
        seconds_to_umount = time.monotonic() - started
        assert not mounted.is_mounted()
    stalled = sum(1 for one in proxy.log() if one.status == 0)
    promise(
        "17",
        "store accepts requests and never answers",
        f"{stalled} requests without an answer; {seen.reads} cached reads: {seen.failed} failed, longest "
        f"{seen.longest_seconds:.2f} s; {len(reads)} uncached reads ended with EIO after "
        f"{', '.join(f'{one:.1f}' for one in reads)} s of {DEADLINE:.0f}; a waiting reader died {seconds_to_die:.2f} s after "
        f"SIGKILL; umount took {seconds_to_umount:.1f} s",
        f"cached reads unaffected; EIO at the deadline ±{TOLERANCE:.0%}; killed < 1 s; unmounted < 10 s",
    )
    assert stalled, "nothing was asked of the store while it stalled: the run proves nothing"
    seen.assert_clean()
    assert all(abs(one - DEADLINE) <= TOLERANCE * DEADLINE for one in reads), reads
    assert seconds_to_die < allowed(1.0)
    assert seconds_to_umount < 10.0


@pytest.mark.parametrize("gone", [Gone.REFUSE, Gone.STALL])
def test_a_store_that_is_gone_for_good(
    disk_path: Path,
    full_length: bool,
    promise: Callable[[str, str, str, str], None],
    truth: Path,
    proxy: FaultProxy,
    allowed: Callable[[float], float],
    gone: Gone,
) -> None:
    """With a TTL of 1 s, so that every name is out of date and the store is asked in vain."""
    if not full_length and gone is Gone.REFUSE:
        pytest.skip("runs with --full-length")
    with mount(disk_path, proxy, deadline=str(DEADLINE), ttl="1") as mounted:
        cache(mounted, "cached")
        proxy.reset()
        proxy.set_plan(Plan(gone=gone))
        time.sleep(1.5)
        cached = Readers(
            mounted.mountpoint / "cached", truth / "cached", 20.0 if full_length else 6.0, ["sequential", "random", "walk"]
        )
        try:
            waited = time_failure(mounted, "single/large-1")
            seen = cached.collect()
        finally:
            cached.kill()
        list_all(mounted)
        assert wait_until(lambda: mounted.status()["state"] == "degraded", 5), "status does not say that the store is gone"
    promise(
        "16b" if gone is Gone.REFUSE else "17b",
        f"store gone for good ({'connections refused' if gone is Gone.REFUSE else 'no answers'}), every name out of date",
        f"{seen.reads} reads of cached files and listings: {seen.failed} failed, {seen.wrong} wrong, longest "
        f"{seen.longest_seconds:.1f} s; uncached read: EIO after {waited:.1f} s of {DEADLINE:.0f}",
        f"cached files and names stay readable, none waits longer than {LONGEST_STALL} s; EIO at the deadline ±{TOLERANCE:.0%}",
    )
    seen.assert_clean()
    assert abs(waited - DEADLINE) <= TOLERANCE * DEADLINE, "asking for its name first must not take a deadline of its own"
    assert seen.longest_seconds < allowed(LONGEST_STALL)


def time_failure(mounted: Mounted, name: str) -> float:
    """Read a file that cannot be read; return after how many seconds it failed with EIO."""
    started = time.monotonic()
    with pytest.raises(CommandFailedError, match="Input/output error"):
        mounted.read_bytes(name)
    return time.monotonic() - started


def kill_a_waiting_reader(mounted: Mounted, name: str) -> float:
    """Kill a reader that waits for the store; return how many seconds it took to die."""
    reader = start_reader(mounted, str(mounted.mountpoint / name))
    time.sleep(1.0)
    assert reader.poll() is None, "the reader did not wait"
    reader.kill()
    started = time.monotonic()
    reader.communicate(timeout=30)
    return time.monotonic() - started
