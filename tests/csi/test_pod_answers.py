"""What a cache pod answers and says: Secrets that are missing or wrong, loads, what it removes, what cannot be."""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path
from typing import Any

import grpc
import pytest

from csi.stubs import csi_pb2
from csi.volumes import inline
from tests.csi.conftest import Pods
from tests.support.cache_pod import NAME, NAMESPACE, OWN_TOKEN, TOKEN, CachePod, leftovers, volume_of
from tests.support.csi_driver import CsiDriver
from tests.support.mounted import run_below, wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.used_volume import leave

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.requires("unshare", "setpriv")]


def test_what_is_written_is_in_the_store(node: CsiDriver, pods: Pods, bucket: S3Bucket, disk_path: Path) -> None:
    pod = pods("a", read_write=True)
    pod.start()
    pod.wait_serving()
    volume = volume_of("demo")
    staging = node.stage(volume)
    target = node.publish(volume, staging, "consumer")
    original = disk_path / "bytes"
    original.write_text("bytes\n")
    run_below(target, ["cp", str(original), "file"], 30.0)
    assert bucket.may_read(b"file")
    pod.end(signal.SIGKILL)
    pod.start()
    assert run_below(target, ["cat", "file"], 30.0) == b"bytes\n"
    leave(node, (volume, staging, target))
    pod.end()
    pod.unpublish()
    assert leftovers(node) == []


def test_a_pod_waits_for_a_secret_and_says_so(node: CsiDriver, pods: Pods, truth: Path) -> None:
    pod = pods("a")
    secret = pod.base / "credentials" / "0.secret_key"
    value = secret.read_text()
    secret.unlink()
    pod.start()
    assert wait_until(lambda: "0.secret_key is missing" in pod.get("/healthz")[1], 10.0), pod.log()
    assert pod.get("/healthz")[0] == 503
    status, said = pod.get("/livez")
    assert status == 200, "kubelet does not start it again"
    assert said.startswith("waiting: ")
    assert "0.secret_key is missing" in said
    assert "0.secret_key is missing" in (pod.custody / "problem").read_text()
    pod.put_secret("0.secret_key", value)
    pod.wait_serving()
    assert not (pod.custody / "problem").exists()
    pod.end()
    pod.unpublish()
    assert leftovers(node) == []


def test_a_pod_whose_key_is_wrong_says_so_and_tries_again(node: CsiDriver, pods: Pods, truth: Path) -> None:
    pod = pods("a")
    value = (pod.base / "credentials" / "0.secret_key").read_text()
    pod.put_secret("0.secret_key", "wrong")
    pod.start()
    assert wait_until(lambda: "secret" in pod.get("/status", TOKEN)[1], 20.0), pod.log()
    first, reason = pod.pid, pod.get("/healthz")[1]
    assert pod.get("/healthz")[0] == 503
    assert (pod.custody / "problem").read_text() == json.loads(reason)["error"]
    pod.put_secret("0.secret_key", value)
    pod.wait_serving()
    assert pod.pid == first, "kubelet would have waited before it started the container again"
    assert pod.end() == 0
    pod.unpublish()
    assert leftovers(node) == []


def test_warm_tells_how_far_it_is_and_refreshes(node: CsiDriver, pods: Pods, truth: Path, bucket: S3Bucket) -> None:
    pod = pods("a", settings={"ttl": "1h"})
    pod.start()
    pod.wait_serving()
    *_, last = pod.warm("")
    assert (last["done"], last["files"], last["failures"]) == (True, 82, 0)
    bucket.put(b"new/file", b"bytes")
    *_, last = pod.warm("/new")
    assert "is not in the dataset" in last.get("error", ""), last
    *_, last = pod.warm("/new/", refresh=True)
    assert (last.get("error"), last.get("files")) == (None, 1)
    assert pod.request("POST", "/warm", b"{}")[0] == 401
    assert pod.get("/status", "wrong")[0] == 401
    assert pod.request("POST", "/warm", b'{"paths": "x"}', TOKEN)[0] == 400
    assert pod.get("/warm", TOKEN)[0] == 405
    (pod.base / "token").write_text("another")
    assert pod.get("/status", TOKEN)[0] == 401
    assert pod.get("/status", "another")[0] == 200
    (pod.base / "token").unlink()
    assert pod.get("/status", "")[0] == 401
    pod.end()
    pod.unpublish()
    assert leftovers(node) == []


def erase(pod: CachePod, body: bytes = b"{}") -> tuple[int, dict[str, Any]]:
    status, text = pod.request("POST", "/erase", body, OWN_TOKEN)
    return status, json.loads(text)


