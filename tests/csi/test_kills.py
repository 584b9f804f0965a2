"""Processes are killed, one at a time and in pairs, under readers of bind mounts: nobody notices (figures 1 and 5)."""

from __future__ import annotations

import itertools
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.support.csi_driver import CsiDriver
from tests.support.mounted import kill, wait_until
from tests.support.readers import Readers, Seen

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.timed]

INTERVAL_SECONDS = 1.0
LOOK_SECONDS = 5.5


def kill_role(driver: CsiDriver, role: str) -> None:
    if role == "driver":
        driver.stop(signal.SIGKILL)
        driver.start()
        return
    if role == "custody":
        keeper = driver.keeper()
        assert keeper is not None
        kill(keeper.pid)
        return
    (record,) = driver.records()
    if role == "daemon":
        for process in (record.supervisor, *record.daemons):
            kill(process.pid)
        return
    victims = {"serve": record.serve[0], "fetch": record.fetch, "supervisor": record.supervisor}
    victim = victims[role]
    if victim is not None:
        kill(victim.pid)


def can_open(path: Path) -> bool:
    command = ["timeout", "-s", "KILL", "2", "head", "-c", "1", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def last_failure(path: Path) -> float:
    """Open a file again and again for some seconds, and return after how many it failed last; 0 if it never did."""
    began, last = time.monotonic(), 0.0
    while (now := time.monotonic() - began) < LOOK_SECONDS:
        if not can_open(path):
            last = now
        time.sleep(0.02)
    return last


def is_settled(driver: CsiDriver) -> bool:
    records, keeper = driver.records(), driver.keeper()
    if len(records) != 1 or keeper is None or not keeper.is_alive:
        return False
    (record,) = records
    serve = record.serve[0] if record.serve else None
    return record.supervisor.is_alive and record.state == "ready" and serve is not None and serve.is_alive


def kill_in_turn(
    driver: CsiDriver, groups: Sequence[Sequence[str]], target: Path, truth: Path, seconds: float
) -> tuple[int, Seen]:
    """Kill the processes of each group together, one group after the other, under readers. Return how many, and what they saw."""
    readers = Readers(target, truth, seconds, ["random", "random", "sequential", "walk"], drop_caches=0.02)
    kills = 0
    try:
        end = time.monotonic() + seconds - 1.0
        for group in itertools.cycle(groups):
            if time.monotonic() > end:
                break
            for role in group:
                kill_role(driver, role)
            kills += len(group)
            time.sleep(INTERVAL_SECONDS)
            assert wait_until(lambda: is_settled(driver), 10.0), driver.log()[-3000:]
        return kills, readers.collect()
    finally:
        readers.kill()


PAIRS = [
    ("custody", "daemon"),
    ("custody", "supervisor"),
    ("driver", "supervisor"),
    ("fetch", "supervisor"),
    ("serve", "custody"),
]
FIGURES = {("serve", "fetch", "supervisor"): "1n", ("driver",): "4n", ("custody",): "5m"}


@pytest.mark.timeout(200)
@pytest.mark.parametrize("roles", FIGURES, ids="-".join)
def test_one_at_a_time(
    driver: CsiDriver,
    truth: Path,
    target: Path,
    full_length: bool,
    promise: Callable[[str, str, str, str], None],
    allowed: Callable[[float], float],
    roles: tuple[str, ...],
) -> None:
    seconds = {1: 20.0, 3: 60.0 if full_length else 10.0}[len(roles)]  # beside other tests a driver settles in some
    kills, seen = kill_in_turn(driver, [(role,) for role in roles], target, truth, seconds)
    promise(
        FIGURES[roles],
        f"{', '.join(roles)} of a CSI volume killed in turn, readers in the bind mount",
        f"{kills} kills, {seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong, {seen.hung} hung, longest "
        f"{seen.longest_seconds:.2f} s",
        "0 failed, 0 wrong, 0 hung, longest < 1 s",
    )
    assert kills >= 2, "too few kills landed"
    seen.assert_clean()
    assert seen.longest_seconds < allowed(1.0), seen.slowest


@pytest.mark.timeout(200)
def test_pairs_in_turn(
    driver: CsiDriver,
    truth: Path,
    target: Path,
    full_length: bool,
    promise: Callable[[str, str, str, str], None],
) -> None:
    """Every pair of what the driver has started, and the driver: with custody alive nothing fails."""
    pairs = list(itertools.combinations(("serve", "fetch", "supervisor", "driver"), 2))
    seconds = 60.0 if full_length else 15.0
    kills, seen = kill_in_turn(driver, pairs, target, truth, seconds)
    promise(
        "1q",
        "serve, fetch, supervisor of a CSI volume and the driver killed in pairs, in turn, readers in the bind mount",
        f"{kills} kills, {seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong, {seen.hung} hung, longest "
        f"{seen.longest_seconds:.2f} s",
        "0 failed, 0 wrong, 0 hung",
    )
    assert kills >= (8 if full_length else 4), "too few kills landed"
    seen.assert_clean()


@pytest.mark.timeout(200)
@pytest.mark.parametrize("pair", PAIRS, ids="-".join)
def test_pairs(
    driver: CsiDriver,
    truth: Path,
    target: Path,
    promise: Callable[[str, str, str, str], None],
    pair: tuple[str, str],
) -> None:
    """Custody and daemon (or its supervisor) together: what is open may fail, the next open works soon. Else nothing fails."""
    readers = Readers(target, truth, LOOK_SECONDS + 2.0, ["random", "sequential"], drop_caches=0.02)
    try:
        time.sleep(1.0)
        for role in pair:
            if role != "driver":
                kill_role(driver, role)
        if "driver" in pair:
            kill_role(driver, "driver")
        again = last_failure(target / "large-0")
        seen = readers.collect()
    finally:
        readers.kill()
    assert wait_until(lambda: is_settled(driver), 10.0), driver.log()[-3000:]
    assert not seen.wrong, seen.examples
    assert not seen.hung
    if pair not in PAIRS[:2]:
        seen.assert_clean()
    after = Readers(target, truth, 1.0, ["random", "walk"]).collect()
    after.assert_clean()
    promise(
        f"5{'npqrs'[PAIRS.index(pair)]}",
        f"{' and '.join(pair)} of a CSI volume killed together, readers in the bind mount",
        f"opens fail for up to {again:.1f} s; meanwhile {seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong, "
        f"{seen.hung} hung; afterwards {after.reads} reads, {after.failed} failed, {after.wrong} wrong",
        "< 5 s, 0 wrong; where custody and daemon are gone, what was open may fail, else nothing",
    )
    assert again < 5.0
