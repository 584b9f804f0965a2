"""What the driver takes: time to stage and publish, processes for many volumes, memory at rest (figure 33)."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from csi.stubs import csi_pb2
from tests.support.csi_driver import CsiDriver, Mode
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Seaweed

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.alone, pytest.mark.timed]

VOLUMES = 100
WARM_SECONDS, COLD_SECONDS = 0.15, 1.0
SLACK = 3.0  # of the test machine, which may have others to serve, when this runs for a few seconds only
MOST_KIB = 60 << 10


def resident_kib(pid: int) -> int:
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1])


@pytest.mark.timeout(200)
def test_time_processes_and_memory(
    driver: CsiDriver,
    seaweed: Seaweed,
    bucket: S3Bucket,
    full_length: bool,
    promise: Callable[[str, str, str, str], None],
) -> None:
    for number in range(VOLUMES):
        bucket.put(f"v{number}/file".encode(), b"bytes")
    assert driver.process is not None
    at_rest = resident_kib(driver.process.pid)
    mode = Mode.MULTI_NODE_READER_ONLY

    def volume(number: int, **more: str) -> csi_pb2.Volume:
        context = {"source": f"s3://{bucket.bucket}", "endpoint_url": seaweed.endpoint_url, "directory": f"v{number}", **more}
        return csi_pb2.Volume(volume_id=f"volume-{number}{''.join(more)}", volume_context=context)

    def seconds_of(one: csi_pb2.Volume) -> float:
        began = time.monotonic()
        driver.publish(one, driver.stage(one, mode=mode), f"pod-{one.volume_id}", mode=mode)
        return time.monotonic() - began

    volumes = [volume(number) for number in range(VOLUMES)]
    first = seconds_of(volumes[0])
    warm = sorted(seconds_of(one) for one in volumes[1:])
    assert len(driver.records()) == 1, "volumes of one dataset share a daemon"
    daemons = 1 + len(driver.records()[0].daemons)
    others = [volume(number, ttl=f"{40 + number}s") for number in range(5)]  # datasets of their own
    cold = sorted([first, *(seconds_of(one) for one in others)])
    after = resident_kib(driver.process.pid)
    warm_ms, cold_s = statistics.median(warm) * 1000, statistics.median(cold)
    promise(
        "33",
        "stage and publish of CSI volumes, one after the other",
        f"warm Dataset: median {warm_ms:.0f} ms, longest of {len(warm)} {warm[-1] * 1000:.0f} ms; cold: median {cold_s:.2f} s, "
        f"longest of {len(cold)} {cold[-1]:.2f} s; {VOLUMES} volumes of one Dataset: 1 mount, {daemons} processes; "
        f"driver at rest {at_rest >> 10} MiB, with {len(volumes) + len(others)} volumes {after >> 10} MiB",
        "warm < 150 ms, cold < 1 s, one daemon, driver at rest < 60 MiB",
    )
    slack = 1.0 if full_length else SLACK
    assert statistics.median(warm) < WARM_SECONDS * slack
    assert statistics.median(cold) < COLD_SECONDS * slack
    assert at_rest < MOST_KIB
    for one in [*volumes, *others]:
        driver.unpublish(one, driver.pods / f"pod-{one.volume_id}")
        driver.unstage(one, str(driver.pods / f"staging-{one.volume_id}"))
    assert driver.leftovers() == []
