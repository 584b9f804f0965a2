"""A fifth of the store's answers are wrong, late or missing: readers see slower reads and nothing else (figures 14 and 15)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.stress.conftest import make_files
from tests.support.fault_plan import OF_READERS
from tests.support.fault_proxy import Fault, FaultProxy, Plan
from tests.support.mounted import Mounted
from tests.support.readers import Readers, Seen
from tests.support.seaweed import READER, Seaweed
from tests.support.stored_truth import environment, upload

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root]

SHARE = 0.2
SLOW_SECONDS = 0.5
LISTING_SECONDS = 40.0  # at most, until each kind of fault has fired: some befall few requests
# Listings are few beside reads, and a token to repeat needs a page that was cut short: these are chosen more often.
WEIGHTS = {
    **dict.fromkeys(set(OF_READERS) - {Fault.FLIP, Fault.STALL}, 1.0),
    Fault.SHORT_LIST: 20.0,
    Fault.REPEAT_TOKEN: 60.0,
}
MODES = ["random"] * 4 + ["sequential", "sequential", "walk"]


@pytest.fixture(scope="module")
def truth(seaweed: Seaweed, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("faults") / "truth"
    make_files(directory, small=150, large=3, large_bytes=8 << 20)
    upload(seaweed, "faults", directory)
    return directory


@pytest.fixture
def proxy(seaweed: Seaweed) -> Iterator[FaultProxy]:
    with FaultProxy(seaweed.endpoint_url) as opened:
        yield opened


def read_cold(mounted: Mounted, truth: Path, seconds: float) -> Seen:
    """Let readers verify what they read while the cache is dropped and the tree listed anew under them."""
    readers = Readers(mounted.mountpoint, truth, seconds, MODES)
    try:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            make_cold(mounted)
            mounted.run("refresh", str(mounted.mountpoint))
        return readers.collect(grace_seconds=90)
    finally:
        readers.kill()


def make_cold(mounted: Mounted) -> None:
    mounted.run("drop", str(mounted.mountpoint))
    Path("/proc/sys/vm/drop_caches").write_text("1")


def seconds_to_compare(mounted: Mounted, truth: Path, names: list[str]) -> float:
    """Compare parts of the tree with the truth, one file after the other; return how long it took."""
    started = time.monotonic()
    for name in names:
        compared = subprocess.run(
            ["timeout", "-s", "KILL", "300", "diff", "-r", str(truth / name), str(mounted.mountpoint / name)],
            capture_output=True,
            text=True,
        )
        assert compared.returncode == 0, (compared.stdout + compared.stderr)[:1000]
    return time.monotonic() - started


def list_until_all_fired(mounted: Mounted, proxy: FaultProxy) -> None:
    end = time.monotonic() + LISTING_SECONDS
    while WEIGHTS.keys() - {kind for kind, count in proxy.counts().fired.items() if count} and time.monotonic() < end:
        mounted.run("refresh", str(mounted.mountpoint))


def test_a_fifth_of_all_answers_is_wrong_late_or_missing(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], truth: Path, proxy: FaultProxy
) -> None:
    plan = Plan(SHARE, WEIGHTS, 7, slow_seconds=SLOW_SECONDS, access_key=READER.access_key, secret_key=READER.secret_key)
    names = ["."] if full_length else ["dir1", "dir2", "large-0"]
    with Mounted(disk_path / "calm", ["s3://faults"], environment=environment(proxy.url)) as mounted:
        calm = seconds_to_compare(mounted, truth, names)
    proxy.reset()
    proxy.set_plan(plan)
    with Mounted(disk_path / "bad", ["s3://faults"], environment=environment(proxy.url), options={"ttl": "1"}) as mounted:
        bad = seconds_to_compare(mounted, truth, names)
        seen = read_cold(mounted, truth, 40.0 if full_length else 6.0)
        list_until_all_fired(mounted, proxy)
        proxy.set_plan(Plan())
        status = mounted.status()
    counts = proxy.counts()
    fired = {kind.value: count for kind, count in sorted(counts.fired.items()) if count}
    requests = sum(counts.requests.values())
    promise(
        "14",
        f"{SHARE:.0%} of all requests answered wrong, late or not at all, readers cold",
        f"{sum(fired.values())} faults in {requests} requests ({', '.join(f'{kind} {count}' for kind, count in fired.items())}); "
        f"{seen.reads} reads, {seen.bytes >> 20} MiB: {seen.failed} failed, {seen.wrong} wrong, {seen.hung} hung, longest "
        f"{seen.longest_seconds:.1f} s; one program that reads it once took {bad:.1f} s instead of {calm:.1f} s",
        "0 failed, 0 wrong, 0 hung",
    )
    assert not {kind.value for kind in WEIGHTS} - fired.keys(), "some kind of fault never fired: the run proves nothing of it"
    assert sum(fired.values()) >= 0.1 * requests
    assert status["errors"] == 0
    seen.assert_clean()


def test_flipped_bits_are_noticed_where_the_store_gives_a_checksum(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], truth: Path, proxy: FaultProxy
) -> None:
    """Objects of at most one block are fetched whole, so that their ETag covers them. Of larger ones the store tells no
    checksum of the parts that are fetched: docs/sources.md says so, and that TLS is what protects them."""
    small = r"^GET /faults/dir\d/"
    with Mounted(disk_path, ["s3://faults"], environment=environment(proxy.url)) as mounted:
        proxy.reset()
        proxy.set_plan(Plan(SHARE, {Fault.FLIP: 1.0}, 7, match=small))
        seen = read_cold(mounted, truth, 20.0 if full_length else 4.0)
        status = mounted.status()
    flips = proxy.counts().fired.get(Fault.FLIP, 0)
    bodies = sum(1 for one in proxy.log() if one.method == "GET" and one.path.startswith("/faults/dir"))
    promise(
        "15",
        "one bit flipped in bodies whose checksum the store tells (objects of up to 1 MiB)",
        f"{flips} of {bodies} bodies flipped; {seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong",
        "0 failed, 0 wrong; larger objects are protected by TLS alone",
    )
    assert flips >= 20, "too few bits were flipped to prove anything"
    assert status["errors"] == 0
    seen.assert_clean()
