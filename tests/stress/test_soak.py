"""Everything at once for a while: mixed readers, kills, evictions, faults of the store; then nothing may be left (figure 27)."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import pytest

from fusecache.contract.errors import CacheError
from tests.stress.conftest import make_files
from tests.stress.test_quota import allocated_below
from tests.support.fault_proxy import Fault, FaultProxy, Plan
from tests.support.killer import Killer, processes_of
from tests.support.mounted import Mounted, wait_until
from tests.support.readers import Readers
from tests.support.seaweed import Seaweed
from tests.support.stored_truth import environment, upload

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root, pytest.mark.timeout(400), pytest.mark.timed]

QUOTA_BYTES = 64 << 20
MODES = ["random"] * 5 + ["sequential", "sequential", "walk", "direct"]
FAULTS = Plan.evenly(0.05, Fault.UNAVAILABLE, Fault.THROTTLED, Fault.RESET, Fault.TRUNCATED, Fault.SLOW, slow_seconds=0.3)
ROLES = ("supervisor", "fetch", "serve")
LOOK_SECONDS = 0.5
SETTLED_SECONDS = 40.0  # from the last kill on: pools, buffers and the allocator's arenas have their size by then
GROWTH_BYTES = 8 << 20  # in the rest of the full length: 1 % of what goes through
GROWTH_DESCRIPTORS = 64
IDLE_GAUGES = ("fusecache_leased_blocks", "fusecache_blocks_in_flight")


class Look(NamedTuple):
    at: float
    pid: int
    anonymous_bytes: int
    descriptors: int
    threads: int


class Observer:
    """Looks at the processes of a mount twice a second, from `__enter__` to `__exit__`."""

    def __init__(self, mounted: Mounted) -> None:
        self.looks: dict[str, list[Look]] = defaultdict(list)
        self._mounted = mounted
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer")

    def _run(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            record = self._mounted.record()
            for role in ROLES:
                for process in processes_of(record, role):
                    with contextlib.suppress(OSError, KeyError):
                        self.looks[role].append(look_at(process.pid))

    def growth(self, role: str, since: float) -> tuple[int, int, int]:
        """Return by how much bytes, descriptors and threads of the last process of a role grew: mean of the last fifth of its
        looks less that of the first."""
        last = self.looks[role][-1].pid
        looks = [look for look in self.looks[role] if look.pid == last and look.at >= since]
        part = max(1, len(looks) // 5)

        def grown(field: str) -> int:
            values = [getattr(look, field) for look in looks]
            return int((sum(values[-part:]) - sum(values[:part])) / part)

        return grown("anonymous_bytes"), grown("descriptors"), grown("threads")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()


def look_at(pid: int) -> Look:
    lines = (line.partition(":") for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    status = {name: value.strip() for name, _, value in lines}
    kib = int(status["RssAnon"].split()[0])
    return Look(time.monotonic(), pid, kib << 10, len(os.listdir(f"/proc/{pid}/fd")), int(status["Threads"]))


def test_nothing_grows_and_nothing_is_left(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], seaweed: Seaweed
) -> None:
    killing, calm = (60.0, 100.0) if full_length else (6.0, 6.0)
    truth = disk_path / "truth"
    size = make_files(truth, small=400, large=6, large_bytes=16 << 20)
    upload(seaweed, "soak", truth)
    with (
        FaultProxy(seaweed.endpoint_url, FAULTS) as proxy,
        Mounted(
            disk_path,
            ["s3://soak"],
            tiers=[f"{disk_path / 'memory'}:16Mi", f"{disk_path / 'tier'}:{(QUOTA_BYTES >> 20) - 16}Mi"],
            environment=environment(proxy.url),
            options={"ttl": "2"},
        ) as mounted,
    ):
        readers = Readers(mounted.mountpoint, truth, killing + calm, MODES, drop_caches=0.002)
        try:
            with Observer(mounted) as observer:
                with Killer(mounted, ["serve", "fetch"], 2.0) as killer:
                    time.sleep(killing)
                killed_at = time.monotonic()
                seen = readers.collect(grace_seconds=60)
        finally:
            readers.kill()
        faults = sum(proxy.counts().fired.values())
        proxy.set_plan(Plan())
        assert wait_until(lambda: gauges(mounted) == [0] * len(IDLE_GAUGES), 20.0, step=0.5), mounted.metrics()
        metrics, allocated = at_rest(mounted, [disk_path / "memory", disk_path / "tier"])
        restarts = mounted.status()["restarts"]
    used = sum(int(value) for name, value in metrics.items() if name.startswith("fusecache_tier_used_bytes"))
    evicted = int(metrics["fusecache_evicted_bytes_total"])
    grown = {role: observer.growth(role, killed_at + min(SETTLED_SECONDS, calm / 3)) for role in ROLES}
    said = ", ".join(
        f"{role} {grown[role][0] / (1 << 20):+.1f} MiB {grown[role][1]:+d} fds {grown[role][2]:+d} threads" for role in ROLES
    )
    assert len(killer.kills) >= killing / 4
    assert faults > 10, "hardly any fault fired: the run proves nothing"
    assert evicted > QUOTA_BYTES, "the cache was hardly ever full: the run proves nothing"
    promise(
        "27",
        f"{killing + calm:.0f} s of mixed load, data {size / QUOTA_BYTES:.1f} times the cache, kills and faults of the store",
        f"{len(killer.kills)} kills, {faults} faults, {evicted >> 20} MiB evicted, {seen.reads} reads: {seen.failed} failed, "
        f"{seen.wrong} wrong, {seen.hung} hung; growth after the kills: {said}; at rest {used >> 10} KiB accounted, "
        f"{allocated >> 10} KiB on disk, leases and flights 0",
        "0 failed, 0 wrong, 0 hung; nothing grows; accounting = disk",
    )
    seen.assert_clean()
    assert restarts >= len(killer.kills) - 1
    assert abs(used - allocated) <= 0.02 * QUOTA_BYTES
    if full_length:
        for role, (grown_bytes, descriptors, threads) in grown.items():
            assert grown_bytes < GROWTH_BYTES, (role, grown)
            assert descriptors < GROWTH_DESCRIPTORS, (role, grown)
            assert threads <= 4, (role, grown)


def gauges(mounted: Mounted) -> list[int]:
    try:
        metrics = mounted.metrics()
    except (CacheError, LookupError):
        return []
    return [int(metrics[name]) for name in IDLE_GAUGES]


def at_rest(mounted: Mounted, tiers: list[Path]) -> tuple[dict[str, float], int]:
    """Return the metrics and the bytes on disk of one moment at which neither changed."""
    for _ in range(20):
        before = mounted.metrics()
        allocated = sum(allocated_below(tier) for tier in tiers)
        time.sleep(0.3)
        after = mounted.metrics()
        tier_names = [name for name in after if name.startswith("fusecache_tier_used_bytes")]
        if all(before[name] == after[name] for name in tier_names):
            break
    return after, allocated
