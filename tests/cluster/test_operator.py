"""The operator against a real API server: what it makes of Datasets and runtimes, what it says about bad ones, how they go."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from csi.operator.names import DIGEST_ANNOTATION
from csi.operator.render.object_names import node_label
from tests.support.definitions import apply_definitions
from tests.support.kubectl import Kubectl, KubectlError
from tests.support.mounted import ROOT, wait_until
from tests.support.operator_process import OperatorProcess

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(300)]

IMAGE = "localhost/fusecache-fuse:none"  # the cache pods of these tests need not run


@pytest.fixture(scope="module")
def definitions(kubeconfig: Path) -> None:
    apply_definitions(Kubectl(kubeconfig))


@pytest.fixture
def operator(definitions: None, kubeconfig: Path, namespace: Kubectl, tmp_path: Path) -> Iterator[OperatorProcess]:
    with OperatorProcess(kubeconfig, namespace.namespace, tmp_path / "operator.log", image=IMAGE) as operator:
        yield operator
        for kind in ("datasets", "alluxioruntimes", "jindoruntimes", "thinruntimes"):
            namespace("delete", kind, "--all", "--wait=true", timeout_seconds=60)


def web(name: str = "spark", **spec: Any) -> list[dict[str, Any]]:
    """The Dataset and the runtime of the first article."""
    found = list(yaml.safe_load_all((ROOT / "tests" / "manifests" / "spark-webufs-alluxio.yaml").read_text()))
    for one in found:
        one["metadata"] = {"name": name}
        if one["kind"] == "Dataset":
            one["spec"] |= spec
    return found


def condition(dataset: dict[str, Any], name: str = "Ready") -> dict[str, Any]:
    return next((one for one in dataset.get("status", {}).get("conditions", ()) if one["type"] == name), {})


def reasons(kubectl: Kubectl, name: str) -> dict[str, str]:
    return {one["reason"]: one["message"] for one in kubectl.items("events", f"--field-selector=involvedObject.name={name}")}


def test_what_a_dataset_and_its_runtime_become(operator: OperatorProcess, namespace: Kubectl) -> None:
    namespace.create(web())
    claim = namespace.wait_for(["pvc", "spark"], lambda found: found["status"].get("phase") == "Bound", 20.0)
    volume = namespace.get("pv", claim["spec"]["volumeName"])
    assert volume["metadata"]["name"] == f"{namespace.namespace}-spark"
    assert volume["spec"]["csi"]["driver"] == "csi.fusecache.io"
    assert claim["spec"]["accessModes"] == ["ReadOnlyMany"]
    label = node_label(namespace.namespace, "spark")
    assert wait_until(lambda: len(namespace.items("nodes", f"--selector={label}=worker")) == 1, 20.0)
    pods = namespace.get("daemonset", "spark-fuse")["spec"]["template"]["spec"]
    assert pods["automountServiceAccountToken"] is False
    assert not [one for one in pods["volumes"] if "hostPath" in one]
    config = json.loads(namespace.get("configmap", "spark-fuse")["data"]["dataset.json"])
    assert config["sources"][0]["url"].startswith("https://")
    assert namespace.get("secret", "spark-fuse-token")["data"]["token"]
    dataset = namespace.wait_for(["dataset", "spark"], lambda found: bool(condition(found)))
    assert (dataset["status"]["phase"], condition(dataset)["status"]) == ("NotBound", "False"), "nobody has asked the store"
    assert condition(dataset)["reason"] == "WaitingForCache"
    runtime = namespace.wait_for(["alluxioruntime", "spark"], lambda found: bool(found.get("status", {}).get("masterPhase")))
    assert (runtime["status"]["masterPhase"], runtime["status"]["workerPhase"]) == ("NotReady", "NotReady")
    assert runtime["metadata"]["ownerReferences"][0]["kind"] == "Dataset"
    printed = namespace("get", "dataset", "spark").splitlines()
    assert printed[0].split("   ")[0] == "NAME"
    assert printed[1].split()[:5] == ["spark", "[Calculating]", "0.00B", "4.00GiB", "NotBound"]
    namespace("delete", "dataset", "spark", "--wait=true", timeout_seconds=60)
    assert wait_until(lambda: gone(namespace, "alluxioruntime", "spark") and gone(namespace, "daemonset", "spark-fuse"), 60.0)
    assert gone(namespace, "pv", volume["metadata"]["name"])
    assert namespace.items("nodes", f"--selector={label}") == []


def gone(kubectl: Kubectl, *what: str) -> bool:
    try:
        kubectl.get(*what)
    except KubectlError:
        return True
    return False


@pytest.mark.parametrize(
    ("mounts", "reason", "words"),
    [
        ([{"mountPoint": "ftp9://somewhere/x", "name": "a"}], "ErrorValidateSpecFields", "mounts[0]"),
        ([{"mountPoint": "dataset://nowhere/none"}], "ErrorCreateDataset", "no dataset nowhere/none"),
        ([{"mountPoint": "s3://b/x", "name": "a"}, {"mountPoint": "s3://b/y", "path": "/a"}], "ErrorValidateSpecFields", "both"),
    ],
)
def test_what_cannot_be_is_said(
    operator: OperatorProcess, namespace: Kubectl, mounts: list[dict[str, str]], reason: str, words: str
) -> None:
    objects = web(mounts=mounts)
    if mounts[0]["mountPoint"].startswith("dataset://"):
        objects = objects[:1]
    namespace.create(objects)
    assert wait_until(lambda: words in reasons(namespace, "spark").get(reason, ""), 30.0), reasons(namespace, "spark")
    dataset = namespace.wait_for(["dataset", "spark"], lambda found: bool(condition(found)))
    assert dataset["status"]["phase"] == "NotBound"
    assert words in condition(dataset)["message"]


def test_definitions_of_somebody_else_end_it(definitions: None, namespace: Kubectl, kubeconfig: Path, tmp_path: Path) -> None:
    """Plain manifests were applied to a cluster with Fluid, and its finalizers were taken off its objects."""
    what, label = ("label", "crd", "datasets.data.fluid.io"), "fusecache.io/definition"
    namespace(*what, f"{label}-")
    try:
        operator = OperatorProcess(kubeconfig, namespace.namespace, tmp_path / "operator.log", image=IMAGE)
        with pytest.raises(AssertionError):
            operator.start()
        assert operator.process is not None
        assert operator.process.wait(20) == 1
        assert "datasets.data.fluid.io of this cluster is not fusecache's" in operator.log().splitlines()[-1]
    finally:
        namespace(*what, f"{label}=true")


def test_definitions_of_another_version_are_named(
    definitions: None, namespace: Kubectl, kubeconfig: Path, tmp_path: Path
) -> None:
    what = ("annotate", "crd", "dataloads.data.fluid.io", "--overwrite")
    before = namespace.get("crd", "dataloads.data.fluid.io")["metadata"]["annotations"][DIGEST_ANNOTATION]
    namespace(*what, f"{DIGEST_ANNOTATION}=older")
    try:
        with OperatorProcess(kubeconfig, namespace.namespace, tmp_path / "operator.log", image=IMAGE) as operator:
            said = "the definitions of dataloads in this cluster are not those of this version"
            assert wait_until(lambda: said in operator.log(), 20.0), operator.log()
    finally:
        namespace(*what, f"{DIGEST_ANNOTATION}={before}")


def test_a_claim_of_that_name_stays_its_owners(operator: OperatorProcess, namespace: Kubectl) -> None:
    """Deleting the Dataset, which was never bound, deleted it, and with it what somebody had written."""
    spec = {"accessModes": ["ReadWriteOnce"], "storageClassName": "none", "resources": {"requests": {"storage": "1Gi"}}}
    namespace.create([{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "spark"}, "spec": spec}])
    namespace.create(web())
    dataset = namespace.wait_for(["dataset", "spark"], lambda found: condition(found).get("reason") == "VolumeNameTaken", 30.0)
    assert dataset["status"]["phase"] == "NotBound"
    namespace("delete", "dataset", "spark", "--wait=true", timeout_seconds=60)
    assert namespace.get("pvc", "spark")["spec"]["storageClassName"] == "none"
    assert "deletionTimestamp" not in namespace.get("pvc", "spark")["metadata"]


def test_what_a_volume_cannot_become_is_said_and_the_rest_is_done(operator: OperatorProcess, namespace: Kubectl) -> None:
    """The API server refused the volume, and with it every later change of the Dataset."""
    objects = web()
    namespace.create(objects)
    claim = namespace.wait_for(["pvc", "spark"], lambda found: found["status"].get("phase") == "Bound", 20.0)
    (mount,) = objects[0]["spec"]["mounts"]
    patch = {
        "metadata": {"annotations": {"pvc.fluid.io/resources.requests.storage": "1Ti"}},
        "spec": {"accessModes": ["ReadWriteMany"], "mounts": [{**mount, "mountPoint": "https://mirrors.bit.edu.cn/moved/"}]},
    }
    namespace("patch", "dataset", "spark", "--type=merge", f"--patch={json.dumps(patch)}")
    namespace.wait_for(["configmap", "spark-fuse"], lambda found: "/moved/" in found["data"]["dataset.json"], 20.0)
    assert wait_until(lambda: "VolumeKept" in reasons(namespace, "spark"), 10.0)
    message = reasons(namespace, "spark")["VolumeKept"]
    assert "accessModes of the PersistentVolumeClaim stays ReadOnlyMany instead of ReadWriteMany" in message
    assert "stays 100Gi instead of 1Ti" in message
    assert "ApplyRefused" not in reasons(namespace, "spark")
    again = namespace.get("pvc", "spark")
    assert (again["metadata"]["uid"], again["spec"]) == (claim["metadata"]["uid"], claim["spec"])


def test_a_claim_that_was_deleted_alone_comes_back(operator: OperatorProcess, namespace: Kubectl) -> None:
    namespace.create(web())
    first = namespace.wait_for(["pvc", "spark"], lambda found: found["status"].get("phase") == "Bound", 20.0)
    namespace("delete", "pvc", "spark", "--wait=true", timeout_seconds=60)
    again = namespace.wait_for(["pvc", "spark"], lambda found: found["status"].get("phase") == "Bound", 30.0)
    assert again["metadata"]["uid"] != first["metadata"]["uid"]


def test_a_finalizer_of_a_controller_that_is_gone_holds_nothing(operator: OperatorProcess, namespace: Kubectl) -> None:
    objects = web()
    objects[0]["metadata"]["finalizers"] = ["fluid-dataset-controller-finalizer"]
    objects[1]["metadata"]["finalizers"] = ["alluxio-runtime-controller-finalizer"]
    namespace.create(objects)
    namespace.wait_for(["pvc", "spark"], lambda found: found["status"].get("phase") == "Bound", 20.0)
    namespace("delete", "dataset", "spark", "--wait=true", timeout_seconds=60)
    assert wait_until(lambda: gone(namespace, "alluxioruntime", "spark"), 30.0)
    objects[1]["metadata"]["name"] = "alone"
    namespace.create(objects[1:])
    namespace("delete", "alluxioruntime", "alone", "--wait=true", timeout_seconds=30)


def test_a_dataset_that_is_made_anew_has_a_token_again(operator: OperatorProcess, namespace: Kubectl) -> None:
    """Values of Secrets are kept for some seconds: the new Dataset had the token of the old one, whose Secret was gone."""
    for _ in range(2):
        namespace.create(web())
        namespace.wait_for(["secret", "spark-fuse-token"], lambda found: set(found["data"]) == {"token", "own"}, 20.0)
        owner = namespace.get("secret", "spark-fuse-token")["metadata"]["ownerReferences"][0]["uid"]
        assert owner == namespace.get("dataset", "spark")["metadata"]["uid"]
        namespace("delete", "dataset", "spark", "--wait=true", timeout_seconds=60)
        assert wait_until(lambda: gone(namespace, "secret", "spark-fuse-token"), 30.0)


def test_a_missing_secret_is_named_and_heals(operator: OperatorProcess, namespace: Kubectl) -> None:
    secret = {"name": "access_key", "valueFrom": {"secretKeyRef": {"name": "mysecret", "key": "id"}}}
    options = [
        {"name": f"fs.oss.{name}", "valueFrom": {"secretKeyRef": {"name": "mysecret", "key": f"fs.oss.{name}"}}}
        for name in ("accessKeyId", "accessKeySecret")
    ]
    assert secret
    mounts = [
        {"mountPoint": "oss://bucket/", "name": "m", "options": {"fs.oss.endpoint": "oss.example.com"}, "encryptOptions": options}
    ]
    namespace.create(web(mounts=mounts))
    dataset = namespace.wait_for(["dataset", "spark"], lambda found: condition(found).get("reason") == "SecretNotFound")
    assert "mysecret" in condition(dataset)["message"]
    secret_values = {"fs.oss.accessKeyId": "canary-id", "fs.oss.accessKeySecret": "canary-secret"}
    namespace.create([{"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "mysecret"}, "stringData": secret_values}])
    namespace.wait_for(["pvc", "spark"], lambda found: found["status"].get("phase") == "Bound", 40.0)
    everything = namespace("get", "dataset,jindoruntime,alluxioruntime,configmap,daemonset,pv,event", "--output=json")
    assert "canary" not in everything + operator.log()


def test_the_operator_is_killed_and_another_one_goes_on(
    operator: OperatorProcess, namespace: Kubectl, kubeconfig: Path, tmp_path: Path
) -> None:
    namespace.create(web("one"))
    namespace.wait_for(["pvc", "one"], lambda found: found["status"].get("phase") == "Bound")
    assert operator.process is not None
    operator.process.kill()
    operator.process.wait(10)
    namespace.create(web("two"))
    operator.start()
    namespace.wait_for(["pvc", "two"], lambda found: found["status"].get("phase") == "Bound")
    second = OperatorProcess(kubeconfig, namespace.namespace, tmp_path / "second.log", image=IMAGE)
    waiting = subprocess.Popen(second._command, env=second._environment, stderr=subprocess.DEVNULL)
    try:
        assert operator.stop() == 0
        assert wait_until(lambda: namespace.get("lease", "fusecache-operator")["spec"]["holderIdentity"] != "", 20.0)
    finally:
        waiting.terminate()
        waiting.wait(20)
    operator.start()
