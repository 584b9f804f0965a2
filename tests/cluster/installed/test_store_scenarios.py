"""Articles 2 to 4: an NFS server, OSS with keys from a Secret, and a claim that is there already (figures K2)."""

from __future__ import annotations

import base64
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from csi.operator.formats import format_size
from tests.cluster_harness.cluster import Cluster
from tests.cluster_harness.control_plane import MACHINE_NAME
from tests.support.fake_oss import ACCESS_KEY, SECRET_KEY, FakeOss
from tests.support.fault_proxy import FaultProxy
from tests.support.ganesha import ganesha, missing_ganesha
from tests.support.kubectl import Kubectl
from tests.support.scenarios import create, digests, digests_of, in_pod, node_of, printed, shows, wait_pod

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

BOUND_SECONDS = 10.0
MIB = 1 << 20


def bound_seconds(kubectl: Kubectl, name: str) -> float:
    """How long it takes until the claim of a Dataset that was just created is bound, and the Dataset itself."""
    began = time.monotonic()
    kubectl.wait_for(["pvc", name], lambda claim: claim["status"].get("phase") == "Bound", BOUND_SECONDS)
    claim = time.monotonic() - began
    shows(kubectl, name, 30.0, PHASE="Bound")
    return claim


def make_files(root: Path, count: int, size: int) -> None:
    for number in range(count):
        path = root / f"{number % 3}" / f"file-{number:03d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(size + number))


def test_an_nfs_server_and_two_pods_of_a_stateful_set(
    cluster: Cluster, tmp_path: Path, new_namespace: Callable[..., Kubectl], promise: Callable[[str, str, str, str], None]
) -> None:
    if missing := missing_ganesha():
        pytest.skip(missing)
    make_files(tmp_path / "export", 12, 2 * MIB)
    kubectl = new_namespace("efc")
    with ganesha(tmp_path / "export", address=cluster.addresses.machine) as server:
        address = f"nfs://{cluster.addresses.machine}:{server.port}/exp"
        create(kubectl, "efc-nfs.yaml", **{"nfs://<nas_url>:<nas_dir>": address})
        seconds = bound_seconds(kubectl, "efc-demo")
        shows(kubectl, "efc-demo", CACHE_CAPACITY="45.00GiB")
        create(kubectl, "efc-nfs-app-statefulset.yaml")
        for pod in ("efc-app-0", "efc-app-1"):
            kubectl.wait_for(["pod", pod], lambda found: True)
            wait_pod(kubectl, pod)
            assert digests(kubectl, pod) == digests_of(tmp_path / "export")
        nodes = sorted(node_of(kubectl, pod) for pod in ("efc-app-0", "efc-app-1"))
        workers = kubectl.items("pods", "--selector=fusecache.io/dataset=efc-demo,app.kubernetes.io/component=cache")
        assert len({pod["spec"]["nodeName"] for pod in workers}) == 3
        promise(
            "K2 nfs",
            "article 2: an NFS server, three workers, a StatefulSet of two pods",
            f"claim Bound after {seconds:.1f} s; 12 files compared in pods on {' and '.join(nodes)}",
            "Bound within 10 s, every byte compared",
        )
        kubectl("delete", "statefulset,pods", "--all", "--now", "--wait=true", timeout_seconds=60)
        kubectl("delete", "dataset", "--all", "--wait=true", timeout_seconds=60)  # before its server goes


@pytest.fixture
def oss(cluster: Cluster) -> Iterator[tuple[FakeOss, FaultProxy]]:
    with FakeOss("oss-v1") as store, FaultProxy(store.url, None, cluster.addresses.machine) as proxy:
        store.bucket = "large-model-sh"
        store.host_names.append(MACHINE_NAME)
        for number in range(8):
            store.objects[f"model/part-{number}".encode()] = os.urandom(3 * MIB + number)
        yield store, proxy


def test_oss_with_keys_from_a_secret(
    oss: tuple[FakeOss, FaultProxy], new_namespace: Callable[..., Kubectl], promise: Callable[[str, str, str, str], None]
) -> None:
    store, proxy = oss
    total = format_size(sum(map(len, store.objects.values())))
    kubectl = new_namespace("serverless")
    keys = {"<YOUR_ACCESS_KEY_ID>": ACCESS_KEY, "<YOUR_ACCESS_KEY_SECRET>": SECRET_KEY}
    create(kubectl, "jindo-oss-secret.yaml", **keys)
    endpoint = f"http://{MACHINE_NAME}:{proxy.port}"  # OSS wants the bucket before the host's name
    create(kubectl, "jindo-oss-serverless.yaml", **{"oss-cn-beijing-internal.aliyuncs.com": endpoint})
    seconds = bound_seconds(kubectl, "serverless-data")
    shows(kubectl, "serverless-data", UFS_TOTAL_SIZE=total, CACHED="0.00B", CACHE_CAPACITY="10.00GiB", CACHED_PERCENTAGE="0.0%")
    claim = printed(kubectl, "pvc", "serverless-data")[0]
    assert [claim[name] for name in ("STATUS", "VOLUME", "CAPACITY", "ACCESS MODES", "STORAGECLASS")] == [
        "Bound", "serverless-serverless-data", "100Gi", "ROX", "fluid",
    ]  # fmt: skip
    manifest = "jindo-oss-dataload.yaml"
    create(kubectl, manifest, **{"namespace: default": f"namespace: {kubectl.namespace}"})
    kubectl("wait", "--for=condition=Complete", "dataload/serverless-data-warmup", "--timeout=60s", timeout_seconds=70)
    shows(kubectl, "serverless-data", CACHED=total, CACHED_PERCENTAGE="100.0%")
    create(kubectl, "jindo-oss-serving-deployment.yaml")
    kubectl("rollout", "status", "deployment/model-serving", "--timeout=90s", timeout_seconds=100)
    (pod,) = [one["metadata"]["name"] for one in kubectl.items("pods", "--selector=app=model-serving")]
    for key, value in store.objects.items():
        read = in_pod(kubectl, pod, 'base64 -w0 "$1"', f"/data/{key.decode()}")
        assert base64.b64decode(read) == value
    everything = kubectl("get", "dataset,jindoruntime,dataload,configmap,daemonset,pod,job,event,pv", "--output=json")
    assert SECRET_KEY not in everything
    promise(
        "K2 oss",
        "article 3: OSS with keys from a Secret, all of it preloaded, a Deployment",
        f"claim Bound after {seconds:.1f} s; {len(store.objects)} objects compared; 0 of 1 secret in objects and events",
        "Bound within 10 s, 100.0% after the DataLoad, every byte compared",
    )


