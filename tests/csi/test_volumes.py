"""A volume from its creation to its removal, as kubelet and the provisioner ask for it."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import grpc
import pytest

from csi.stubs import csi_pb2
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.run_files import SPEC
from fusecache.custody.mountinfo import find_mount
from tests.support.csi_driver import CALL_SECONDS, CsiDriver, Mode, capability
from tests.support.mounted import kill, run_below, wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import READER

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

SECONDS = 30.0


def write(directory: Path, name: str, text: str) -> None:
    code = "import sys; open(sys.argv[1], 'w').write(sys.argv[2])"
    run_below(directory, [sys.executable, "-c", code, name, text], SECONDS)


def read(directory: Path, name: str) -> str:
    return run_below(directory, ["cat", name], SECONDS).decode()


def test_from_claim_to_pod_and_back(driver: CsiDriver, parameters: dict[str, str]) -> None:
    volume = driver.create("pvc-1", parameters)
    again = driver.create("pvc-1", parameters)
    assert again.volume_id == volume.volume_id
    staging = driver.stage(volume)
    driver.stage(volume)
    target = driver.publish(volume, staging, "pod-1")
    driver.publish(volume, staging, "pod-1")
    write(target, "checkpoint", "bytes")
    second = driver.publish(volume, staging, "pod-2", readonly=True)
    assert read(second, "checkpoint") == "bytes"
    entry = find_mount(str(second))
    assert entry is not None
    assert "ro" in entry.options
    stats = driver.node.NodeGetVolumeStats(
        csi_pb2.NodeGetVolumeStatsRequest(volume_id=volume.volume_id, volume_path=str(target)), timeout=CALL_SECONDS
    )
    assert {usage.unit: usage.used >= 1 for usage in stats.usage} == {1: True, 2: True}
    with pytest.raises(grpc.RpcError) as caught:
        driver.unstage(volume, staging)
    assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    for one in (target, second):
        driver.unpublish(volume, one)
        driver.unpublish(volume, one)
        assert not one.exists()
    driver.unstage(volume, staging)
    driver.unstage(volume, staging)
    assert driver.leftovers() == []
    driver.delete(volume)
    driver.delete(volume)


def test_volumes_of_one_class_share_a_mount_and_see_nothing_of_each_other(driver: CsiDriver, parameters: dict[str, str]) -> None:
    volumes = [driver.create(f"pvc-{number}", parameters) for number in range(3)]
    stagings = [driver.stage(volume) for volume in volumes]
    targets = [
        driver.publish(volume, staging, f"pod-{number}")
        for number, (volume, staging) in enumerate(zip(volumes, stagings, strict=True))
    ]
    assert len(driver.records()) == 1
    for number, target in enumerate(targets):
        write(target, "own", str(number))
    for number, target in enumerate(targets):
        assert run_below(target, ["ls"], SECONDS).decode().split() == ["own"]
        assert read(target, "own") == str(number)
    for volume, staging, target in zip(volumes, stagings, targets, strict=True):
        driver.unpublish(volume, target)
        driver.unstage(volume, staging)
    assert driver.leftovers() == []


def test_a_deleted_volume_takes_its_data_and_nothing_else(
    driver: CsiDriver, parameters: dict[str, str], bucket: S3Bucket
) -> None:
    bucket.put(b"claims/foreign/data", b"somebody's")
    volume = driver.create("pvc-data", parameters)
    staging = driver.stage(volume)
    target = driver.publish(volume, staging, "pod")
    write(target, "file", "bytes")
    driver.unpublish(volume, target)
    driver.unstage(volume, staging)
    directory = volume.volume_context["directory"]
    assert bucket.may_read(f"claims/{directory}/file".encode())
    driver.delete(volume)
    assert not bucket.may_read(f"claims/{directory}/file".encode())
    assert bucket.may_read(b"claims/foreign/data")


def test_a_directory_with_data_is_not_taken_for_a_new_volume(
    driver: CsiDriver, parameters: dict[str, str], bucket: S3Bucket
) -> None:
    bucket.put(b"claims/precious/data", b"somebody's")
    with pytest.raises(grpc.RpcError) as caught:
        driver.create("precious", parameters)
    assert caught.value.code() is grpc.StatusCode.ALREADY_EXISTS
    assert "belongs to no volume" in caught.value.details()
    assert bucket.may_read(b"claims/precious/data")


def test_what_was_modified_holds_from_the_next_stage_on(driver: CsiDriver, parameters: dict[str, str]) -> None:
    """The caller goes on telling what the volume was made with."""
    volume = driver.create("pvc-1", parameters)
    staging = driver.stage(volume)
    change = csi_pb2.ControllerModifyVolumeRequest(volume_id=volume.volume_id, mutable_parameters={"ttl": "7s"})
    driver.controller.ControllerModifyVolume(change, timeout=CALL_SECONDS)
    driver.stage(volume)  # as it is: the mount is in use

    def ttl() -> float:
        (record,) = driver.records()
        return MountSpec.load(Path(record.run_dir) / SPEC).ttl_seconds

    assert ttl() == 60.0
    driver.unstage(volume, staging)
    driver.stage(volume)
    assert ttl() == 7.0
    driver.stage(volume)
    driver.unstage(volume, staging)
    assert driver.leftovers() == []


def test_the_driver_is_killed_and_pods_do_not_notice(driver: CsiDriver, parameters: dict[str, str]) -> None:
    volume = driver.create("pvc-1", parameters)
    staging = driver.stage(volume)
    target = driver.publish(volume, staging, "pod-1")
    write(target, "file", "bytes")
    driver.stop(signal.SIGKILL)
    assert read(target, "file") == "bytes"
    driver.start()
    assert read(target, "file") == "bytes"
    driver.publish(volume, staging, "pod-1")
    driver.unpublish(volume, target)
    driver.unstage(volume, staging)
    assert driver.leftovers() == []


def test_everything_is_killed_and_comes_back_at_the_same_paths(driver: CsiDriver, parameters: dict[str, str]) -> None:
    volume = driver.create("pvc-1", parameters)
    staging = driver.stage(volume)
    target = driver.publish(volume, staging, "pod-1")
    write(target, "file", "bytes")
    driver.stop(signal.SIGKILL)
    (record,) = driver.records()
    keeper = driver.keeper()
    assert keeper is not None
    for process in (keeper, record.supervisor, *record.daemons):
        kill(process.pid)
    driver.start()

    def is_back() -> bool:
        done = subprocess.run(["timeout", "-s", "KILL", "5", "cat", str(target / "file")], capture_output=True)
        return done.stdout == b"bytes"

    assert wait_until(is_back, 5.0)
    driver.unpublish(volume, target)
    driver.unstage(volume, staging)
    assert driver.leftovers() == []


def test_secrets_of_the_call_are_used_and_lie_nowhere_afterwards(
    driver: CsiDriver, parameters: dict[str, str], bucket: S3Bucket
) -> None:
    """The environment's keys may write; those of the call may not."""
    secrets = {"accessKey": READER.access_key, "secretKey": READER.secret_key}
    with pytest.raises(grpc.RpcError) as caught:
        driver.create("pvc-1", parameters, secrets=secrets)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    bucket.put(b"claims/file", b"bytes")
    volume = csi_pb2.Volume(volume_id="static", volume_context=parameters)
    staging = driver.stage(volume, mode=Mode.MULTI_NODE_READER_ONLY, secrets=secrets)
    target = driver.publish(volume, staging, "pod", mode=Mode.MULTI_NODE_READER_ONLY)
    assert read(target, "file") == "bytes"
    driver.unpublish(volume, target)
    driver.unstage(volume, staging)
    assert READER.secret_key not in driver.log()
    found = subprocess.run(["grep", "-r", READER.secret_key, str(driver.state)], capture_output=True)
    assert found.stdout == b""


