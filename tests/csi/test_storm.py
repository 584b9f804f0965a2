"""Many volumes, many clients, calls that are cancelled and repeated: at the end nothing is left (figure 18)."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable

import grpc
import pytest

from csi.stubs import csi_pb2
from tests.support.csi_driver import CsiDriver, Mode, capability
from tests.support.mounted import kill, wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Seaweed

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

CLIENTS = 16
CALL_SECONDS = 30.0
ALLOWED = {
    grpc.StatusCode.OK,
    grpc.StatusCode.ABORTED,  # the same volume is being worked on
    grpc.StatusCode.FAILED_PRECONDITION,  # published before staged, unstaged before unpublished
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.NOT_FOUND,
}


class Storm:
    def __init__(self, driver: CsiDriver, contexts: dict[str, dict[str, str]]) -> None:
        self.driver = driver
        self.contexts = contexts
        self.codes: Counter[str] = Counter()
        self.bad: list[str] = []
        self.longest = 0.0
        self._lock = threading.Lock()

    def _ask(self, what: str, call: Callable[..., object], request: object, timeout: float) -> None:
        began = time.monotonic()
        try:
            call(request, timeout=timeout)
            code, details = grpc.StatusCode.OK, ""
        except grpc.RpcError as error:
            code, details = error.code(), error.details()
        seconds = time.monotonic() - began
        with self._lock:
            self.codes[code.name] += 1
            if code not in ALLOWED:
                self.bad.append(f"{what}: {code.name} {details}")
            if timeout == CALL_SECONDS:
                self.longest = max(self.longest, seconds)

    def client(self, number: int, steps: int) -> None:
        chance = random.Random(number)
        names = list(self.contexts)
        for _ in range(steps):
            name = chance.choice(names)
            timeout = chance.choice([CALL_SECONDS] * 4 + [0.001, 0.02])
            self.step(chance.choice(["stage", "publish", "publish", "unpublish", "unstage"]), name, chance.randrange(2), timeout)

    def step(self, what: str, name: str, target: int, timeout: float = CALL_SECONDS) -> None:
        node, pods = self.driver.node, self.driver.pods
        staging, path = str(pods / f"staging-{name}"), str(pods / f"{name}-{target}")
        able = capability(Mode.MULTI_NODE_READER_ONLY)
        if what == "stage":
            os.makedirs(staging, exist_ok=True)
            request: object = csi_pb2.NodeStageVolumeRequest(
                volume_id=name, staging_target_path=staging, volume_capability=able, volume_context=self.contexts[name]
            )
            self._ask(what, node.NodeStageVolume, request, timeout)
        elif what == "publish":
            request = csi_pb2.NodePublishVolumeRequest(
                volume_id=name, staging_target_path=staging, target_path=path, volume_capability=able
            )
            self._ask(what, node.NodePublishVolume, request, timeout)
        elif what == "unpublish":
            self._ask(
                what, node.NodeUnpublishVolume, csi_pb2.NodeUnpublishVolumeRequest(volume_id=name, target_path=path), timeout
            )
        else:
            request = csi_pb2.NodeUnstageVolumeRequest(volume_id=name, staging_target_path=staging)
            self._ask(what, node.NodeUnstageVolume, request, timeout)


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


@pytest.mark.timeout(400)
def test_nothing_is_left_of_a_storm(driver: CsiDriver, seaweed: Seaweed, bucket: S3Bucket, full_length: bool) -> None:
    volumes, steps = (200, 60) if full_length else (40, 15)
    contexts = {}
    for number in range(volumes):
        bucket.put(f"v{number}/file".encode(), b"bytes")
        contexts[f"volume-{number}"] = {
            "source": f"s3://{bucket.bucket}", "endpoint_url": seaweed.endpoint_url, "directory": f"v{number}",
        }  # fmt: skip
    storm = Storm(driver, contexts)
    keeper = driver.keeper()
    assert keeper is not None
    assert driver.process is not None
    storm.step("stage", "volume-0", 0)
    storm.step("unstage", "volume-0", 0)
    before = open_files(driver.process.pid), open_files(keeper.pid)
    threads = [threading.Thread(target=storm.client, args=(number, steps)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{sum(storm.codes.values())} calls of {CLIENTS} clients: {dict(storm.codes)}, longest {storm.longest:.1f} s")
    assert not storm.bad, storm.bad[:5]
    assert storm.longest < CALL_SECONDS

    def is_empty() -> bool:
        for name in contexts:
            for target in range(2):
                storm.step("unpublish", name, target)
            storm.step("unstage", name, 0)
        return driver.leftovers() == []

    assert wait_until(is_empty, 60.0), driver.leftovers()
    assert wait_until(
        lambda: (
            driver.process is not None
            and open_files(driver.process.pid) <= before[0] + CLIENTS
            and open_files(keeper.pid) <= before[1]
        ),
        10.0,
    )


def test_a_node_that_was_restarted(driver: CsiDriver, seaweed: Seaweed, bucket: S3Bucket) -> None:
    """All processes and mounts are gone, the state directory is there: stage and publish work, and what is stale is cleaned."""
    bucket.put(b"file", b"bytes")
    volume = csi_pb2.Volume(
        volume_id="static", volume_context={"source": f"s3://{bucket.bucket}", "endpoint_url": seaweed.endpoint_url}
    )
    mode = Mode.MULTI_NODE_READER_ONLY
    staging = driver.stage(volume, mode=mode)
    target = driver.publish(volume, staging, "pod", mode=mode)
    (record,) = driver.records()
    keeper = driver.keeper()
    assert keeper is not None
    driver.stop()
    for process in (keeper, record.supervisor, *record.daemons):
        kill(process.pid)
    for mountpoint in reversed(driver.mounts()):
        subprocess.run(["umount", "-l", mountpoint], check=True, timeout=10)
    driver.start()
    staging = driver.stage(volume, mode=mode)
    target = driver.publish(volume, staging, "pod", mode=mode)
    done = subprocess.run(["timeout", "-s", "KILL", "20", "cat", str(target / "file")], capture_output=True)
    assert done.stdout == b"bytes"
    driver.unpublish(volume, target)
    driver.unstage(volume, staging)
    assert driver.leftovers() == []


def test_a_dead_and_a_hung_mount_are_taken_away_in_time(driver: CsiDriver, seaweed: Seaweed, bucket: S3Bucket) -> None:
    """Unpublish, unstage and statistics ask the daemon of no mount."""

    bucket.put(b"file", b"bytes")
    volume = csi_pb2.Volume(
        volume_id="static", volume_context={"source": f"s3://{bucket.bucket}", "endpoint_url": seaweed.endpoint_url}
    )
    mode = Mode.MULTI_NODE_READER_ONLY
    staging = driver.stage(volume, mode=mode)
    target = driver.publish(volume, staging, "pod", mode=mode)
    (record,) = driver.records()
    for process in (record.supervisor, *record.daemons):
        os.kill(process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        with pytest.raises(grpc.RpcError):
            driver.node.NodeGetVolumeStats(
                csi_pb2.NodeGetVolumeStatsRequest(volume_id="static", volume_path=str(target)), timeout=10.0
            )
        driver.unpublish(volume, target)
        assert time.monotonic() - began < 10.0
    finally:
        for process in (record.supervisor, *record.daemons):
            if process.is_alive:
                os.kill(process.pid, signal.SIGCONT)
    driver.unstage(volume, staging)
    assert driver.leftovers() == []
