"""serve and fetch are killed again and again under readers that compare every byte (figures 1 and 2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.stress.conftest import make_files
from tests.support.killer import Killer
from tests.support.mounted import Mounted
from tests.support.readers import Readers, Seen
from tests.support.seaweed import Seaweed
from tests.support.stored_truth import environment, upload

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root, pytest.mark.timed]

Keep = Callable[[str, str, str, str], None]
MODES = ["random"] * 6 + ["sequential", "sequential", "walk", "direct"]
LONGEST_SECONDS = 0.5
INTERVAL_SECONDS = 0.7


class Case(NamedTuple):
    figure: str
    what: str
    arguments: tuple[str, ...] = ()
    options: tuple[tuple[str, str], ...] = ()


CASES = {
    "openless": Case("1", "serve or fetch killed every 0.7 s, open-less mount", ("--access", "openless")),
    "passthrough": Case("1a", "serve or fetch killed every 0.7 s, passthrough mount", ("--access", "passthrough")),
    "slots-only": Case("1b", "serve or fetch killed every 0.7 s, no RESEND asked for", (), (("debug_no_resend", "true"),)),
    "two-serves": Case("1c", "one of two serves or fetch killed every 0.7 s", ("--serve-processes", "2")),
}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_readers_do_not_notice_that_daemons_are_killed(disk_path: Path, full_length: bool, promise: Keep, case: Case) -> None:
    seconds = 25.0 if full_length else 4.0
    truth = disk_path / "truth"
    make_files(truth, small=300, large=3, large_bytes=20 << 20)
    with Mounted(disk_path, [f"file://{truth}"], options=dict(case.options), arguments=case.arguments) as mounted:
        seen, killer = run_killed(mounted, truth, seconds, INTERVAL_SECONDS)
        assert mounted.status()["restarts"] >= len(killer.kills) - 1
    assert len(killer.kills) >= seconds / 2, "too few kills landed"
    promise(case.figure, case.what, describe(seen, killer), "0 failed, 0 wrong, 0 hung, longest < 0.5 s")
    seen.assert_clean()
    if full_length:
        assert seen.longest_seconds < LONGEST_SECONDS, killer.explain(seen.slowest)


@pytest.mark.timeout(300)
def test_fetches_from_a_store_that_are_interrupted(disk_path: Path, full_length: bool, promise: Keep, seaweed: Seaweed) -> None:
    """More data than fits into the cache, so that there are always fetches under way to interrupt."""
    seconds = 25.0 if full_length else 5.0
    truth = disk_path / "truth"
    make_files(truth, small=300, large=6, large_bytes=20 << 20)
    upload(seaweed, "kills", truth)
    with Mounted(
        disk_path,
        ["s3://kills"],
        tiers=[f"{disk_path / 'tier'}:48Mi"],
        environment=environment(seaweed.endpoint_url),
    ) as mounted:
        seen, killer = run_killed(mounted, truth, seconds, INTERVAL_SECONDS)
        status = mounted.status()
    assert len(killer.kills) >= seconds / 2, "too few kills landed"
    assert status["remote_bytes"] > 64 << 20, "hardly anything was fetched: the run proves nothing"
    promise(
        "1d",
        "serve or fetch killed every 0.7 s, cold over an S3 server, data three times the cache",
        f"{describe(seen, killer)}, {status['remote_bytes'] >> 20} MiB fetched",
        "0 failed, 0 wrong, 0 hung",
    )
    seen.assert_clean()


@pytest.mark.timeout(300)
def test_daemons_are_killed_faster_than_they_can_start(
    disk_path: Path, full_length: bool, promise: Keep, allowed: Callable[[float], float]
) -> None:
    """While it lasts readers may wait; none may fail, and all go on as soon as it ends."""
    seconds = 20.0 if full_length else 3.0
    truth = disk_path / "truth"
    make_files(truth, small=300, large=3, large_bytes=20 << 20)
    with Mounted(disk_path, [f"file://{truth}"]) as mounted:
        seen, killer = run_killed(mounted, truth, seconds, 0.1, calm_seconds=4.0)
    last = killer.kills[-1].at
    after = max([min(waited, ended - last) for waited, ended, _ in seen.slowest if ended > last], default=0.0)
    assert len(killer.kills) >= seconds * 2, "too few kills landed"
    promise(
        "2",
        "serve and fetch killed every 0.1 s, faster than a new one can be started",
        f"{describe(seen, killer)}; after the last kill {after:.2f} s",
        "0 failed, 0 wrong, 0 hung; reads go on within 2 s after the last kill",
    )
    seen.assert_clean()
    assert after < allowed(2.0), killer.explain(seen.slowest)


def run_killed(mounted: Mounted, truth: Path, seconds: float, interval: float, calm_seconds: float = 1.0) -> tuple[Seen, Killer]:
    """Kill for `seconds` under readers that go on for `calm_seconds` more."""
    readers = Readers(mounted.mountpoint, truth, seconds + calm_seconds, MODES, drop_caches=0.01)
    try:
        with Killer(mounted, ["serve", "fetch"], interval) as killer:
            time.sleep(seconds)
        seen = readers.collect()
    finally:
        readers.kill()
    print(killer.explain(seen.slowest))
    if seen.errors:
        print(mounted.log())
    return seen, killer


def describe(seen: Seen, killer: Killer) -> str:
    return (
        f"{len(killer.kills)} kills, {seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong, {seen.hung} hung, "
        f"longest {seen.longest_seconds:.2f} s"
    )
