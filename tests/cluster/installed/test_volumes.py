"""Volumes of StorageClasses in pods, and Datasets whose mounts change while pods use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.cluster_harness.cluster import Cluster
from tests.support.dataset_objects import SECRET, dataset, keys, reading_pod, runtime, s3_mount
from tests.support.kubectl import Kubectl
from tests.support.mounted import wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.scenarios import in_pod, shows, wait_pod
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def store(cluster: Cluster) -> Iterator[Seaweed]:
    with Seaweed(host=cluster.addresses.machine) as seaweed:
        for name in ("one", "two", "claims"):
            with S3Bucket(seaweed.endpoint_url, name, ADMIN.access_key, ADMIN.secret_key) as bucket:
                bucket.create().put(b"file", f"bytes of {name}".encode())
        yield seaweed


def test_a_claim_of_a_storage_class_in_pods_on_two_nodes(store: Seaweed, new_namespace: Callable[..., Kubectl]) -> None:
    kubectl = new_namespace("claims")
    secret = {
        **keys(ADMIN.access_key, ADMIN.secret_key),
        "stringData": {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key},
    }
    of_secret = {
        f"csi.storage.k8s.io/provisioner-secret-{what}": value for what, value in (("name", SECRET), ("namespace", "claims"))
    }
    storage_class = {
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "claims-of-tests"},
        "provisioner": "csi.fusecache.io",
        "parameters": {
            "source": "s3://claims/below", "endpoint_url": store.endpoint_url, "region": "us-east-1", "ttl": "1", **of_secret,
        },
    }  # fmt: skip
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "work"},
        "spec": {
            "storageClassName": "claims-of-tests", "accessModes": ["ReadWriteMany"],
            "resources": {"requests": {"storage": "1Gi"}},
        },
    }  # fmt: skip
    try:
        kubectl.create([secret, storage_class, claim])
        kubectl.wait_for(["pvc", "work"], lambda found: found["status"].get("phase") == "Bound", 90.0)
        kubectl.create([reading_pod("writer", "work", node="node-1"), reading_pod("reader", "work", node="node-2")])
        for pod in ("writer", "reader"):
            wait_pod(kubectl, pod)
        in_pod(kubectl, "writer", "mkdir /data/a && echo written > /data/a/file && mv /data/a/file /data/a/name")
        assert wait_until(lambda: in_pod(kubectl, "reader", "cat /data/a/name 2>/dev/null || true") == "written\n", 60.0, 1.0)
        kubectl("delete", "pods", "--all", "--now", "--wait=true", timeout_seconds=60)
        kubectl("delete", "pvc", "work", "--wait=true", timeout_seconds=90)
        assert wait_until(lambda: kubectl.items("datasets") == [], 90.0, 1.0)
    finally:
        kubectl("delete", "pods", "--all", "--now", "--ignore-not-found")
        kubectl("delete", "pvc", "--all", "--wait=true", timeout_seconds=90)
        kubectl("delete", "storageclass", "claims-of-tests", "--ignore-not-found")


def test_a_mount_is_added_and_removed_while_a_pod_uses_the_dataset(store: Seaweed, new_namespace: Callable[..., Kubectl]) -> None:
    kubectl = new_namespace("mounts")
    one, two = (s3_mount(f"s3://{name}/", store.endpoint_url, name=name, path=f"/{name}") for name in ("one", "two"))
    kubectl.create([keys(ADMIN.access_key, ADMIN.secret_key), dataset("demo", [one]), runtime("demo", properties={"ttl": "1s"})])
    shows(kubectl, "demo", PHASE="Bound")
    kubectl.create([reading_pod("user", "demo")])
    wait_pod(kubectl, "user")
    assert in_pod(kubectl, "user", "cat /data/one/file; ls /data") == "bytes of oneone\n"
    kubectl.apply([dataset("demo", [one, two])])
    read = "cat /data/two/file 2>/dev/null || true"
    assert wait_until(lambda: in_pod(kubectl, "user", read) == "bytes of two", 60.0, 1.0), in_pod(kubectl, "user", "ls -R /data")
    assert in_pod(kubectl, "user", "cat /data/one/file") == "bytes of one"
    kubectl.apply([dataset("demo", [two])])
    assert wait_until(lambda: in_pod(kubectl, "user", "ls /data") == "two\n", 90.0, 1.0), in_pod(kubectl, "user", "ls -R /data")
    assert in_pod(kubectl, "user", "cat /data/two/file") == "bytes of two"