def test_a_claim_is_accelerated_for_reading_and_writing(
    cluster: Cluster, tmp_path: Path, new_namespace: Callable[..., Kubectl], promise: Callable[[str, str, str, str], None]
) -> None:
    shared = tmp_path / "polefs"
    make_files(shared / "data" / "test" / "images", 30, 20_000)
    make_files(shared / "data" / "other", 6, 50_000)
    for path in (shared, *shared.rglob("*")):
        path.chmod(0o777 if path.is_dir() else 0o666)
    for node in cluster.nodes:
        node.bind(shared, "/mnt/polefs")
    kubectl = new_namespace("wz")
    try:
        kubectl.create(existing_claim())
        kubectl.wait_for(["pvc", "polefs"], lambda claim: claim["status"].get("phase") == "Bound")
        create(kubectl, "pvc-alluxio-rwx.yaml")
        seconds = bound_seconds(kubectl, "polefs-acc")
        shows(kubectl, "polefs-acc", CACHE_CAPACITY="150.00GiB")
        volume = printed(kubectl, "pv", "wz-polefs-acc")[0]
        assert [volume[name] for name in ("CAPACITY", "ACCESS MODES", "RECLAIM POLICY", "STATUS")] == [
            "100Gi",
            "RWX",
            "Retain",
            "Bound",
        ]
        create(kubectl, "pvc-alluxio-dataload.yaml")
        kubectl("wait", "--for=condition=Complete", "dataload/polefs-acc", "--timeout=60s", timeout_seconds=70)
        kubectl.create([application("writer", "node-1"), application("reader", "node-2")])
        for pod in ("writer", "reader"):
            wait_pod(kubectl, pod)
            assert digests(kubectl, pod) == digests_of(shared)
        in_pod(
            kubectl, "writer", "cp -R /data/data/test/images /data/copy && sync /data/copy/0/file-000 && echo bytes > /data/new"
        )
        assert (shared / "new").read_text() == "bytes\n"
        seen = in_pod(kubectl, "reader", "for i in $(seq 120); do cat /data/new && exit; sleep 1; done; ls /data")
        assert seen == "bytes\n"
        assert digests(kubectl, "writer") == digests_of(shared)
        promise(
            "K2 pvc",
            "article 4: a claim accelerated, ReadWriteMany, a DataLoad of a nested directory",
            f"claim Bound after {seconds:.1f} s; 36 files compared in pods on two nodes; 31 written, seen in claim and other pod",
            "Bound within 10 s, every byte compared",
        )
    finally:
        kubectl("delete", "pods", "--all", "--now", "--wait=true", timeout_seconds=60)
        kubectl("delete", "dataset,dataload", "--all", "--wait=true", timeout_seconds=60)
        kubectl("delete", "pvc", "--all", "--wait=true", timeout_seconds=60)
        kubectl("delete", "pv", "polefs", "--wait=true", timeout_seconds=60)
        for node in cluster.nodes:
            node.run(["umount", "-l", "/mnt/polefs"])


def existing_claim() -> list[dict[str, object]]:
    volume = {
        "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "polefs"},
        "spec": {
            "capacity": {"storage": "30000Gi"}, "accessModes": ["ReadWriteMany"], "storageClassName": "polefs-storageclass",
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"path": "/mnt/polefs", "type": "Directory"},
        },
    }  # fmt: skip
    claim = {
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "polefs"},
        "spec": {
            "resources": {"requests": {"storage": "30000Gi"}}, "accessModes": ["ReadWriteMany"],
            "storageClassName": "polefs-storageclass", "volumeName": "polefs",
        },
    }  # fmt: skip
    return [volume, claim]


def application(name: str, node: str) -> dict[str, object]:
    container = {"name": "main", "image": "nginx", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": "polefs-acc"}}
    spec = {"nodeSelector": {"kubernetes.io/hostname": node}, "containers": [container], "volumes": [volume]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
