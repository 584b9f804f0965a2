"""Many volumes, many clients, calls that are cancelled and repeated: at the end nothing is left (figure 18)."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
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

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.timed]

CLIENTS = 16
CALL_SECONDS = 30.0
LONGEST_SECONDS = 10.0
HOLD = "import sys, time; file = open('file', sys.argv[1]); print(1, flush=True); time.sleep(60)"
STATES = ["hung", "dead", "busy", "busy-writing"]
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
def test_nothing_is_left_of_a_storm(
    driver: CsiDriver,
    seaweed: Seaweed,
    bucket: S3Bucket,
    full_length: bool,
    promise: Callable[[str, str, str, str], None],
) -> None:
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
    calls = f"{sum(storm.codes.values())} calls ({', '.join(f'{name} {count}' for name, count in sorted(storm.codes.items()))})"
    print(f"{calls}, longest {storm.longest:.1f} s")
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
    promise(
        "18",
        f"{volumes} volumes staged, published, unpublished, unstaged in random order by {CLIENTS} clients, with cancellations",
        f"{calls}, longest {storm.longest:.1f} s; left over afterwards: 0 mounts, processes, descriptors, directories",
        f"0 left over; no call longer than its deadline of {CALL_SECONDS:.0f} s",
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


@pytest.mark.parametrize("state", STATES)
def test_a_mount_in_any_state_is_taken_away_in_time(
    driver: CsiDriver, seaweed: Seaweed, bucket: S3Bucket, promise: Callable[[str, str, str, str], None], state: str
) -> None:
    """Statistics, unpublish and unstage ask the daemon of no mount, and wait for no program."""
    bucket.put(b"file", b"bytes")
    volume = csi_pb2.Volume(
        volume_id="static", volume_context={"source": f"s3://{bucket.bucket}", "endpoint_url": seaweed.endpoint_url}
    )
    mode = Mode.SINGLE_NODE_WRITER if state == "busy-writing" else Mode.MULTI_NODE_READER_ONLY
    staging = driver.stage(volume, mode=mode)
    target = driver.publish(volume, staging, "pod", mode=mode)
    (record,) = driver.records()
    processes = (record.supervisor, *record.daemons)
    holder = None
    seconds = {}
    if state.startswith("busy"):
        how = "r+" if state == "busy-writing" else "r"
        holder = subprocess.Popen([sys.executable, "-c", HOLD, how], cwd=target, stdout=subprocess.PIPE)
        assert holder.stdout is not None
        assert holder.stdout.readline()
    elif state == "hung":
        for process in processes:
            os.kill(process.pid, signal.SIGSTOP)
    else:
        keeper = driver.keeper()
        assert keeper is not None
        for process in (keeper, *processes):
            kill(process.pid)
    request = csi_pb2.NodeGetVolumeStatsRequest(volume_id="static", volume_path=str(target))
    try:
        for name, call in (
            ("statistics", lambda: driver.node.NodeGetVolumeStats(request, timeout=LONGEST_SECONDS)),
            ("unpublish", lambda: driver.unpublish(volume, target)),
            ("unstage", lambda: driver.unstage(volume, staging)),
        ):
            began = time.monotonic()
            with contextlib.suppress(grpc.RpcError) if name == "statistics" else contextlib.nullcontext():
                call()
            seconds[name] = time.monotonic() - began
    finally:
        for process in processes:
            if process.is_alive and state == "hung":
                os.kill(process.pid, signal.SIGCONT)
        if holder is not None:
            holder.kill()
            holder.communicate()
    promise(
        "19" + ["", "d", "b", "w"][STATES.index(state)],
        f"a {state} mount is asked for statistics, unpublished and unstaged",
        ", ".join(f"{name} {value:.1f} s" for name, value in seconds.items()),
        f"each < {LONGEST_SECONDS:.0f} s",
    )
    assert max(seconds.values()) < LONGEST_SECONDS
    assert driver.leftovers() == []
