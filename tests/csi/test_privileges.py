"""The data plane has no privileges: another uid, no capabilities, nothing to write to but its own (figure 30)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from csi.stubs import csi_pb2
from fusecache.base import landlock
from fusecache.contract.run_files import MOUNT_STATE
from fusecache.custody.mount_table import ProcessId
from fusecache.custody.mountinfo import find_mount
from tests.support.csi_driver import NOBODY, CsiDriver, Mode
from tests.support.mounted import ROOT, wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Seaweed

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

CAPABILITY_SETS = ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")
MODULES_OF_CUSTODY = """
import sys
import fusecache.custody.keeper
for name, module in sorted(sys.modules.items()):
    if name.split(".")[0] in ("fusecache", "csi") and getattr(module, "__file__", None):
        print(module.__file__)
"""


def status_of(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def privileged_lines() -> int:
    """Count the lines of code, without blanks, comments and docstrings, that custody has imported."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MODULES_OF_CUSTODY]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    total = 0
    for path in done.stdout.split():
        inside = False
        for line in map(str.strip, Path(path).read_text().splitlines()):
            quotes = line.count('"""')
            if quotes == 1:
                inside = not inside
            elif not quotes and not inside and line and not line.startswith("#"):
                total += 1
    return total


def test_daemons_without_privileges(
    driver: CsiDriver, seaweed: Seaweed, bucket: S3Bucket, promise: Callable[[str, str, str, str], None]
) -> None:
    if driver.daemon_user != str(NOBODY):
        pytest.skip("this checkout, or its Python, lies where only root gets to")
    content = os.urandom(8 << 20)
    bucket.put(b"large", content)
    context = {"source": f"s3://{bucket.bucket}", "endpoint_url": seaweed.endpoint_url, "access": "passthrough"}
    volume = csi_pb2.Volume(volume_id="static", volume_context=context)
    mode = Mode.MULTI_NODE_READER_ONLY
    staging = driver.stage(volume, mode=mode)
    target = driver.publish(volume, staging, "pod", mode=mode)
    command = ["timeout", "-s", "KILL", "20", "cat", str(target / "large")]
    for _ in range(3):  # the first one fetches
        assert subprocess.run(command, capture_output=True, check=True).stdout == content
    (record,) = driver.records()
    assert wait_until(lambda: driver.records()[0].access == "passthrough", 5.0)
    statuses = [status_of(process.pid) for process in (record.supervisor, *record.daemons)]
    for status in statuses:
        assert (status["Uid"].split(), status["Gid"].split()) == (["65534"] * 4, ["65534"] * 4)
        assert status["Groups"] == ""
        assert {status[name] for name in CAPABILITY_SETS} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
    assert record.passthrough_problem == ""
    assert "no passthrough" not in (driver.state / "custody" / "log").read_text()
    owners = {path.stat().st_uid for path in (driver.state / "cache").rglob("*")}
    assert owners == {NOBODY.uid}
    promise(
        "30",
        "processes of a CSI volume, standalone",
        f"{len(statuses)} daemons as uid 65534, 0 capabilities, no_new_privs, confined by Landlock {landlock.abi_version()},"
        f" passthrough works; custody, the privileged one, is {privileged_lines()} lines of code",
        "data plane without privileges; restricted in a container",
    )
    driver.unpublish(volume, target)
    driver.unstage(volume, staging)
    assert driver.leftovers() == []


def test_what_a_daemon_writes_of_itself_leads_the_driver_nowhere(driver: CsiDriver, seaweed: Seaweed, bucket: S3Bucket) -> None:
    """mount.json is the daemon's: with another mount point in it, the driver bound that into the pod; and killed who it named."""
    bucket.put(b"file", b"bytes")
    context = {"source": f"s3://{bucket.bucket}", "endpoint_url": seaweed.endpoint_url}
    volume = csi_pb2.Volume(volume_id="static", volume_context=context)
    mode = Mode.MULTI_NODE_READER_ONLY
    staging = driver.stage(volume, mode=mode)
    (record,) = driver.records()
    path = Path(record.run_dir) / MOUNT_STATE
    raw = json.loads(path.read_text())
    other = find_mount("/proc")
    assert other is not None
    innocent = subprocess.Popen(["sleep", "60"])
    try:
        named = asdict(ProcessId.of(innocent.pid))
        path.write_text(json.dumps({**raw, "mountpoint": "/proc", "device": other.device, "spares": [named]}))
        target = driver.publish(volume, staging, "pod", mode=mode)
        command = ["timeout", "-s", "KILL", "20", "cat", str(target / "file")]
        assert subprocess.run(command, capture_output=True, check=True).stdout == b"bytes"
        driver.unpublish(volume, target)
        driver.unstage(volume, staging)
        if driver.daemon_user != "0":
            assert innocent.poll() is None, "the driver killed who the daemon named"
    finally:
        innocent.kill()
        innocent.wait()
    assert driver.leftovers() == []


def test_a_user_who_cannot_reach_the_program_is_refused(disk_path: Path) -> None:
    private = disk_path / "private"
    private.mkdir(mode=0o700)
    command = [sys.executable, "-P", "-m", "csi", "--standalone", "--endpoint", f"unix://{disk_path}/s", "--node-id", "n"]
    command += ["--state-dir", str(private / "state")]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=20, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)}
    )
    assert done.returncode == 1
    assert "--daemon-user 0" in done.stderr
    assert done.stderr.count("\n") == 1, done.stderr