@pytest.mark.parametrize(
    ("what", "code"),
    [
        ({"staging_target_path": "/etc/staging"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"staging_target_path": "relative"}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"volume_id": ""}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"volume_id": "v" * 10_000}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"volume_context": {}}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"volume_context": {"source": "s3://b", "secret_key": "x"}}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"volume_context": {"source": "nonsense"}}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"volume_context": {"source": "s3://b", "ttl": "soon"}}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"volume_context": {"source": "s3://b", "x": "y" * 10_000}}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"volume_capability": capability(fs_type="ext4")}, grpc.StatusCode.INVALID_ARGUMENT),
        ({"volume_capability": capability(mount_flags=["suid"])}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
def test_what_cannot_be_staged(
    driver: CsiDriver, parameters: dict[str, str], what: dict[str, object], code: grpc.StatusCode
) -> None:
    good = {
        "volume_id": "static", "staging_target_path": str(driver.pods / "staging"), "volume_capability": capability(),
        "volume_context": parameters,
    }  # fmt: skip
    with pytest.raises(grpc.RpcError) as caught:
        driver.node.NodeStageVolume(csi_pb2.NodeStageVolumeRequest(**{**good, **what}), timeout=CALL_SECONDS)  # type: ignore[arg-type]
    assert caught.value.code() is code, caught.value.details()
    assert driver.leftovers() == []


def test_links_in_target_paths_lead_nowhere(driver: CsiDriver, parameters: dict[str, str]) -> None:
    volume = driver.create("pvc-1", parameters)
    staging = driver.stage(volume)
    elsewhere = driver.base / "elsewhere"
    elsewhere.mkdir()
    (driver.pods / "link").symlink_to(elsewhere)
    (driver.pods / "file").write_text("")
    for name in ("link", "link/below", "file", "missing/parent/target", "../elsewhere/target"):
        with pytest.raises(grpc.RpcError) as caught:
            driver.publish(volume, staging, name)
        assert caught.value.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND), caught.value.details()
    assert list(elsewhere.iterdir()) == []
    assert find_mount(str(elsewhere)) is None
    driver.unstage(volume, staging)
    assert driver.leftovers() == []
