"""The chart on a real API server: installed, upgraded, rolled back, removed; definitions of others are left alone.

No image of it is there: what its pods do is tested elsewhere.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster_harness.cluster import Cluster
from tests.support import kubeconform
from tests.support.definitions import FOREIGN, apply_definitions, definitions, remove_definitions, wait_established
from tests.support.helm import CHART, Helm, HelmError, Release, read_objects, render
from tests.support.kubectl import Kubectl
from tests.support.mounted import ROOT

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

NONE = {"csi": "localhost/fusecache-csi:none", "fuse": "localhost/fusecache-fuse:none"}
KUBERNETES = ("1.34.0", "1.37.0")  # the harness's own, and the newest that there are schemas of
DEFINITIONS = len(list((ROOT / "deploy" / "crds").glob("*.yaml")))


@pytest.fixture
def kubectl(cluster: Cluster) -> Iterator[Kubectl]:
    """A cluster without definitions, before and after: only the harness's own can be one."""
    remove_definitions(cluster.kubectl)
    yield cluster.kubectl
    remove_definitions(cluster.kubectl)


@pytest.fixture
def release(kubectl: Kubectl, namespace: Kubectl) -> Iterator[Release]:
    release = Release(kubectl.kubeconfig, namespace.namespace, images=NONE)
    yield release
    release.uninstall()


def of_release(kubectl: Kubectl, release: Release) -> list[str]:
    """Return everything that it has made beside definitions, as KIND/NAME."""
    kinds = "deployments,daemonsets,serviceaccounts,roles,rolebindings,networkpolicies,poddisruptionbudgets"
    of_cluster = "clusterroles,clusterrolebindings,csidrivers,priorityclasses"
    selector = f"--selector=app.kubernetes.io/part-of=fusecache,app.kubernetes.io/instance={release.name}"
    found = kubectl.items(f"{kinds},{of_cluster}", selector, f"--namespace={release.namespace}")
    return sorted(f"{each['kind']}/{each['metadata']['name']}" for each in found)


def test_from_the_first_installation_to_the_last_removal(kubectl: Kubectl, release: Release) -> None:
    notes = release.install()
    assert "kubectl get dataset demo" in notes
    everything = {(each["kind"], each["metadata"]["name"]) for each in render() if each["kind"] != "CustomResourceDefinition"}
    assert of_release(kubectl, release) == sorted(f"{kind}/{name}" for kind, name in everything)
    assert len(definitions(kubectl)) == DEFINITIONS
    wait_established(kubectl)

    kubectl.create([dataset := {**example(notes)[0], "metadata": {"name": "kept", "namespace": release.namespace}}])
    release.upgrade(controller={"provisioner": {"enabled": False}})
    assert "ClusterRole/fusecache-provisioner" not in of_release(kubectl, release)
    release.rollback(1)
    assert of_release(kubectl, release) == sorted(f"{kind}/{name}" for kind, name in everything)

    release.uninstall()
    assert of_release(kubectl, release) == []
    assert len(definitions(kubectl)) == DEFINITIONS
    found = kubectl.get("dataset", "kept", f"--namespace={release.namespace}")
    assert found["spec"] == dataset["spec"]
    release.install()
    assert of_release(kubectl, release) == sorted(f"{kind}/{name}" for kind, name in everything)


def example(notes: str) -> list[dict[str, Any]]:
    """Return the objects that NOTES.txt tells people to apply."""
    return read_objects(notes.split("<<'EOF'\n")[1].split("    EOF")[0].replace("\n    ", "\n").removeprefix("    "))


def test_the_example_of_the_notes_is_a_dataset(kubectl: Kubectl, release: Release) -> None:
    objects = example(release.install())
    assert [each["kind"] for each in objects] == ["Dataset", "AlluxioRuntime"]
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": objects})
    kubectl("create", "--dry-run=server", "--validate=strict", "--filename=-", stdin=text)


def test_an_upgrade_brings_definitions_up_to_date(kubectl: Kubectl, release: Release) -> None:
    """The very thing that a chart's crds/ does not do."""
    release.install()
    shown = kubectl.get("crd", "dataloads.data.fluid.io")["spec"]["versions"][0]["additionalPrinterColumns"]
    older = [{"op": "remove", "path": "/spec/versions/0/additionalPrinterColumns"}]  # not replaced: the API server writes, too
    kubectl("patch", "crd", "dataloads.data.fluid.io", "--type=json", f"--patch={json.dumps(older)}")
    release.upgrade()
    assert kubectl.get("crd", "dataloads.data.fluid.io")["spec"]["versions"][0]["additionalPrinterColumns"] == shown


