"""Credentials that come with calls are found nowhere but in the files that the daemon reads (figure 20c)."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest

from tests.support.csi_driver import CsiDriver
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Identity, Seaweed
from tests.support.secret_search import core_limit, texts_below, texts_of_process

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

ALL = ("Read", "List", "Write", "Tagging")


def test_secrets_of_calls_are_found_nowhere(disk_path: Path, promise: Callable[[str, str, str, str], None]) -> None:
    """With the right ones and with wrong ones: errors are where secrets slip out."""
    right = Identity("right", f"AKIA{secrets.token_hex(8).upper()}", f"canary-right-{secrets.token_hex(16)}", ALL)
    wrong = f"canary-wrong-{secrets.token_hex(16)}"
    given = {"accessKeyId": right.access_key, "secretAccessKey": right.secret_key}
    bad = {**given, "secretAccessKey": wrong}
    texts: dict[str, bytes] = {}
    with (
        Seaweed(disk_path / "weed", (ADMIN, right)) as server,
        S3Bucket(server.endpoint_url, "volumes", ADMIN.access_key, ADMIN.secret_key) as bucket,
        CsiDriver(disk_path / "csi", {}) as driver,
    ):
        bucket.create()
        parameters = {"source": "s3://volumes/claims", "endpoint_url": server.endpoint_url, "deadline": "3"}
        for number, refused in enumerate((bad, {**given, "nonsense": wrong}, {**given, "password": "x" * 70_000})):
            with pytest.raises(grpc.RpcError) as failed:
                driver.create("one", parameters, secrets=refused)
            texts[f"the answer to bad secrets {number}"] = str(failed.value).encode()
        volume = driver.create("one", parameters, secrets=given)
        with pytest.raises(grpc.RpcError) as failed:
            driver.stage(volume, secrets=bad)
        texts["the answer to a stage with a wrong secret"] = str(failed.value).encode()
        staging = driver.stage(volume, secrets=given)
        target = driver.publish(volume, staging, "pod")
        subprocess.run(["timeout", "-s", "KILL", "20", "cp", "/etc/hostname", str(target / "file")], check=True)
        driver.stage(volume, secrets=given)  # once more, as kubelet does
        (record,) = driver.records()
        keeper = driver.keeper()
        assert keeper is not None
        assert driver.process is not None
        pids = [driver.process.pid, keeper.pid, *(process.pid for process in (record.supervisor, *record.daemons))]
        for pid in pids:
            texts.update(texts_of_process(pid))
            assert core_limit(pid) == ("0", "0"), f"process {pid} may dump its memory"
        kept = driver.state / "secrets" / record.dataset_id
        modes = {path.name: (path.stat().st_mode & 0o777, path.stat().st_uid) for path in kept.iterdir()}
        texts.update(texts_below(driver.base, without=[driver.state / "secrets"]))
        texts["/proc/mounts"] = Path("/proc/mounts").read_bytes()
        driver.unpublish(volume, target)
        driver.unstage(volume, staging)
        assert not kept.exists(), "secrets outlive the last volume"
        texts["the driver's log at the end"] = driver.log().encode()
        assert driver.leftovers() == []
    log = str(driver.base / "driver.log")
    assert b"DEBUG" in texts[log] or b"call " in texts[log], "the log is not there"
    found = [(where, canary) for where, text in texts.items() for canary in (right.secret_key, wrong) if canary.encode() in text]
    uid = int(driver.daemon_user.partition(":")[0])
    size, answers = sum(map(len, texts.values())) >> 10, sum(name.startswith("the answer") for name in texts)
    promise(
        "20c",
        "canary secrets in calls of the CSI driver, log at DEBUG, right, wrong and malformed ones",
        f"{len(found)} of 2 secrets found in {len(texts)} texts of {size} KiB, {len(pids)} processes and {answers} answers; "
        f"{len(modes)} files of mode 0600, gone with the volume",
        "0 found",
    )
    assert modes == {"access_key": (0o600, uid), "secret_key": (0o600, uid)}
    assert not found
    assert len(texts) > 40


def test_rotated_secrets_of_a_stage_are_used(disk_path: Path) -> None:
    """The caller stages again with new values under the same key: the daemon has them within seconds."""
    one = Identity("one", "AKIAONE", f"first-{secrets.token_hex(8)}", ALL)
    with (
        Seaweed(disk_path / "weed", (ADMIN, one)) as server,
        S3Bucket(server.endpoint_url, "volumes", ADMIN.access_key, ADMIN.secret_key) as bucket,
        CsiDriver(disk_path / "csi", {}) as driver,
    ):
        bucket.create().put(b"claims/f", os.urandom(100))
        parameters = {"source": "s3://volumes/claims", "endpoint_url": server.endpoint_url, "deadline": "3"}
        volume = driver.create("one", parameters, secrets={"access_key": one.access_key, "secret_key": one.secret_key})
        staging = driver.stage(volume, secrets={"access_key": one.access_key, "secret_key": one.secret_key})
        target = driver.publish(volume, staging, "pod")
        new = f"second-{secrets.token_hex(8)}"
        server.set_identities((ADMIN, Identity("one", "AKIAONE", new, ALL)))
        driver.stage(volume, secrets={"access_key": one.access_key, "secret_key": new})
        done = subprocess.run(
            ["timeout", "-s", "KILL", "30", "cp", "/etc/hostname", str(target / "after")], capture_output=True, check=False
        )
        assert done.returncode == 0, done.stderr
        driver.unpublish(volume, target)
        driver.unstage(volume, staging)