def test_a_pod_removes_what_it_has_cached(node: CsiDriver, pods: Pods, truth: Path) -> None:
    pod = pods("a")
    pod.start()
    pod.wait_serving()
    *_, last = pod.warm("")
    assert last["failures"] == 0
    cache = node.state / "cache" / inline.dataset_id(NAMESPACE, NAME)
    assert sum(path.stat().st_size for path in cache.rglob("*")) > 8 << 20
    assert pod.request("POST", "/erase", b"{}")[0] == 401
    assert pod.request("POST", "/erase", b"{}", TOKEN)[0] == 401, "loaders of other namespaces have that one"
    assert wait_until(lambda: erase(pod) == (200, {"done": True}), 20.0), pod.log()
    assert not [path for path in cache.rglob("*") if path.is_file()]
    assert pod.get("/healthz")[0] == 503
    assert pod.get("/livez")[0] == 200
    assert pod.end() == 0
    pod.unpublish()
    assert not cache.exists()
    assert leftovers(node) == []


def test_a_pod_that_nobody_asks_any_more_serves_again(node: CsiDriver, pods: Pods, truth: Path) -> None:
    """Its runtime was deleted and made anew while a large cache was being removed: the node never served again."""
    pod = pods("a")
    pod.start(erased_seconds=5)
    pod.wait_serving()
    assert wait_until(lambda: erase(pod) == (200, {"done": True}), 20.0), pod.log()
    time.sleep(3)
    assert erase(pod) == (200, {"done": True})
    time.sleep(3)
    assert pod.get("/livez")[0] == 200, "it was asked again"
    assert pod.process is not None
    assert pod.process.wait(20) == 0
    pod.start()
    pod.wait_serving()
    pod.end()
    pod.unpublish()


def test_what_is_not_in_the_store_is_not_erased(node: CsiDriver, pods: Pods, bucket: S3Bucket) -> None:
    pod = pods("a", read_write=True, settings={"write_mode": "back", "write_back_delay": "1h"})
    pod.start()
    pod.wait_serving()
    volume = volume_of("demo")
    staging = node.stage(volume)
    target = node.publish(volume, staging, "consumer")
    run_below(target, ["cp", "/etc/hostname", "file"], 10.0)
    status, answer = erase(pod)
    leave(node, (volume, staging, target))
    assert (status, "1 files that were written are not in the store" in answer["error"]) == (409, True)
    assert wait_until(lambda: erase(pod, b'{"discard": true}') == (200, {"done": True}), 20.0), pod.log()
    assert pod.end() == 0
    pod.unpublish()
    assert leftovers(node) == []


def test_a_pod_that_is_misconfigured_ends_with_a_reason(node: CsiDriver, pods: Pods) -> None:
    pod = pods("a", settings={"nonsense": "1"})
    pod.start()
    assert pod.process is not None
    assert pod.process.wait(20) == 2
    pod.process = None
    assert "setting 'nonsense' is not known" in (pod.custody / "problem").read_text()
    assert not [name for name in os.listdir(pod.custody) if name == "spec.json"]
    pod.unpublish()
    assert leftovers(node) == []


@pytest.mark.parametrize(
    "context",
    [
        {"source": "s3://bucket"},
        {"fusecache.io/namespace": "team"},
        {"fusecache.io/namespace": "team", "fusecache.io/dataset": "../demo"},
        {"fusecache.io/namespace": "team", "fusecache.io/dataset": "demo", "fusecache.io/path": "a/../.."},
        {"fusecache.io/namespace": "team", "fusecache.io/dataset": "demo", "ttl": "3s"},
    ],
)
def test_what_is_no_volume_of_a_dataset(node: CsiDriver, context: dict[str, str]) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        node.stage(csi_pb2.Volume(volume_id="other", volume_context=context))
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT, failed.value.details()


@pytest.mark.parametrize(
    "attributes",
    [
        {"fusecache.io/read-write": "yes"},
        {"fusecache.io/serve-processes": "0"},
        {"fusecache.io/serve-processes": "1000"},
        {"fusecache.io/verify": "never"},
        {"fusecache.io/tiers": "../../etc"},
        {"fusecache.io/tiers": ",".join(f"t{number}" for number in range(30))},
    ],
)
def test_what_custody_cannot_be_told(node: CsiDriver, pods: Pods, attributes: dict[str, str]) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        pods("a", attributes=attributes)
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT, failed.value.details()
    assert node.mounts() == []


def test_a_cache_that_no_pod_has_goes_after_a_while(node: CsiDriver, pods: Pods, truth: Path) -> None:
    cache = node.state / "cache" / inline.dataset_id(NAMESPACE, NAME)
    other = node.state / "cache" / "somebody.unsaved"
    (other / "stage").mkdir(parents=True)
    (other / "stage" / "1").write_text("written, and not in the store")
    pod = pods("a")
    pod.start()
    pod.wait_serving()
    node.restart("--keep-caches", "1")
    time.sleep(2)
    assert (cache / "index").exists(), "a pod has it"
    pod.end()
    pod.unpublish()
    assert wait_until(lambda: not cache.exists(), 10.0)
    assert (other / "stage" / "1").exists()
    assert wait_until(lambda: not os.listdir(node.state / "removed"), 10.0)
