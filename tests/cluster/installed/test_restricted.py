"""Namespaces that enforce `restricted`, many pods of one Dataset, a drained node, a full and tainted one (figures K3)."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.cluster_harness.cluster import Cluster
from tests.support.dataset_objects import dataset, keys, reading_pod, runtime, s3_mount
from tests.support.kubectl import Kubectl
from tests.support.mounted import wait_until
from tests.support.pod_readers import PodReaders, files, put_files
from tests.support.s3_bucket import S3Bucket
from tests.support.scenarios import in_pod, shows, wait_pod
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

ENFORCE = {"pod-security.kubernetes.io/enforce": "restricted"}
CACHE = "--selector=app.kubernetes.io/component=cache"


@pytest.fixture(scope="module")
def store(cluster: Cluster) -> Iterator[Seaweed]:
    with Seaweed(host=cluster.addresses.machine) as seaweed:
        with S3Bucket(seaweed.endpoint_url, "bucket", ADMIN.access_key, ADMIN.secret_key) as bucket:
            bucket.create().put(b"file", b"bytes")
            put_files(bucket)
        yield seaweed


def make(kubectl: Kubectl, store: Seaweed, **spec: Any) -> None:
    kubectl.create([keys(ADMIN.access_key, ADMIN.secret_key)])
    kubectl.create([dataset("demo", [s3_mount("s3://bucket/", store.endpoint_url)]), runtime("demo", **spec)])
    shows(kubectl, "demo", PHASE="Bound")


def deployment(name: str, replicas: int, nodes: list[str]) -> dict[str, Any]:
    pod = reading_pod(
        name, "demo", script="until [ $(cat /data/file) = bytes ]; do sleep 0.1; done; touch /tmp/read; sleep infinity"
    )
    pod["spec"]["containers"][0]["readinessProbe"] = {"exec": {"command": ["test", "-e", "/tmp/read"]}, "periodSeconds": 1}
    terms = [{"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": nodes}]}]
    pod["spec"]["affinity"] = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}}
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": pod["spec"]}
    spec = {"replicas": replicas, "selector": {"matchLabels": labels}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def test_twenty_pods_that_are_not_root_on_two_nodes(
    store: Seaweed, new_namespace: Callable[..., Kubectl], promise: Callable[[str, str, str, str], None]
) -> None:
    kubectl = new_namespace("restricted", **ENFORCE)
    make(kubectl, store)
    began = time.monotonic()
    kubectl.create([deployment("many", 20, ["node-2", "node-3"])])
    kubectl("rollout", "status", "deployment/many", "--timeout=180s", timeout_seconds=190)
    seconds = time.monotonic() - began
    pods = kubectl.items("pods", CACHE)
    on_nodes = sorted(pod["spec"]["nodeName"] for pod in pods)
    assert len(on_nodes) == len(set(on_nodes)), "more than one cache pod on a node"
    assert {"node-2", "node-3"} <= set(on_nodes)
    assert all("hostPath" not in volume for pod in pods for volume in pod["spec"]["volumes"])
    promise(
        "K3 pods",
        "a Deployment of 20 pods that are not root, on two nodes, in a namespace that enforces restricted",
        f"20 of 20 have read after {seconds:.0f} s; cache pods: {len(on_nodes)}, one a node",
        "all read; one cache pod a node, none with privileges or a hostPath",
    )


def test_a_node_is_drained(
    store: Seaweed, new_namespace: Callable[..., Kubectl], promise: Callable[[str, str, str, str], None], full_length: bool
) -> None:
    """Drain leaves pods of DaemonSets alone: readers that wait for the end of their grace go on reading."""
    if not full_length:
        pytest.skip("at full length only")
    kubectl = new_namespace("drained", **ENFORCE)
    make(kubectl, store)
    slow = reading_pod("slow", "demo", node="node-2", terminationGracePeriodSeconds=20, script=(
        "trap 'for i in $(seq 8); do cat /data/tree/* > /dev/null || exit 9; sleep 0.5; done; echo read to the end;"
        " sleep 2; exit 0' TERM; cat /data/file; while true; do sleep 0.2; done"
    ))  # fmt: skip
    kubectl.create([slow])
    wait_pod(kubectl, "slow")
    kubectl("label", "pod", "slow", "drained=yes")
    reader = ThreadPoolExecutor(max_workers=1)
    log = reader.submit(kubectl, "logs", "--follow", "slow", timeout_seconds=120)
    try:
        kubectl("drain", "node-2", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--pod-selector=drained=yes",
                "--timeout=60s", timeout_seconds=70)  # fmt: skip
        assert "read to the end" in log.result(timeout=120), "a read failed while the node was drained"
        assert any(pod["spec"]["nodeName"] == "node-2" for pod in kubectl.items("pods", CACHE)), "the cache went before its pods"
    finally:
        kubectl("uncordon", "node-2")
        reader.shutdown()
    promise(
        "K3 drain", "kubectl drain of a node", "its cache pod was there until the last reader had gone", "the cache pod goes last"
    )


def test_a_cache_pod_starts_on_a_full_and_tainted_node(
    store: Seaweed, new_namespace: Callable[..., Kubectl], promise: Callable[[str, str, str, str], None]
) -> None:
    kubectl = new_namespace("full", **ENFORCE)
    make(kubectl, store, nodeSelector={"kubernetes.io/hostname": "node-1"})
    cpus = kubectl.get("node", "node-3")["status"]["allocatable"]["cpu"]
    filler = reading_pod("filler", "demo", node="node-3")
    filler["spec"]["volumes"] = []
    filler["spec"]["containers"][0] |= {"volumeMounts": [], "resources": {"requests": {"cpu": _nearly(kubectl, "node-3", cpus)}}}
    kubectl.create([filler])
    wait_pod(kubectl, "filler")
    kubectl("taint", "node", "node-3", "test=full:NoSchedule")
    try:
        tolerated = [{"key": "test", "operator": "Exists"}]
        kubectl.create([reading_pod("user", "demo", node="node-3", tolerations=tolerated)])
        wait_pod(kubectl, "user")
        assert in_pod(kubectl, "user", "cat /data/file") == "bytes"
        assert wait_until(lambda: _requested(kubectl, "node-3") == "50m", 60.0, 0.5), "the operator asks kubelet for a share"
        assert _given(kubectl, "node-3") == "0"
        assert kubectl.get("pod", "filler")["status"]["phase"] == "Running", "somebody was removed for a cache pod"
        kubectl("delete", "pod", "filler", "--now", "--wait=true")
        assert wait_until(lambda: _given(kubectl, "node-3") == "50m", 60.0, 0.5), "there is room for it now"
    finally:
        kubectl("taint", "node", "node-3", "test=full:NoSchedule-")
    promise(
        "K3 full",
        "a pod on a tainted node whose CPUs are all requested",
        "its cache pod started, and it read; nobody was removed; the cache pod got its share of the CPUs when there was room",
        "cache pods start",
    )


def _requested(kubectl: Kubectl, node: str) -> str:
    """Return the CPU that the cache pod of a node requests, whether it has it or not."""
    (container,) = _cache_pod(kubectl, node)["spec"]["containers"]
    return str(container["resources"]["requests"].get("cpu", "0"))


def _given(kubectl: Kubectl, node: str) -> str:
    """Return the CPU that kubelet has given it."""
    (container,) = _cache_pod(kubectl, node)["status"]["containerStatuses"]
    return str(container["resources"].get("requests", {}).get("cpu", "0"))


def _cache_pod(kubectl: Kubectl, node: str) -> dict[str, Any]:
    (pod,) = [pod for pod in kubectl.items("pods", CACHE) if pod["spec"]["nodeName"] == node]
    return pod


def _nearly(kubectl: Kubectl, node: str, allocatable: str) -> str:
    """Return all CPU that is not requested yet, in millicores."""
    cluster = Kubectl(kubectl.kubeconfig, "", kubectl.cache)
    pods = cluster.items("pods", "--all-namespaces", f"--field-selector=spec.nodeName={node},status.phase=Running")
    requests = [
        container.get("resources", {}).get("requests", {}).get("cpu", "0")
        for pod in pods
        for container in pod["spec"]["containers"]
    ]
    return f"{_millis(allocatable) - sum(map(_millis, requests))}m"


def _millis(quantity: str) -> int:
    return int(quantity.removesuffix("m")) if quantity.endswith("m") else int(float(quantity) * 1000)


def test_readers_read_right(store: Seaweed, new_namespace: Callable[..., Kubectl]) -> None:
    """The pods that other tests trust: they notice a file that is not what it has to be."""
    kubectl = new_namespace("trusted", **ENFORCE)
    with S3Bucket(store.endpoint_url, "wrong", ADMIN.access_key, ADMIN.secret_key) as bucket:
        bucket.create()
        for name, value in files().items():
            bucket.put(name.encode(), value[:-1] + b"!")
    kubectl.create([keys(ADMIN.access_key, ADMIN.secret_key)])
    kubectl.create([dataset("demo", [s3_mount("s3://wrong/", store.endpoint_url)]), runtime("demo")])
    shows(kubectl, "demo", PHASE="Bound")
    readers = PodReaders(kubectl, "demo")
    assert wait_until(lambda: readers.summary().wrong > 0, 30.0, 0.5)
