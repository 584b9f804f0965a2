"""The node plugin with cache pods: who comes first, who dies, who takes over, and what is left at the end."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from csi.stubs import csi_pb2
from csi.volumes import inline
from fusecache.custody.mountinfo import find_mount
from tests.csi.conftest import Pods
from tests.support.cache_pod import BLOCKS, NAME, NAMESPACE, QUOTA, TOKEN, leftovers, volume_of
from tests.support.csi_driver import CALL_SECONDS, CsiDriver
from tests.support.mounted import kill, wait_until
from tests.support.readers import Readers
from tests.support.used_volume import MODE, check, leave, use

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.requires("unshare", "setpriv")]


def test_a_dataset_from_its_pod_to_a_consumer(node: CsiDriver, pods: Pods, truth: Path) -> None:
    pod = pods("a", attributes={"fusecache.io/serve-processes": "2"}, settings={"serve_processes": "2", "ttl": "5s"})
    assert find_mount(str(node.state / "mounts" / inline.dataset_id(NAMESPACE, NAME))) is not None, "before there is a daemon"
    pod.start()
    pod.wait_serving()
    whole, part = use(node), use(node, "part", "dir1")
    check(whole[2], truth)
    check(part[2], truth / "dir1")
    status = json.loads(pod.get("/status", TOKEN)[1])
    assert (status["state"], status["files"], len(status["pids"]["serve"])) == ("ready", 82, 2)
    assert status["mountpoint"] == str(node.state / "mounts" / "team.demo")
    metrics = pod.get("/metrics")[1]
    assert "fusecache_requests_total" in metrics
    assert not any(word in metrics for word in ("large-0", "small-", "s3://", "csi-"))
    request = csi_pb2.NodeGetVolumeStatsRequest(volume_id="part", volume_path=str(part[2]))
    usage = node.node.NodeGetVolumeStats(request, timeout=CALL_SECONDS).usage
    assert usage[1].used == len(list((truth / "dir1").iterdir()))
    health = csi_pb2.NodeGetVolumeHealthRequest(volume_id="demo")
    assert list(node.node.NodeGetVolumeHealth(health, timeout=CALL_SECONDS).volume_health.health_statuses) == []
    with pytest.raises(grpc.RpcError) as failed:
        node.publish(volume_of("part"), part[1], "elsewhere/missing", mode=MODE)
    assert failed.value.code() is grpc.StatusCode.NOT_FOUND
    statuses = [Path(f"/proc/{one}/status").read_text() for one in (pod.pid, *children(pod.pid))]
    if node.daemon_user != "0":
        assert all(f"Uid:\t{pod.uid}\t{pod.uid}" in one and "CapEff:\t0000000000000000" in one for one in statuses)
    for used in (whole, part):
        leave(node, used)
    assert pod.end() == 0
    pod.unpublish()
    assert leftovers(node) == []
    assert (node.state / "cache" / "team.demo" / "index").is_dir(), "what is cached stays"


def devices_of(node: CsiDriver) -> int:
    """Return how many different mounts are on top at the places of ours."""
    return len({entry.device for entry in (find_mount(path) for path in set(node.mounts())) if entry is not None})


def children(pid: int) -> list[int]:
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_volume_that_comes_before_its_pod_waits(node: CsiDriver, pods: Pods, truth: Path) -> None:
    volume, staging = volume_of("demo"), node.pods / "staging-demo"
    staging.mkdir()
    request = csi_pb2.NodeStageVolumeRequest(
        volume_id="demo", staging_target_path=str(staging), volume_context=volume.volume_context,
        volume_capability=csi_pb2.VolumeCapability(
            mount=csi_pb2.VolumeCapability.MountVolume(),
            access_mode=csi_pb2.VolumeCapability.AccessMode(mode=MODE),
        ),
    )  # fmt: skip
    with pytest.raises(grpc.RpcError) as failed:
        node.node.NodeStageVolume(request, timeout=0.5)
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert leftovers(node) == []
    staged = threading.Event()
    failures: list[grpc.RpcError] = []

    def stage() -> None:
        try:
            node.node.NodeStageVolume(request, timeout=CALL_SECONDS)
        except grpc.RpcError as error:
            failures.append(error)
        staged.set()

    thread = threading.Thread(target=stage)
    thread.start()
    try:
        time.sleep(0.5)
        pod = pods("a")
        assert not staged.wait(0.5), "there is a mount, and nobody who answers in it"
        pod.start()
        assert staged.wait(20.0)
    finally:
        thread.join(CALL_SECONDS + 1)
    assert not failures
    target = node.publish(volume, str(staging), "consumer", mode=MODE)
    check(target, truth)
    leave(node, (volume, str(staging), target))
    pod.end()
    pod.unpublish()
    assert leftovers(node) == []


@pytest.mark.timed
def test_a_pod_is_killed_and_replaced(
    node: CsiDriver, pods: Pods, truth: Path, full_length: bool, promise: Callable[[str, str, str, str], None]
) -> None:
    """First its container is started again, then another pod comes in its place."""
    pod = pods("a")
    pod.start()
    pod.wait_serving()
    used = use(node)
    rounds = 5 if full_length else 2
    readers = Readers(used[2], truth, 5.0 * rounds + 3.0, ["random", "random", "sequential", "walk"], drop_caches=0.02)
    kills = 0
    try:
        for number in range(rounds):
            time.sleep(1.0)
            pod.end(signal.SIGKILL)
            pod.start()
            pod.wait_serving()
            time.sleep(0.5)
            pod.end(signal.SIGKILL)
            pod.unpublish()
            pod = pods(f"b{number}")
            pod.start()
            pod.wait_serving()
            kills += 2
        seen = readers.collect()
    finally:
        readers.kill()
    promise(
        "1p",
        "cache pod of a Dataset killed, its container started again, or another pod in its place; readers in the bind mount",
        f"{kills} kills, {seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong, {seen.hung} hung, longest "
        f"{seen.longest_seconds:.2f} s",
        "0 failed, 0 wrong, 0 hung",
    )
    seen.assert_clean()
    leave(node, used)
    pod.end()
    pod.unpublish()
    assert leftovers(node) == []


@pytest.mark.timed
def test_a_surge_pod_stands_by_and_takes_over(
    node: CsiDriver,
    pods: Pods,
    truth: Path,
    full_length: bool,
    promise: Callable[[str, str, str, str], None],
    allowed: Callable[[float], float],
) -> None:
    pod = pods("0")
    pod.start()
    pod.wait_serving()
    used = use(node)
    rounds = 10 if full_length else 3
    readers = Readers(used[2], truth, 5.0 * rounds + 3.0, ["random", "random", "sequential", "walk"], drop_caches=0.02)
    gaps = []
    try:
        for number in range(rounds):
            following = pods(str(number + 1))
            following.start()
            following.wait_standby()
            assert pod.is_serving()
            assert following.get("/metrics") == (200, "")
            assert following.get("/status", TOKEN)[0] == 503
            time.sleep(1.0)
            began = time.monotonic()
            if number == 1:
                pod.end(signal.SIGKILL)
            else:
                assert pod.end() == 0, pod.log()
            following.wait_serving()
            gaps.append(time.monotonic() - began)
            pod.unpublish()
            pod = following
        seen = readers.collect()
    finally:
        readers.kill()
    promise(
        "4p",
        "a second cache pod stands by, the first one is told to end (once it is killed); readers in the bind mount",
        f"{rounds} times, from the signal to the other's answer at most {max(gaps):.2f} s; {seen.reads} reads: {seen.failed} "
        f"failed, {seen.wrong} wrong, {seen.hung} hung, longest {seen.longest_seconds:.2f} s",
        "0 failed, 0 wrong, longest < 2 s",
    )
    seen.assert_clean()
    assert seen.longest_seconds < allowed(2.0), seen.slowest
    leave(node, used)
    pod.end()
    pod.unpublish()
    assert leftovers(node) == []


def test_a_node_changes_its_role_while_somebody_reads(node: CsiDriver, pods: Pods, truth: Path) -> None:
    """From one that only mounts to one that caches and back: the same mount, and nothing that is open is lost."""
    quotas = {"consumer": 4 << 20, "worker": QUOTA}
    pod = pods("consumer-0", tiers=[{**BLOCKS, "quota_bytes": quotas["consumer"]}])
    pod.start()
    pod.wait_serving()
    used = use(node)
    device = find_mount(str(used[2]))
    readers = Readers(used[2], truth, 12.0, ["random", "random", "sequential", "walk"], drop_caches=0.02)
    try:
        for number, role in enumerate(("worker", "consumer", "worker")):
            following = pods(f"{role}-{number + 1}", tiers=[{**BLOCKS, "quota_bytes": quotas[role]}])
            following.start()
            following.wait_standby()
            pod.end()
            following.wait_serving()
            pod.unpublish()
            pod = following
            time.sleep(1.0)
        seen = readers.collect()
    finally:
        readers.kill()
    seen.assert_clean()
    assert device == find_mount(str(used[2])), "nobody had to mount again"
    check(used[2], truth)
    leave(node, used)
    pod.end()
    pod.unpublish()
    assert leftovers(node) == []


def test_a_tier_that_the_dataset_has_no_more_leaves_the_disk(node: CsiDriver, pods: Pods, truth: Path) -> None:
    pod = pods("a", tiers=[{**BLOCKS, "directory": "ssd-0a1b2c3d"}])
    pod.start()
    pod.wait_serving()
    check(use(node)[2], truth)
    pod.end()
    pod.unpublish()
    cache = node.state / "cache" / "team.demo"
    assert any(one.is_file() for one in (cache / "ssd-0a1b2c3d").rglob("*"))
    other = pods("b")
    other.start()
    other.wait_serving()
    assert wait_until(lambda: not (cache / "ssd-0a1b2c3d").exists(), 5.0), other.log()
    leave(node, (volume_of("demo"), str(node.pods / "staging-demo"), node.pods / "consumer-demo"))
    other.end()
    other.unpublish()
    assert leftovers(node) == []


def test_a_tier_on_a_disk_that_a_user_named(node: CsiDriver, pods: Pods, truth: Path, disk_path: Path) -> None:
    ssd = disk_path / "ssd"
    tier = {**BLOCKS, "directory": "ssd-0a1b2c3d"}
    attributes = {"fusecache.io/tiers": f"ssd-0a1b2c3d={ssd}"}
    pod = pods("a", tiers=[tier], attributes=attributes, places={"ssd-0a1b2c3d": ssd})
    pod.start()
    pod.wait_serving()
    used = use(node)
    check(used[2], truth)
    # A reader is answered before its block is written to the disk.
    assert wait_until(lambda: json.loads(pod.get("/status", TOKEN)[1])["cached_bytes"] > 4 << 20, 20.0), pod.log()
    status = json.loads(pod.get("/status", TOKEN)[1])
    place = ssd / NAMESPACE / NAME
    assert sum(one.stat().st_size for one in place.rglob("*") if one.is_file()) >= status["cached_bytes"]
    assert list((pod.cache / "ssd-0a1b2c3d").iterdir()) == []
    pod.end(signal.SIGKILL)
    pod.start()
    pod.wait_serving()
    assert json.loads(pod.get("/status", TOKEN)[1])["cached_bytes"] >= status["cached_bytes"], "what was cached was found again"
    check(used[2], truth)
    assert "lies in no tier of this mount" not in (node.state / "custody" / "log").read_text()
    leave(node, used)
    pod.end()
    pod.unpublish()
    assert leftovers(node) == []


def test_the_pod_goes_first_and_another_one_comes(node: CsiDriver, pods: Pods, truth: Path) -> None:
    """While a volume is staged the mount stays, and reads wait."""
    pod = pods("a")
    pod.start()
    pod.wait_serving()
    used = use(node)
    pod.end()
    pod.unpublish()
    request = csi_pb2.NodeGetVolumeHealthRequest(volume_id="demo")
    (health,) = node.node.NodeGetVolumeHealth(request, timeout=CALL_SECONDS).volume_health.health_statuses
    assert health.reason == "DaemonDoesNotAnswer"
    reading = subprocess.Popen(["timeout", "-s", "KILL", "30", "cat", str(used[2] / "large-0")], stdout=subprocess.PIPE)
    time.sleep(0.5)
    assert reading.poll() is None
    other = pods("b")
    other.start()
    assert reading.communicate(timeout=30)[0] == (truth / "large-0").read_bytes()
    other.end()
    other.unpublish()
    leave(node, used)
    assert leftovers(node) == []


def test_driver_and_custody_are_killed(node: CsiDriver, pods: Pods, truth: Path) -> None:
    pod = pods("a")
    pod.start()
    pod.wait_serving()
    used = use(node)
    readers = Readers(used[2], truth, 8.0, ["random", "random", "sequential", "walk"], drop_caches=0.02)
    try:
        for _ in range(2):
            time.sleep(1.0)
            node.stop(signal.SIGKILL)
            keeper = node.keeper()
            assert keeper is not None
            kill(keeper.pid)
            node.start()
            time.sleep(0.5)
        seen = readers.collect()
    finally:
        readers.kill()
    seen.assert_clean()
    assert "made anew" not in node.log()
    pod.publish()
    leave(node, used)
    pod.end()
    pod.unpublish()
    assert leftovers(node) == []


def test_a_mount_that_nobody_can_serve_is_made_anew_and_bound_again(node: CsiDriver, pods: Pods, truth: Path) -> None:
    """Custody and daemon are gone together, and then somebody takes the mount away."""
    pod = pods("a")
    pod.start()
    pod.wait_serving()
    used, part = use(node), use(node, "part", "dir1")
    keeper = node.keeper()
    assert keeper is not None
    kill(keeper.pid)
    pod.end(signal.SIGKILL)
    pod.start()

    def is_back() -> bool:
        done = subprocess.run(["timeout", "-s", "KILL", "5", "cat", str(used[2] / "large-0")], capture_output=True, check=False)
        return done.stdout == (truth / "large-0").read_bytes()

    assert wait_until(is_back, 15.0), node.log()[-3000:]
    check(used[2], truth)
    check(part[2], truth / "dir1")
    subprocess.run(["umount", "-l", str(node.state / "mounts" / "team.demo")], check=True, timeout=10)
    assert wait_until(lambda: node.log().count("made anew") == 2, 10.0), node.log()[-3000:]
    assert pod.process is not None
    pod.process.wait(20)  # the daemon of the old mount ends, and kubelet starts the container again
    pod.start()
    assert wait_until(is_back, 15.0), node.log()[-3000:]
    pod.wait_serving()
    assert wait_until(lambda: devices_of(node) == 1, 5.0)
    check(part[2], truth / "dir1")
    leave(node, part)
    leave(node, used)
    pod.end()
    pod.unpublish()
    assert leftovers(node) == []


def test_the_node_is_started_again(node: CsiDriver, pods: Pods, truth: Path) -> None:
    """Nothing is mounted any more, and nobody runs. kubelet publishes what it knows of, in any order."""
    pod = pods("a")
    pod.start()
    pod.wait_serving()
    used = use(node)
    node.stop(signal.SIGKILL)
    keeper = node.keeper()
    assert keeper is not None
    kill(keeper.pid)
    pod.end(signal.SIGKILL)
    for mountpoint in (used[2], node.state / "mounts" / "team.demo", pod.cache, pod.custody):
        subprocess.run(["umount", "-l", str(mountpoint)], check=True, timeout=10)
    node.start()
    pod.publish()
    pod.start()
    check(use(node)[2], truth)
    leave(node, used)
    pod.end()
    pod.unpublish()
    assert leftovers(node) == []


def test_a_mount_of_another_kind_is_made_when_nobody_uses_the_old_one(node: CsiDriver, pods: Pods, truth: Path) -> None:
    pod = pods("a")
    pod.start()
    pod.wait_serving()
    used = use(node)
    other = pods("b", attributes={"fusecache.io/serve-processes": "2"}, settings={"serve_processes": "2"})
    assert "stays as it is" in node.log()
    other.start()
    other.wait_standby()
    pod.end()
    other.wait_serving()
    check(used[2], truth)
    assert "was made for 1 serve processes, not 2" in other.log()
    leave(node, used)
    pod.unpublish()
    other.publish()
    assert other.process is not None
    other.process.wait(20)
    other.start()
    other.wait_serving()
    used = use(node)
    check(used[2], truth)
    assert len(json.loads(other.get("/status", TOKEN)[1])["pids"]["serve"]) == 2
    leave(node, used)
    other.end()
    other.unpublish()
    assert leftovers(node) == []
