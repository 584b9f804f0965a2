"""Cache pods with other sources than the pod before them, on its mount and with its cache."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.csi.conftest import Pods
from tests.stress.conftest import make_files
from tests.support.cache_pod import TOKEN, leftovers, volume_of
from tests.support.csi_driver import CsiDriver
from tests.support.mounted import run_below, wait_until
from tests.support.readers import Readers
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Seaweed
from tests.support.stored_truth import upload
from tests.support.used_volume import check, leave, use

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.requires("unshare", "setpriv")]

HOLD = """
import sys
with open(sys.argv[1], "rb") as file:
    print("opened", flush=True)
    sys.stdin.readline()
    sys.stdout.buffer.write(file.read())
"""


def test_other_sources_come_under_a_volume_that_is_in_use(
    node: CsiDriver, pods: Pods, source: dict[str, Any], seaweed: Seaweed, bucket: S3Bucket, disk_path: Path
) -> None:
    """The Dataset's mounts are edited: a pod with sources a and b is replaced by one with a, c, and another one at d."""
    for directory in ("a", "b", "c", "d-old", "d-new"):
        make_files(disk_path / "truth" / directory, small=20, large=1, large_bytes=4 << 20)
    upload(seaweed, bucket.bucket, disk_path / "truth")

    def places(**directories: str) -> list[dict[str, Any]]:
        return [{**source, "url": f"s3://{bucket.bucket}/{name}", "place": place} for place, name in directories.items()]

    truth = disk_path / "truth"
    settings = {"ttl": "1h", "negative_ttl": "1h"}
    pod = pods("0", sources=places(a="a", b="b", d="d-old"), settings=settings)
    pod.start()
    pod.wait_serving()
    used, bound = use(node), use(node, "part", "d")
    check(used[2] / "a", truth / "a")
    check(used[2] / "b", truth / "b")
    check(bound[2], truth / "d-old")
    assert run_below(used[2], ["ls"], 10.0).split() == [b"a", b"b", b"d"]
    assert subprocess.run(["timeout", "-s", "KILL", "10", "ls", str(used[2] / "c")], check=False, capture_output=True).returncode
    readers = Readers(used[2] / "a", truth / "a", 10.0, ["random", "random", "sequential", "walk"], drop_caches=0.02)
    held = subprocess.Popen(
        ["timeout", "-s", "KILL", "60", sys.executable, "-c", HOLD, str(used[2] / "b" / "large-0")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert held.stdout is not None
    try:
        assert held.stdout.readline() == b"opened\n"
        following = pods("1", sources=places(a="a", c="c", d="d-new"), settings=settings)
        following.start()
        following.wait_standby()
        assert pod.end() == 0
        following.wait_serving()
        pod.unpublish()
        # Long before a TTL ends, which is an hour: the kernel was told.
        assert wait_until(lambda: run_below(used[2], ["ls"], 10.0).split() == [b"a", b"c", b"d"], 5.0), following.log()
        check(used[2] / "c", truth / "c")
        check(bound[2], truth / "d-new")
        done = subprocess.run(["timeout", "-s", "KILL", "10", "ls", str(used[2] / "b")], check=False, capture_output=True)
        assert b"No such file" in done.stderr
        *_, last = following.warm("")
        assert (last["done"], last["files"], last["failures"]) == (True, 63, 0), "and nothing of what was there before"
        assert held.communicate(b"\n", timeout=30)[0] == (truth / "b" / "large-0").read_bytes(), "what it had is cached"
        seen = readers.collect()
    finally:
        readers.kill()
        held.kill()
        held.communicate()
    seen.assert_clean()
    leave(node, used)
    leave(node, bound)
    following.end()
    following.unpublish()
    assert leftovers(node) == []


def test_a_dataset_is_made_anew_under_its_name(
    node: CsiDriver, pods: Pods, source: dict[str, Any], truth: Path, seaweed: Seaweed, bucket: S3Bucket, disk_path: Path
) -> None:
    """It finds the cache of the one before on the node. Its bucket has the same name, at another endpoint."""
    pod = pods("a")
    pod.start()
    pod.wait_serving()
    *_, last = pod.warm("")
    assert last["files"] == 82
    pod.end()
    pod.unpublish()
    with Seaweed() as other:
        make_files(disk_path / "other", small=5, large=1, large_bytes=3 << 20)
        upload(other, bucket.bucket, disk_path / "other")
        following = pods("b", sources=[{**source, "options": {"endpoint_url": other.endpoint_url}}])
        following.start()
        following.wait_serving()
        used = use(node)
        check(used[2], disk_path / "other")
        *_, last = following.warm("")
        assert (last["files"], last["failures"]) == (6, 0)
        status = json.loads(following.get("/status", TOKEN)[1])
        assert status["files"] == 6
        assert status["cached_bytes"] < 4 << 20, "the other store's bytes are gone"
        leave(node, used)
        following.end()
        following.unpublish()
    assert leftovers(node) == []


def test_what_was_not_uploaded_to_a_source_that_goes_is_kept(
    node: CsiDriver, pods: Pods, source: dict[str, Any], bucket: S3Bucket, disk_path: Path
) -> None:
    sources = [{**source, "url": f"s3://{bucket.bucket}/{place}", "place": place} for place in ("stays", "goes")]
    settings = {"write_mode": "back", "write_back_delay": "1h"}
    pod = pods("a", sources=sources, settings=settings, read_write=True)
    pod.start()
    pod.wait_serving()
    volume = volume_of("demo")
    staging = node.stage(volume)
    target = node.publish(volume, staging, "consumer")
    original = disk_path / "bytes"
    original.write_text("bytes\n")
    for place in ("stays", "goes"):
        run_below(target, ["cp", str(original), f"{place}/file"], 30.0)
    pod.end(signal.SIGKILL)
    following = pods("b", sources=sources[:1], settings=settings, read_write=True)
    pod.unpublish()
    following.start()
    following.wait_serving()
    assert run_below(target, ["ls"], 10.0).split() == [b"stays"]
    assert run_below(target, ["cat", "stays/file"], 30.0) == b"bytes\n"
    kept = node.state / "cache" / "team.demo" / "kept"
    assert wait_until(lambda: any(kept.glob("file.*.json")), 20.0), following.log()
    (record,) = kept.glob("*.json")
    assert json.loads(record.read_text())["path"] == "file"
    assert record.with_suffix("").read_text() == "bytes\n"
    assert not bucket.may_read(b"goes/file")
    leave(node, (volume, staging, target))
    assert following.end() == 0
    following.unpublish()
    assert leftovers(node) == []