def test_without_a_namespace_it_goes_into_the_default_one(kubectl: Kubectl) -> None:
    release = Release(kubectl.kubeconfig, "default", images=NONE)
    values = {"images": {"pullPolicy": "Never", **NONE}}
    try:
        Helm(kubectl.kubeconfig)("install", "fusecache", str(CHART), values=values)
        assert "Deployment/fusecache-operator" in of_release(kubectl, release)
        binding = kubectl.get("clusterrolebinding", "fusecache-operator")
        assert binding["subjects"][0]["namespace"] == "default"
    finally:
        release.uninstall()


VALUES = pytest.mark.parametrize(
    "values",
    [
        {},
        {"controller": {"provisioner": {"enabled": False}}, "networkPolicies": False, "metrics": {"annotations": True}},
        {
            "images": {"pullSecrets": [{"name": "registry"}]},
            "node": {"podLabels": {"team": "storage"}, "affinity": {"nodeAffinity": {}}, "extraArgs": ["--log-level=DEBUG"]},
            "operator": {"sharesNodes": False, "tolerations": [{"operator": "Exists"}], "nodeSelector": {"disk": "fast"}},
        },
    ],
    ids=["as it is", "less", "more"],
)


@VALUES
def test_the_api_server_finds_nothing_wrong(namespace: Kubectl, values: dict[str, Any]) -> None:
    """Strictly: a field that Kubernetes does not know is an error, where helm lets it through."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": render(values, namespace=namespace.namespace)})
    namespace("apply", "--server-side", "--dry-run=server", "--validate=strict", "--filename=-", stdin=text)


@VALUES
def test_kubeconform_finds_nothing_wrong(values: dict[str, Any]) -> None:
    """As people run it on what `helm template` prints, with the schemas of each Kubernetes that is supported."""
    for version in KUBERNETES:
        summary, problems = kubeconform.check(render(values), version)
        assert not problems, version
        assert summary["valid"] > DEFINITIONS
        assert summary["skipped"] == 0, "all of the chart is of Kubernetes itself"


def test_kubeconform_sees_what_is_wrong() -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"portz": []}}
    _, problems = kubeconform.check([service], KUBERNETES[0])
    assert "portz" in problems[0]


def test_plain_manifests_are_accepted(kubectl: Kubectl) -> None:
    manifests = ROOT / "deploy" / "manifests" / "fusecache.yaml"
    try:
        kubectl("apply", "--server-side", "--validate=strict", f"--filename={manifests}")
        wait_established(kubectl)
        assert kubectl.get("deployment", "fusecache-controller", "--namespace=fusecache-system")
    finally:
        kubectl("delete", "--ignore-not-found", "--wait=true", f"--filename={manifests}", timeout_seconds=120)


def test_foreign_definitions_are_left_alone_unless_told(kubectl: Kubectl, release: Release, namespace: Kubectl) -> None:
    kubectl.create([FOREIGN])
    wait_established(kubectl)
    old = {"apiVersion": "data.fluid.io/v1alpha1", "kind": "Dataset", "metadata": {"name": "old"}, "spec": {"foreign": "yes"}}
    namespace.wait_for(["datasets"], lambda found: True)
    namespace.create([old])
    with pytest.raises(HelmError, match=r"not fusecache's, such as those of Fluid: datasets\.data\.fluid\.io") as refused:
        release.install()
    assert "--set definitions.adopt=true --take-ownership" in str(refused.value)
    assert of_release(kubectl, release) == []
    assert [each["metadata"]["name"] for each in definitions(kubectl)] == ["datasets.data.fluid.io"]
    assert "Foreign" in str(definitions(kubectl)[0]["spec"]), "it was not touched"

    notes = release.install("--take-ownership", definitions={"adopt": True})
    assert "are fusecache's now" in notes
    assert len(definitions(kubectl)) == DEFINITIONS
    adopted = kubectl.get("crd", "datasets.data.fluid.io")
    assert adopted["metadata"]["labels"]["fusecache.io/definition"] == "true"
    assert adopted["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert "Foreign" not in str(adopted["spec"])
    assert namespace.get("dataset", "old")["metadata"]["name"] == "old"
    release.upgrade()  # whose they are is known by now


def test_definitions_of_another_release_or_of_kubectl_are_named(kubectl: Kubectl, release: Release) -> None:
    apply_definitions(kubectl)
    with pytest.raises(HelmError, match="has fusecache's definitions already, but not from the release fusecache"):
        release.install()
    release.install(definitions={"install": False})
    assert "meta.helm.sh/release-name" not in str(definitions(kubectl))
    release.uninstall()
    release.install("--take-ownership", definitions={"adopt": True})
    assert len(definitions(kubectl)) == DEFINITIONS
