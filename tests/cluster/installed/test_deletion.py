"""Deleting in any order: nothing hangs, nothing is left, and nothing is taken from under a running pod (figure K6)."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterator

import pytest

from csi.operator.render.object_names import node_label, volume_name
from tests.cluster_harness.boxes import BoxError
from tests.cluster_harness.cluster import Cluster
from tests.support.dataset_objects import dataset, keys, reading_pod, runtime, s3_mount
from tests.support.installation import NAMESPACE
from tests.support.kubectl import Kubectl, KubectlError
from tests.support.mounted import wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.scenarios import in_pod, shows, wait_pod
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

STATE = "/var/lib/fusecache"
GONE_SECONDS = 90.0
ORDERS = list(itertools.permutations(("dataset", "alluxioruntime", "pvc", "pod")))


@pytest.fixture(scope="module")
def store(cluster: Cluster) -> Iterator[Seaweed]:
    with Seaweed(host=cluster.addresses.machine) as seaweed:
        with S3Bucket(seaweed.endpoint_url, "bucket", ADMIN.access_key, ADMIN.secret_key) as bucket:
            bucket.create().put(b"file", b"bytes")
        yield seaweed


def make(kubectl: Kubectl, store: Seaweed, name: str) -> None:
    """A Dataset with a pod that uses it."""
    kubectl.create([dataset(name, [s3_mount("s3://bucket/", store.endpoint_url)]), runtime(name)])
    shows(kubectl, name, PHASE="Bound")
    kubectl.create([reading_pod(name, name)])
    wait_pod(kubectl, name)
    assert in_pod(kubectl, name, "cat /data/file") == "bytes"


def exists(kubectl: Kubectl, kind: str, name: str) -> bool:
    try:
        kubectl.get(kind, name)
    except KubectlError:
        return False
    return True


def left_of(cluster: Cluster, kubectl: Kubectl, name: str) -> list[str]:
    """Return everything that a Dataset has left behind, in the API server and on nodes."""
    namespace = kubectl.namespace
    kinds = ("dataset", "alluxioruntime", "pvc", "pod")
    found = [f"{kind} {name}" for kind in kinds if exists(kubectl, kind, name)]
    found += [f"pv {name}"] if exists(kubectl, "pv", volume_name(namespace, name)) else []
    selector = f"--selector=fusecache.io/dataset={name}"
    for kind in ("daemonsets", "pods", "configmaps", "secrets", "services", "serviceaccounts"):
        found += [f"{kind} {one['metadata']['name']}" for one in kubectl.items(kind, selector)]
    label = node_label(namespace, name)
    found += [f"label of {node['metadata']['name']}" for node in kubectl.items("nodes", f"--selector={label}")]
    for node in cluster.nodes:
        mounts = node.run(["cat", "/proc/mounts"])
        found += [f"mount {line.split()[1]} on {node.name}" for line in mounts.splitlines() if f"{namespace}.{name}" in line]
        try:
            node.run(["test", "!", "-e", f"{STATE}/cache/{namespace}.{name}"])
        except BoxError:
            found.append(f"cache on {node.name}")
    return found


@pytest.mark.parametrize("order", [ORDERS[14], ORDERS[0], ORDERS[9], ORDERS[23]], ids="-".join)
def test_in_any_order(
    store: Seaweed,
    cluster: Cluster,
    new_namespace: Callable[..., Kubectl],
    order: tuple[str, ...],
    promise: Callable[..., None],
    full_length: bool,
) -> None:
    if order not in (ORDERS[14], ORDERS[0]) and not full_length:
        pytest.skip("at full length only")
    kubectl = new_namespace("deletion")
    kubectl.create([keys(ADMIN.access_key, ADMIN.secret_key)])
    make(kubectl, store, "demo")
    for kind in order:
        kubectl("delete", kind, "demo", "--wait=false", "--ignore-not-found")
        if kind != "pod" and exists(kubectl, "pod", "demo") and "deletionTimestamp" not in kubectl.get("pod", "demo")["metadata"]:
            assert in_pod(kubectl, "demo", "cat /data/file") == "bytes", "taken from under a running pod"
    assert wait_until(lambda: not left_of(cluster, kubectl, "demo"), GONE_SECONDS, 1.0), left_of(cluster, kubectl, "demo")
    promise(
        f"K6 {'-'.join(order)}", f"delete in the order {', '.join(order)}", "0 left in the API server and on 3 nodes",
        "nothing hangs, nothing leaks, nothing is taken from a running pod",
    )  # fmt: skip


def test_the_namespace_goes_with_all_that_is_in_it(
    store: Seaweed, cluster: Cluster, new_namespace: Callable[..., Kubectl], promise: Callable[..., None], full_length: bool
) -> None:
    if not full_length:
        pytest.skip("at full length only: nodes take a minute to notice")
    kubectl = new_namespace("everything")
    if (kept := seconds_caches_are_kept(kubectl)) > GONE_SECONDS:
        pytest.skip(f"this installation keeps caches of Datasets that are gone for {kept} s, not as short as that of the tests")
    kubectl.create([keys(ADMIN.access_key, ADMIN.secret_key)])
    for name in ("one", "two"):
        make(kubectl, store, name)
    kubectl("delete", "namespace", "everything", "--wait=true", timeout_seconds=120)
    for name in ("one", "two"):
        # Everything goes at once, cache pods before anybody could tell them to remove what they have: nodes do it after a while.
        assert wait_until(lambda name=name: not left_of(cluster, kubectl, name), 150.0, 1.0), left_of(cluster, kubectl, name)
    promise("K6 namespace", "a namespace with two Datasets in use is deleted", "0 left", "nothing hangs, nothing leaks")


def seconds_caches_are_kept(kubectl: Kubectl) -> int:
    node = kubectl.get("daemonset", "fusecache-node", f"--namespace={NAMESPACE}")
    (given,) = re.findall(r"--keep-caches=(\d+)", " ".join(node["spec"]["template"]["spec"]["containers"][0]["args"]))
    return int(given)


def test_a_dataset_in_use_says_who_uses_it(store: Seaweed, new_namespace: Callable[..., Kubectl]) -> None:
    kubectl = new_namespace("in-use")
    kubectl.create([keys(ADMIN.access_key, ADMIN.secret_key)])
    make(kubectl, store, "demo")
    kubectl("delete", "dataset", "demo", "--wait=false")
    assert wait_until(lambda: "still used by Pod demo" in kubectl("describe", "dataset", "demo"), 30.0, 0.5)
    assert in_pod(kubectl, "demo", "cat /data/file") == "bytes"
    kubectl("delete", "pod", "demo", "--now", "--wait=true", timeout_seconds=60)
    kubectl("wait", "--for=delete", "dataset/demo", "--timeout=60s", timeout_seconds=70)
