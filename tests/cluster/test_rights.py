"""Operator and sidecars do their work with the tokens of the chart's accounts: what they are not allowed they would stop at.

They run on the test's machine, so that this needs no image; the rights are those that pods of the chart have.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from csi import DRIVER_NAME
from csi.operator.render.object_names import node_label
from tests.cluster_harness import builds
from tests.cluster_harness.cluster import Cluster
from tests.support.controller_surroundings import attached, driver_on_nodes
from tests.support.csi_driver import CsiDriver
from tests.support.definitions import remove_definitions
from tests.support.helm import Release
from tests.support.kubectl import Kubectl, KubectlError
from tests.support.mounted import wait_until
from tests.support.operator_process import OperatorProcess
from tests.support.service_account import write_kubeconfig

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

FUSE_IMAGE = "localhost/fusecache-fuse:none"
SECONDS = 60.0
REFUSALS = ("forbidden", "Forbidden", "cannot list resource", " 403")


@pytest.fixture(scope="module")
def release(cluster: Cluster, module_namespace: Kubectl) -> Iterator[Release]:
    remove_definitions(cluster.kubectl)
    images = {"csi": "localhost/fusecache-csi:none", "fuse": FUSE_IMAGE}
    release = Release(cluster.kubeconfig, module_namespace.namespace, images=images)
    try:
        release.install()
        yield release
    finally:
        release.uninstall()
        remove_definitions(cluster.kubectl)


def account(release: Release, kubectl: Kubectl, name: str, path: Path) -> Path:
    return write_kubeconfig(path, kubectl, release.namespace, name)


def refusals(log: str) -> list[str]:
    return [line for line in log.splitlines() if any(word in line for word in REFUSALS)]


def test_the_operator_may_do_what_it_does(release: Release, namespace: Kubectl, tmp_path: Path) -> None:
    kubeconfig = account(release, namespace, "fusecache-operator", tmp_path / "kubeconfig")
    names = ("accessKeyId", "accessKeySecret")
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": dict.fromkeys(names, "x")}
    keys = [{"name": f"fs.oss.{name}", "valueFrom": {"secretKeyRef": {"name": "keys", "key": name}}} for name in names]
    mount = {"mountPoint": "oss://bucket/demo", "name": "demo", "options": {"fs.oss.endpoint": "oss.example.com"}}
    kind = {"apiVersion": "data.fluid.io/v1alpha1", "metadata": {"name": "demo"}}
    dataset = {**kind, "kind": "Dataset", "spec": {"mounts": [{**mount, "encryptOptions": keys}]}}
    levels = [{"mediumtype": "MEM", "quota": "64Mi"}]
    runtime = {**kind, "kind": "AlluxioRuntime", "spec": {"replicas": 1, "tieredstore": {"levels": levels}}}
    label = node_label(namespace.namespace, "demo")
    with OperatorProcess(kubeconfig, release.namespace, tmp_path / "operator.log", image=FUSE_IMAGE) as operator:
        namespace.create([secret, dataset, runtime])
        try:
            namespace.wait_for(["pvc", "demo"], lambda found: found["status"].get("phase") == "Bound", SECONDS)
            namespace.wait_for(["daemonset", "demo-fuse"], lambda found: True)
            assert wait_until(lambda: len(namespace.items("nodes", f"--selector={label}=worker")) == 1, SECONDS)
            namespace.wait_for(["dataset", "demo"], lambda found: bool(found.get("status", {}).get("phase")))
            namespace.create([{**kind, "kind": "DataLoad", "spec": {"dataset": {"name": "demo"}}}])
            namespace.wait_for(["dataload", "demo"], lambda found: bool(found.get("status", {}).get("phase")), SECONDS)
            namespace("delete", "dataload", "demo", "--wait=true", timeout_seconds=90)
            namespace("delete", "alluxioruntime", "demo", "--wait=true", timeout_seconds=90)
            assert wait_until(lambda: not namespace.items("daemonsets"), SECONDS), "what was made goes with the runtime"
        finally:  # nobody else takes finalizers off
            namespace("delete", "dataloads,datasets", "--all", "--wait=true", timeout_seconds=90)
        assert wait_until(lambda: not namespace.items("daemonsets") and not namespace.items("pvc"), SECONDS)
        assert wait_until(lambda: namespace.items("nodes", f"--selector={label}") == [], SECONDS)
        assert refusals(operator.log()) == []


@contextmanager
def sidecar(name: str, kubeconfig: Path, driver: CsiDriver, release: Release, directory: Path) -> Iterator[Path]:
    """Run a sidecar with the flags of the chart; yield its log."""
    flags = [f"--leader-election-namespace={release.namespace}", "--leader-election", "--retry-interval-max=5s"]
    flags += ["--extra-create-metadata"] if name == "csi-provisioner" else []
    address = driver.endpoint.removeprefix("unix://")
    log = directory / f"{name}.log"
    command = [str(builds.program(name)), f"--csi-address={address}", f"--kubeconfig={kubeconfig}", "-v=2", *flags]
    with log.open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, stdin=subprocess.DEVNULL)
    try:
        yield log
    finally:
        process.kill()
        process.wait(10)


@pytest.mark.parametrize("binding", ["Immediate", "WaitForFirstConsumer"])
def test_the_sidecars_may_do_what_they_do(
    release: Release, namespace: Kubectl, cluster: Cluster, tmp_path: Path, disk_path: Path, binding: str
) -> None:
    """A claim is provisioned, attached, detached, and deleted with its volume."""
    kubeconfig = account(release, namespace, "fusecache-controller", tmp_path / "kubeconfig")
    anywhere, node = replace(cluster.kubectl, namespace=""), cluster.nodes[0].name
    store = disk_path / "store"
    store.mkdir()
    name = f"rights-{namespace.namespace}"
    storage_class = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": DRIVER_NAME,
        "volumeBindingMode": binding,
        "parameters": {"source": f"file://{store}"},
    }
    claim = {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        # The scheduler would write this once it has a pod for the node.
        "metadata": {"name": "demo", "annotations": {"volume.kubernetes.io/selected-node": node}},
        "spec": {"storageClassName": name, "accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
    }
    with ExitStack() as stack:
        stack.enter_context(driver_on_nodes(cluster.kubeconfig))
        driver = CsiDriver(disk_path / "d", {}, mode=("controller", "--node", node)).start()
        stack.callback(driver.stop)
        logs = [
            stack.enter_context(sidecar(one, kubeconfig, driver, release, tmp_path))
            for one in ("csi-attacher", "csi-provisioner")
        ]
        anywhere.create([storage_class])
        stack.callback(anywhere, "delete", "storageclass", name)
        namespace.create([claim])
        bound = namespace.wait_for(["pvc", "demo"], lambda found: found["status"].get("phase") == "Bound", SECONDS)
        volume = bound["spec"]["volumeName"]
        with attached(anywhere, volume, node) as attachment:
            what = ["volumeattachment", attachment]
            anywhere.wait_for(what, lambda found: bool(found.get("status", {}).get("attached")), SECONDS)
        namespace("delete", "pvc", "demo", "--wait=true", timeout_seconds=SECONDS)
        assert wait_until(lambda: _is_gone(anywhere, "pv", volume), SECONDS)
        for log in logs:
            text = log.read_text(errors="replace")
            assert "became leader" in text or "successfully acquired lease" in text
            assert refusals(text) == []
        reasons = {one["reason"] for one in namespace.items("events", "--field-selector=involvedObject.name=demo")}
        assert "ProvisioningSucceeded" in reasons, "events may be written, too"


def test_a_right_that_is_missing_is_noticed(release: Release, namespace: Kubectl, tmp_path: Path) -> None:
    """What the tests above go by: with the account of the other part nothing works, and the log says why."""
    kubeconfig = account(release, namespace, "fusecache-controller", tmp_path / "kubeconfig")
    with pytest.raises(KubectlError, match="forbidden"):
        Kubectl(kubeconfig, namespace.namespace)("get", "daemonsets")
    with pytest.raises(KubectlError, match="forbidden"):
        Kubectl(kubeconfig, namespace.namespace)("get", "secrets")


def _is_gone(kubectl: Kubectl, *what: str) -> bool:
    try:
        kubectl.get(*what)
    except KubectlError as error:
        return "NotFound" in str(error)
    return False
