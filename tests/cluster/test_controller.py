"""The controller with the real csi-attacher and csi-provisioner, and the operator, against a real API server and a real store."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import grpc
import pytest
import yaml
from lightkube import AsyncClient, KubeConfig

from csi import DRIVER_NAME
from csi.cluster.volumes import ClusterVolumes
from csi.operator.objects import Kind, Objects
from csi.operator.render.object_names import node_label
from csi.stubs import csi_pb2
from csi.volumes.provisioning import Provisioning
from fusecache.contract.errors import CacheError
from fusecache.source.registry import open_source
from tests.support.controller_surroundings import account, attached, driver_on_nodes
from tests.support.csi_sidecars import CsiSidecars
from tests.support.kubectl import Kubectl, KubectlError
from tests.support.mounted import ROOT, wait_until
from tests.support.operator_process import OperatorProcess
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

IMAGE = "localhost/fusecache-fuse:none"  # the cache pods of these tests need not run
SECONDS = 40.0
MARKERS = ".fusecache-volumes"
Mode = csi_pb2.VolumeCapability.AccessMode.Mode


@pytest.fixture(scope="module")
def definitions(kubeconfig: Path) -> None:
    Kubectl(kubeconfig)("apply", "--server-side", "--filename", str(ROOT / "deploy" / "crds"))
    Kubectl(kubeconfig)("wait", "--for=condition=Established", "--timeout=30s", "crd", "--selector=fusecache.io/definition=true")


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with Seaweed() as server:
        yield server


@pytest.fixture
def bucket(seaweed: Seaweed) -> Iterator[S3Bucket]:
    with S3Bucket(seaweed.endpoint_url, f"claims-{os.urandom(4).hex()}", ADMIN.access_key, ADMIN.secret_key) as bucket:
        yield bucket.create()


@pytest.fixture
def nodes(kubeconfig: Path) -> Iterator[list[str]]:
    with driver_on_nodes(kubeconfig) as names:
        yield names


@pytest.fixture
def operator(definitions: None, kubeconfig: Path, namespace: Kubectl, tmp_path: Path) -> Iterator[OperatorProcess]:
    with OperatorProcess(kubeconfig, namespace.namespace, tmp_path / "operator.log", image=IMAGE) as operator:
        yield operator
        for kind in ("pvc", "datasets", "alluxioruntimes", "thinruntimes"):
            namespace("delete", kind, "--all", "--wait=true", timeout_seconds=90)


@pytest.fixture
def sidecars(kubeconfig: Path, namespace: Kubectl, tmp_path: Path, operator: OperatorProcess) -> Iterator[CsiSidecars]:
    """They end first, then the operator, as the one needs the other."""
    directory = Path(tempfile.mkdtemp(prefix="fc-", dir="/tmp"))  # short, for the socket
    try:
        with account(kubeconfig, namespace, tmp_path / "own") as own, CsiSidecars(kubeconfig, own, directory) as sidecars:
            yield sidecars
            namespace("delete", "pvc", "--all", "--wait=true", timeout_seconds=90)
            mine = namespace.namespace
            assert wait_until(lambda: not [one for one in _volumes(namespace) if _claim_namespace(one) == mine], 90.0)
    finally:
        shutil.rmtree(directory)


def _volumes(kubectl: Kubectl) -> list[dict[str, Any]]:
    """PVs that csi-provisioner has made."""
    return [one for one in kubectl.items("pv") if "pv.kubernetes.io/provisioned-by" in one["metadata"].get("annotations", {})]


def _claim_namespace(volume: dict[str, Any]) -> str:
    return str(volume["spec"].get("claimRef", {}).get("namespace", ""))


def gone(kubectl: Kubectl, *what: str) -> bool:
    try:
        kubectl.get(*what)
    except KubectlError as error:
        return "NotFound" in str(error)
    return False


def role(kubectl: Kubectl, label: str, node: str) -> str:
    return str(kubectl.get("node", node)["metadata"].get("labels", {}).get(label, ""))


def becomes(kubectl: Kubectl, label: str, node: str, wanted: str) -> bool:
    return wait_until(lambda: role(kubectl, label, node) == wanted, SECONDS, 0.3)


def stays(kubectl: Kubectl, label: str, node: str, wanted: str) -> bool:
    """Through several looks of the operator, each of which a change of some node brings about."""
    for _ in range(4):
        kubectl("label", "node", node, f"test.fusecache.io/look={os.urandom(4).hex()}", "--overwrite")
        time.sleep(1.0)
    kubectl("label", "node", node, "test.fusecache.io/look-")
    return role(kubectl, label, node) == wanted


def patch(kubectl: Kubectl, kind: str, name: str, change: dict[str, Any], *options: str) -> None:
    kubectl("patch", kind, name, "--type=merge", f"--patch={json.dumps(change)}", *options)


def spark() -> list[dict[str, Any]]:
    """The Dataset and the runtime of the first article."""
    found = list(yaml.safe_load_all((ROOT / "tests" / "manifests" / "spark-webufs-alluxio.yaml").read_text()))
    return [{**one, "metadata": {"name": "spark"}} for one in found]


# -- attachments


def test_nodes_are_labelled_as_their_attachments_say(
    nodes: list[str], operator: OperatorProcess, sidecars: CsiSidecars, namespace: Kubectl
) -> None:
    namespace.create(spark())
    label = node_label(namespace.namespace, "spark")
    volume = f"{namespace.namespace}-spark"
    namespace.wait_for(["pvc", "spark"], lambda found: found["status"].get("phase") == "Bound")
    assert wait_until(lambda: any(role(namespace, label, node) for node in nodes), SECONDS)
    (worker,) = [node for node in nodes if role(namespace, label, node) == "worker"]
    first, second = [node for node in nodes if node != worker]
    with attached(namespace, volume, worker) as name:
        namespace.wait_for(["volumeattachment", name], lambda found: found.get("status", {}).get("attached") is True)
        assert stays(namespace, label, worker, "worker")
        patch(namespace, "alluxioruntime", "spark", {"spec": {"replicas": 0}})
        assert becomes(namespace, label, worker, "consumer"), "its pods still read there"
        patch(namespace, "alluxioruntime", "spark", {"spec": {"replicas": 1}})
        assert becomes(namespace, label, worker, "worker")
    assert stays(namespace, label, worker, "worker")
    with attached(namespace, volume, first) as name:
        namespace.wait_for(["volumeattachment", name], lambda found: found.get("status", {}).get("attached") is True)
        assert role(namespace, label, first) == "consumer", "before the node plugin is asked"
        namespace("label", "node", first, f"{label}-")
        assert becomes(namespace, label, first, "consumer")
    assert stays(namespace, label, first, "consumer"), "OnRuntimeDeleted"
    patch(namespace, "alluxioruntime", "spark", {"spec": {"fuse": {"cleanPolicy": "OnDemand"}}})
    assert becomes(namespace, label, first, "")
    with attached(namespace, volume, second) as name:
        assert becomes(namespace, label, second, "consumer")
        assert stays(namespace, label, second, "consumer")
    assert becomes(namespace, label, second, "")
    assert role(namespace, label, worker) == "worker"
    namespace("delete", "dataset", "spark", "--wait=true", timeout_seconds=60)
    assert [role(namespace, label, node) for node in nodes] == ["", "", ""]


def test_attachments_of_a_reference_are_those_of_its_target(
    nodes: list[str], operator: OperatorProcess, sidecars: CsiSidecars, namespace: Kubectl
) -> None:
    namespace.create(spark())
    label = node_label(namespace.namespace, "spark")
    assert wait_until(lambda: any(role(namespace, label, node) for node in nodes), SECONDS)
    patch(namespace, "alluxioruntime", "spark", {"spec": {"fuse": {"cleanPolicy": "OnDemand"}}})
    patch(namespace, "dataset", "spark", {"status": {"phase": "Bound", "conditions": []}}, "--subresource=status")
    mount = {"mountPoint": f"dataset://{namespace.namespace}/spark"}
    reference = {"apiVersion": "data.fluid.io/v1alpha1", "kind": "Dataset", "metadata": {"name": "other"}}
    namespace.create([{**reference, "spec": {"mounts": [mount]}}])
    namespace.wait_for(["pvc", "other"], lambda found: found["status"].get("phase") == "Bound")
    free = next(node for node in nodes if not role(namespace, label, node))
    with attached(namespace, f"{namespace.namespace}-other", free) as name:
        namespace.wait_for(["volumeattachment", name], lambda found: found.get("status", {}).get("attached") is True)
        assert stays(namespace, label, free, "consumer")
        assert role(namespace, node_label(namespace.namespace, "other"), free) == ""
    assert becomes(namespace, label, free, "")
    namespace("delete", "dataset", "other", "--wait=true", timeout_seconds=60)


def test_what_is_not_there(nodes: list[str], sidecars: CsiSidecars, namespace: Kubectl) -> None:
    namespace.create(spark())
    namespace.wait_for(["pvc", "spark"], lambda found: found["status"].get("phase") == "Bound")
    capability = csi_pb2.VolumeCapability(
        mount=csi_pb2.VolumeCapability.MountVolume(),
        access_mode=csi_pb2.VolumeCapability.AccessMode(mode=Mode.MULTI_NODE_READER_ONLY),
    )

    def publish(volume: str, node: str) -> grpc.StatusCode:
        request = csi_pb2.ControllerPublishVolumeRequest(volume_id=volume, node_id=node, volume_capability=capability)
        try:
            sidecars.stub.ControllerPublishVolume(request, timeout=20)
        except grpc.RpcError as error:
            return error.code()
        return grpc.StatusCode.OK

    volume = f"{namespace.namespace}-spark"
    assert publish(volume, "nowhere") is grpc.StatusCode.NOT_FOUND
    assert publish("nothing", nodes[0]) is grpc.StatusCode.NOT_FOUND
    assert [publish(volume, nodes[0]) for _ in range(2)] == [grpc.StatusCode.OK] * 2
    for one, node in (("nothing", nodes[0]), (volume, "nowhere"), (volume, nodes[0])):
        sidecars.stub.ControllerUnpublishVolume(csi_pb2.ControllerUnpublishVolumeRequest(volume_id=one, node_id=node), timeout=20)
    sidecars.stub.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id="nothing"), timeout=20)
    with pytest.raises(grpc.RpcError) as failed:
        sidecars.stub.DeleteVolume(csi_pb2.DeleteVolumeRequest(volume_id=volume), timeout=20)
    assert failed.value.code() is grpc.StatusCode.FAILED_PRECONDITION, "it was made for no claim"


class Interfering(Objects):
    """Somebody makes a worker of the node just before it is labelled."""

    async def merge(
        self, kind: Kind, name: str, patch: Mapping[str, Any], namespace: str | None = None, *, is_status: bool = False
    ) -> bool:
        labels = dict.fromkeys(patch["metadata"]["labels"], "worker")
        await super().merge(kind, name, {"metadata": {"labels": labels}})
        return await super().merge(kind, name, patch, namespace, is_status=is_status)


def test_a_worker_that_is_just_made_stays_one(kubeconfig: Path, namespace: Kubectl) -> None:
    handle = f"hand-made/{namespace.namespace}"
    csi = {
        "driver": DRIVER_NAME,
        "volumeHandle": handle,
        "volumeAttributes": {"fusecache.io/namespace": namespace.namespace, "fusecache.io/dataset": "data"},
    }
    name = f"{namespace.namespace}-hand-made"
    spec = {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadOnlyMany"], "csi": csi}
    namespace.create([{"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name}, "spec": spec}])
    node = namespace.items("nodes")[0]["metadata"]["name"]
    label = node_label(namespace.namespace, "data")

    async def publish() -> None:
        client = AsyncClient(config=KubeConfig.from_file(str(kubeconfig)))
        try:
            await ClusterVolumes(Interfering(client), Provisioning()).publish(handle, node)
        finally:
            await client.aclose()

    try:
        asyncio.run(publish())
        assert role(namespace, label, node) == "worker"
    finally:
        namespace("label", "node", node, f"{label}-")
        namespace("delete", "pv", name)


# -- claims


class Store:
    """The bucket of a StorageClass, as its directories are listed."""

    def __init__(self, seaweed: Seaweed, bucket: S3Bucket) -> None:
        self.bucket = bucket
        self.parameters = {
            "source": f"s3://{bucket.bucket}/claims/",
            "endpoint_url": seaweed.endpoint_url,
            "region": "us-east-1",
            "tiers": "mem:16Mi,ssd:128Mi:0.9:0.5",
            "ttl": "30s",
            "uid": "1000",
        }
        self._environment = seaweed.client_environment()

    def names(self, directory: str = "") -> list[str]:
        options = {"endpoint_url": self.parameters["endpoint_url"], "region": "us-east-1"}
        source = open_source(self.parameters["source"], options, self._environment)
        try:
            found = (entry.name.decode() for entry in source.list_page(directory.encode(), None).entries)
            return sorted(name for name in found if name != MARKERS)
        except CacheError:
            return []
        finally:
            source.close()

    def markers(self) -> list[str]:
        return self.names(MARKERS)


@pytest.fixture
def store(seaweed: Seaweed, bucket: S3Bucket) -> Store:
    return Store(seaweed, bucket)


@pytest.fixture
def storage_class(namespace: Kubectl, store: Store) -> Iterator[dict[str, Any]]:
    """A StorageClass that is not there yet; its Secret is."""
    name = f"claims-{os.urandom(4).hex()}"
    namespace.create(
        [
            {
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": {"name": "store"},
                "stringData": {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key},
            }
        ]
    )
    secret = {
        "csi.storage.k8s.io/provisioner-secret-name": "store",
        "csi.storage.k8s.io/provisioner-secret-namespace": namespace.namespace,
    }
    yield {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": DRIVER_NAME,
        "parameters": {**store.parameters, **secret},
    }
    namespace("delete", "storageclass", name, "--ignore-not-found")


def claim(storage_class: dict[str, Any], name: str = "mine", mode: str = "ReadWriteMany") -> dict[str, Any]:
    resources = {"requests": {"storage": "5Gi"}}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": [mode], "storageClassName": storage_class["metadata"]["name"], "resources": resources},
    }


def bound(kubectl: Kubectl, name: str = "mine") -> str:
    found = kubectl.wait_for(["pvc", name], lambda found: found["status"].get("phase") == "Bound", 90.0)
    return str(found["spec"]["volumeName"])


def test_a_claim_becomes_a_dataset_and_a_directory(
    nodes: list[str],
    operator: OperatorProcess,
    sidecars: CsiSidecars,
    namespace: Kubectl,
    store: Store,
    storage_class: dict[str, Any],
) -> None:
    namespace.create([storage_class, claim(storage_class)])
    volume = bound(namespace)
    found = namespace.get("pv", volume)
    csi = found["spec"]["csi"]
    assert csi["volumeHandle"] == volume == found["metadata"]["name"]
    assert csi["volumeAttributes"]["fusecache.io/namespace"] == namespace.namespace
    assert csi["volumeAttributes"]["fusecache.io/dataset"] == volume
    (directory,) = store.markers()
    assert directory.startswith(f"{namespace.namespace}-mine-pvc-")
    assert directory in store.names()
    daemons = namespace.wait_for(["daemonset", f"{volume}-fuse"], lambda _: True)
    assert daemons["metadata"]["ownerReferences"][0]["name"] == volume
    config = json.loads(namespace.get("configmap", f"{volume}-fuse")["data"]["dataset.json"])
    assert config["read_write"] is True
    assert config["sources"][0]["url"] == f"{store.parameters['source']}{directory}"
    assert set(config["sources"][0]["secret_options"]) == {"access_key", "secret_key"}
    assert [(tier["medium"], tier["quota_bytes"], tier["high"], tier["low"]) for tier in config["tiers"]] == [
        ("MEM", 16 << 20, 0.95, 0.7), ("SSD", 128 << 20, 0.9, 0.5),
    ]  # fmt: skip
    assert {key: config["settings"][key] for key in ("ttl", "uid", "gid")} == {"ttl": "30", "uid": "1000", "gid": "0"}
    assert [one["metadata"]["name"] for one in namespace.items("pvc")] == ["mine"], "the operator makes no other"
    assert gone(namespace, "pv", f"{namespace.namespace}-{volume}")
    assert ADMIN.secret_key not in namespace("get", "datasets,thinruntimes,configmaps,pv,events,daemonsets", "--output=json")
    assert ADMIN.secret_key not in operator.log() + sidecars.log("controller")
    label = node_label(namespace.namespace, volume)
    free = next(node for node in nodes if role(namespace, label, node) != "worker")
    with attached(namespace, volume, free) as name:
        namespace.wait_for(["volumeattachment", name], lambda found: found.get("status", {}).get("attached") is True)
        assert becomes(namespace, label, free, "consumer")
    assert becomes(namespace, label, free, ""), "OnDemand"
    store.bucket.put(f"claims/{directory}/a/file".encode(), b"data")
    namespace("delete", "pvc", "mine", "--wait=true")
    assert wait_until(lambda: gone(namespace, "pv", volume), 90.0)
    assert (store.markers(), store.names()) == ([], [])
    for what in ("dataset", "thinruntime"):
        assert gone(namespace, what, volume)
    assert wait_until(
        lambda: gone(namespace, "secret", f"{volume}-source") and gone(namespace, "daemonset", f"{volume}-fuse"), 60
    )


def test_a_namespace_goes_with_its_claims(
    kubeconfig: Path, sidecars: CsiSidecars, namespace: Kubectl, store: Store, storage_class: dict[str, Any]
) -> None:
    """Namespaces delete Datasets, Secrets and claims in any order."""
    name = f"{namespace.namespace}-short"
    short = Kubectl(kubeconfig, namespace=name)
    namespace("create", "namespace", name)
    namespace.create([storage_class])
    short.create([claim(storage_class, mode="ReadWriteOnce")])
    volume = bound(short)
    assert short.get("dataset", volume)["spec"]["accessModes"] == ["ReadWriteOnce"]
    assert len(store.markers()) == 1
    namespace("delete", "namespace", name, "--wait=true", timeout_seconds=120)
    assert wait_until(lambda: gone(namespace, "pv", volume), 90.0)
    assert (store.markers(), store.names()) == ([], [])


def test_a_name_that_holds_data_is_refused_until_it_is_free(
    sidecars: CsiSidecars, namespace: Kubectl, store: Store, storage_class: dict[str, Any]
) -> None:
    namespace.create([claim(storage_class)])
    uid = namespace.get("pvc", "mine")["metadata"]["uid"]
    directory = f"{namespace.namespace}-mine-pvc-{uid}"
    store.bucket.put(f"claims/{directory}/precious".encode(), b"data")
    namespace.create([storage_class])

    def said() -> str:
        return " ".join(one["message"] for one in namespace.items("events", "--field-selector=involvedObject.name=mine"))

    assert wait_until(lambda: "holds data and belongs to no volume" in said(), SECONDS, 0.5), said()
    assert namespace.items("datasets") == []
    assert namespace.get("pvc", "mine")["status"]["phase"] == "Pending"
    assert store.names(directory) == ["precious"]
    store.bucket.delete(f"claims/{directory}/precious".encode())
    bound(namespace)


def test_a_directory_of_somebody_else_stays(
    sidecars: CsiSidecars, namespace: Kubectl, store: Store, storage_class: dict[str, Any]
) -> None:
    namespace.create([storage_class, claim(storage_class)])
    volume = bound(namespace)
    (directory,) = store.markers()
    marker = f"claims/{MARKERS}/{directory}".encode()
    store.bucket.put(marker, json.dumps({"volume": "pvc-other"}).encode())
    store.bucket.put(f"claims/{directory}/precious".encode(), b"data")
    namespace("delete", "pvc", "mine", "--wait=true")
    assert wait_until(lambda: "belongs to volume 'pvc-other', and stays" in sidecars.log("controller"), SECONDS)
    assert not gone(namespace, "pv", volume)
    assert store.names(directory) == ["precious"]
    store.bucket.put(marker, json.dumps({"volume": volume}).encode())
    assert wait_until(lambda: gone(namespace, "pv", volume), 90.0)
    assert store.names() == []


def test_a_controller_that_was_away_finishes(
    sidecars: CsiSidecars, namespace: Kubectl, store: Store, storage_class: dict[str, Any]
) -> None:
    namespace.create([storage_class])
    sidecars.stop("csi-provisioner")
    sidecars.stop("csi-attacher")
    sidecars.stop("controller")
    namespace.create([claim(storage_class)])
    for name in ("controller", "csi-attacher", "csi-provisioner"):
        sidecars.start(name)
    volume = bound(namespace)
    # It died after the Dataset was gone, and before the directory was.
    sidecars.stop("csi-provisioner")
    namespace("delete", "dataset", volume, "--wait=true", timeout_seconds=60)
    namespace("delete", "pvc", "mine", "--wait=true")
    sidecars.start("csi-provisioner")
    assert wait_until(lambda: gone(namespace, "pv", volume), 90.0)
    assert (store.markers(), store.names()) == ([], [])


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"endpoint": "http://x", "sharding": "3"}, "sharding"),
        ({"source": "pvc://claim/x"}, "no store that the controller reaches"),
        ({"ttl": "soon"}, "ttl"),
        ({"secret_key": "shown"}, "secret"),
    ],
)
def test_what_is_wrong_with_a_class_is_said_to_the_claim(
    sidecars: CsiSidecars, namespace: Kubectl, store: Store, storage_class: dict[str, Any], more: dict[str, str], words: str
) -> None:
    storage_class["parameters"] |= more
    namespace.create([storage_class, claim(storage_class)])

    def said() -> list[str]:
        events = namespace.items("events", "--field-selector=involvedObject.name=mine")
        return [one["message"] for one in events if one["reason"] == "ProvisioningFailed"]

    assert wait_until(lambda: any(words in message for message in said()), SECONDS, 0.5), said()
    assert namespace.items("datasets") == []
    assert store.names() == []
