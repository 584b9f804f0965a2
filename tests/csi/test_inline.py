"""Directories of cache pods as ephemeral volumes: kept between pods, of their own uid, for nobody but the operator's pods."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi.stubs import csi_pb2
from csi.volumes import inline
from tests.support.csi_driver import CsiDriver, capability

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

OF_POD = {
    "csi.storage.k8s.io/ephemeral": "true",
    "csi.storage.k8s.io/pod.name": "demo-fuse-x7k2p",
    "csi.storage.k8s.io/pod.namespace": "team",
    "csi.storage.k8s.io/pod.uid": "0",
    "csi.storage.k8s.io/serviceAccount.name": "demo-fuse",
}


def publish(driver: CsiDriver, target: Path, name: str = "inline-1", **changed: str) -> None:
    context = {**OF_POD, "fusecache.io/directory": "cache", "fusecache.io/dataset": "demo"}
    context |= {key.replace("__", "/").replace("_", "."): value for key, value in changed.items()}
    request = csi_pb2.NodePublishVolumeRequest(
        volume_id=name, target_path=str(target), volume_capability=capability(), volume_context=context
    )
    driver.node.NodePublishVolume(request, timeout=10)


def unpublish(driver: CsiDriver, target: Path, name: str = "inline-1") -> None:
    driver.node.NodeUnpublishVolume(csi_pb2.NodeUnpublishVolumeRequest(volume_id=name, target_path=str(target)), timeout=10)


def test_a_cache_directory_is_kept_between_pods_and_over_a_restart_of_the_driver(driver: CsiDriver) -> None:
    first, second = driver.pods / "first", driver.pods / "second"
    publish(driver, first)
    publish(driver, first)
    uid = inline.uid_of("team", "demo")
    assert (first.stat().st_uid, first.stat().st_gid, first.stat().st_mode & 0o777) == (uid, uid, 0o700)
    (first / "block").write_bytes(b"cached")
    driver.stop()
    driver.start()
    publish(driver, first)
    request = csi_pb2.NodeGetVolumeStatsRequest(volume_id="inline-1", volume_path=str(first))
    usage = driver.node.NodeGetVolumeStats(request, timeout=10).usage
    assert [one.total > 0 for one in usage] == [True, True]
    unpublish(driver, first)
    unpublish(driver, first)
    assert not first.exists()
    publish(driver, second, "inline-2")
    assert (second / "block").read_bytes() == b"cached"
    unpublish(driver, second, "inline-2")
    assert list((driver.state / "inline").iterdir()) == []


def test_the_directory_of_custody_is_the_one_where_custody_listens(driver: CsiDriver) -> None:
    target = driver.pods / "custody"
    publish(driver, target, fusecache_io__directory="custody")
    there = driver.state / "custody" / "mounts" / inline.dataset_id("team", "demo")
    assert os.path.samefile(target, there)
    unpublish(driver, target)
    assert there.is_dir()


def test_a_link_that_a_pod_has_planted_leads_nowhere(driver: CsiDriver, disk_path: Path) -> None:
    """The mark in custody's directory was touched by root, through whatever the pod had put there."""
    there = driver.state / "custody" / "mounts" / inline.dataset_id("team", "demo")
    publish(driver, driver.pods / "custody", fusecache_io__directory="custody")
    unpublish(driver, driver.pods / "custody")
    victim = disk_path / "victim"
    (there / ".kept").unlink()
    (there / ".kept").symlink_to(victim)
    publish(driver, driver.pods / "custody", fusecache_io__directory="custody")
    assert not victim.exists()
    unpublish(driver, driver.pods / "custody")


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({"csi_storage_k8s_io__serviceAccount_name": "default"}, "PERMISSION_DENIED"),
        ({"csi_storage_k8s_io__pod_name": "other-pod"}, "PERMISSION_DENIED"),
        ({"fusecache_io__dataset": "other"}, "PERMISSION_DENIED"),
        ({"csi_storage_k8s_io__pod_namespace": ""}, "INVALID_ARGUMENT"),
        ({"csi_storage_k8s_io__pod_namespace": "../team"}, "INVALID_ARGUMENT"),
        ({"fusecache_io__dataset": "../../etc"}, "INVALID_ARGUMENT"),
        ({"fusecache_io__directory": "/etc"}, "INVALID_ARGUMENT"),
        ({"source": "s3://bucket"}, "INVALID_ARGUMENT"),
    ],
)
def test_nobody_else_gets_one(driver: CsiDriver, changed: dict[str, Any], code: str) -> None:
    target = driver.pods / "pod"
    with pytest.raises(grpc.RpcError) as failed:
        publish(driver, target, **changed)
    assert failed.value.code().name == code, failed.value.details()
    assert not target.exists()
    assert list((driver.state / "cache").glob("*")) == []


def test_a_target_that_has_something_else(driver: CsiDriver) -> None:
    target = driver.pods / "pod"
    publish(driver, target)
    with pytest.raises(grpc.RpcError) as failed:
        publish(driver, target, "inline-2")
    assert failed.value.code() is grpc.StatusCode.ALREADY_EXISTS
    unpublish(driver, target)


def test_ids_and_uids() -> None:
    assert inline.dataset_id("team", "demo") == "team.demo"
    long = [inline.dataset_id("n" * 63, "d" * 200 + end) for end in "ab"]
    assert len(set(long)) == 2
    assert max(map(len, long)) <= 100
    assert inline.uid_of("a", "b.c") != inline.uid_of("a.b", "c")
    assert all(1 << 20 <= inline.uid_of("n", str(number)) < 1 << 21 for number in range(50))
