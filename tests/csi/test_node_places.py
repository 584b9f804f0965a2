"""Directories of a node that users name, given to cache pods by the driver: below what is allowed, and nobody else's."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi.stubs import csi_pb2
from csi.volumes import inline
from tests.support.csi_driver import CsiDriver, capability

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

UID = inline.uid_of("team", "demo")


@pytest.fixture
def ssd(disk_path: Path) -> Path:
    """A disk of the node."""
    directory = disk_path / "ssd"
    directory.mkdir()
    directory.chmod(0o755)
    return directory


@pytest.fixture
def node(disk_path: Path, ssd: Path) -> Iterator[CsiDriver]:
    (disk_path / "data" / "public").mkdir(parents=True)
    mode = ("--standalone", "--node-id", "n", "--cache-root", str(ssd), "--local-root", str(disk_path / "data"))
    with CsiDriver(disk_path, {}, mode=mode) as driver:
        yield driver


def publish(
    driver: CsiDriver,
    target: Path,
    directory: str,
    host_path: object,
    *,
    tier: str = "ssd-1",
    read_only: bool = False,
    **of_pod: str,
) -> None:
    context = {
        "csi.storage.k8s.io/ephemeral": "true",
        "csi.storage.k8s.io/pod.name": "demo-fuse-consumer-x7k2p",
        "csi.storage.k8s.io/pod.namespace": of_pod.get("namespace", "team"),
        "csi.storage.k8s.io/serviceAccount.name": "demo-fuse",
        "fusecache.io/directory": directory,
        "fusecache.io/dataset": "demo",
        "fusecache.io/host-path": str(host_path),
    }
    if directory == "tier":
        context["fusecache.io/tier"] = tier
    request = csi_pb2.NodePublishVolumeRequest(
        volume_id=f"csi-{target.name}", target_path=str(target), volume_capability=capability(), volume_context=context,
        readonly=read_only,
    )  # fmt: skip
    driver.node.NodePublishVolume(request, timeout=10)


def unpublish(driver: CsiDriver, target: Path) -> None:
    request = csi_pb2.NodeUnpublishVolumeRequest(volume_id=f"csi-{target.name}", target_path=str(target))
    driver.node.NodeUnpublishVolume(request, timeout=10)


def refusal(driver: CsiDriver, *arguments: Any, **more: Any) -> str:
    target = driver.pods / "refused"
    with pytest.raises(grpc.RpcError) as failed:
        publish(driver, target, *arguments, **more)
    assert not target.exists()
    return str(failed.value.details())


def test_a_tier_lies_where_the_user_wants_it(node: CsiDriver, ssd: Path) -> None:
    target, place = node.pods / "tier", ssd / "fast" / "team" / "demo"
    publish(node, target, "tier", f"{ssd}//fast/")
    publish(node, target, "tier", ssd / "fast")
    assert os.path.samefile(target, place)
    assert (place.stat().st_uid, place.stat().st_gid, place.stat().st_mode & 0o777) == (UID, UID, 0o700)
    assert [one.stat().st_uid for one in (ssd / "fast", place.parent)] == [0, 0]
    inner = node.state / "cache" / "team.demo" / "ssd-1"
    assert inner.stat().st_uid == UID, "what a container's runtime would make to mount on would be root's"
    (target / "container").write_bytes(b"cached")
    node.stop()
    node.start()
    unpublish(node, target)
    assert not target.exists()
    publish(node, target, "tier", ssd / "fast")
    assert (target / "container").read_bytes() == b"cached"
    place.rename(place.with_name("gone"))
    unpublish(node, target)
    assert not target.exists(), "whatever became of the directory"


def test_a_path_that_is_not_allowed_is_in_the_drivers_directory(node: CsiDriver, disk_path: Path) -> None:
    elsewhere = disk_path / "elsewhere"
    elsewhere.mkdir()
    for number, path in enumerate((elsewhere, f"{disk_path}/ssd-2", "/")):
        if path == "/":
            assert "absolute path" in refusal(node, "tier", path)
            continue
        target = node.pods / f"tier-{number}"
        publish(node, target, "tier", path)
        assert os.path.samefile(target, node.state / "cache" / "team.demo" / "ssd-1")
        unpublish(node, target)
    assert list(elsewhere.iterdir()) == []
    assert "is below no --cache-root" in node.log()


def test_nobody_gets_the_directory_of_another_dataset(node: CsiDriver, ssd: Path) -> None:
    target = node.pods / "tier"
    publish(node, target, "tier", ssd)
    assert "can be changed by others than root" in refusal(node, "tier", ssd / "team" / "demo", namespace="evil")
    assert list((ssd / "team" / "demo").iterdir()) == []
    (ssd / "open").mkdir()
    (ssd / "open").chmod(0o777)
    assert "can be changed by others than root" in refusal(node, "tier", ssd / "open")
    for there in ("other", "team"):
        (ssd / "a" / there / "demo").mkdir(parents=True)
    (ssd / "a" / "team" / "demo" / "file").write_bytes(b"somebody's")
    assert "has files of another user" in refusal(node, "tier", ssd / "a")
    publish(node, node.pods / "empty", "tier", ssd / "a", namespace="other")
    assert (ssd / "a" / "other" / "demo").stat().st_uid == inline.uid_of("other", "demo")
    unpublish(node, node.pods / "empty")
    unpublish(node, target)


def test_no_link_is_followed(node: CsiDriver, ssd: Path, disk_path: Path) -> None:
    victim = disk_path / "victim"
    victim.mkdir()
    (ssd / "link").symlink_to(victim)
    assert "symbolic link" in refusal(node, "tier", ssd / "link")
    (ssd / "team").symlink_to(victim)
    assert "symbolic link" in refusal(node, "tier", ssd)
    cache = node.state / "cache" / "team.demo"
    (cache / "ssd-1").rmdir()
    (cache / "ssd-1").symlink_to(victim)
    assert "symbolic link" in refusal(node, "tier", disk_path / "elsewhere")
    assert "symbolic link" in refusal(node, "tier", ssd / "plain")
    (disk_path / "data" / "link").symlink_to(victim)
    assert "symbolic link" in refusal(node, "local", disk_path / "data" / "link")
    assert (list(victim.iterdir()), victim.stat().st_uid) == ([], 0)


def test_a_directory_of_the_node_as_a_source(node: CsiDriver, disk_path: Path) -> None:
    public, target = disk_path / "data" / "public", node.pods / "local"
    (public / "file").write_bytes(b"data")
    publish(node, target, "local", public, read_only=True)
    assert (target / "file").read_bytes() == b"data"
    failed = subprocess.run(["touch", str(target / "new")], capture_output=True, check=False)
    assert b"Read-only" in failed.stderr
    assert public.stat().st_uid == 0, "it stays whose it is"
    unpublish(node, target)
    publish(node, target, "local", public)
    (target / "new").write_bytes(b"")
    unpublish(node, target)
    assert (public / "new").exists()


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/etc", "below no directory that local:// may name"),
        ("{}/data-2", "below no directory that local:// may name"),
        ("{}/data/missing", "is not there"),
        ("{}/data/../state", "absolute path"),
        ("data", "absolute path"),
        ("", "absolute path"),
    ],
)
def test_what_is_no_source(node: CsiDriver, disk_path: Path, path: str, words: str) -> None:
    assert words in refusal(node, "local", path.format(disk_path))
    assert not (disk_path / "data" / "missing").exists()


@pytest.mark.parametrize("name", ["", "..", "a/b", "x" * 100])
def test_names_of_tiers(node: CsiDriver, ssd: Path, name: str) -> None:
    assert "no name of a directory" in refusal(node, "tier", ssd, tier=name)
    assert list(ssd.iterdir()) == []
