"""The chart renders for many values, and refuses what it does not know."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import pytest
import yaml

from csi.operator.crds.files import CHART_DEFINITIONS
from csi.settings import parse
from tests.cluster_harness import builds
from tests.support.helm import CHART, PODS, Helm, HelmError, render
from tests.support.mounted import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]  # helm is built if need be

EVERYTHING: dict[str, Any] = {
    "images": {"pullSecrets": [{"name": "registry"}], "custody": "custody:1", "csi": "csi:1", "fuse": "fuse:1"},
    "kubeletDir": "/var/snap/kubelet",
    "metrics": {"annotations": True, "podMonitors": True, "podMonitorLabels": {"release": "prometheus"}},
    "operator": {"sharesNodes": False, "extraArgs": ["--log-level=DEBUG"], "podLabels": {"team": "storage"}, "replicas": 1},
    "controller": {"podAnnotations": {"prometheus.io/path": "/other"}, "affinity": {"nodeAffinity": {}}},
}


def test_lint_finds_nothing(helm: Helm) -> None:
    assert "0 chart(s) failed" in helm("lint", "--strict", str(CHART))


def test_values_that_are_not_known_are_refused(helm: Helm) -> None:
    for values in ({"nod": {}}, {"node": {"loglevel": "INFO"}}, {"controller": {"provisioner": {"on": True}}}):
        with pytest.raises(HelmError, match=r"(?i)additional propert"):
            render(values)


@pytest.mark.parametrize(
    "values",
    [
        {"node": {"metricsPort": 0}},
        {"node": {"stateDir": "var"}},
        {"images": {"csi": ""}},
        {"custody": {"grace": 0}},
        {"operator": {"logLevel": "LOUD"}},
        {"controller": {"provisioner": {"timeout": "60"}}},
        {"node": {"resources": {"limit": {}}}},
    ],
    ids=str,
)
def test_values_that_cannot_be_are_refused(helm: Helm, values: dict[str, Any]) -> None:
    with pytest.raises(HelmError, match="values don't meet the specifications"):
        render(values)


def test_an_old_kubernetes_is_refused(helm: Helm) -> None:
    with pytest.raises(HelmError, match="kubeVersion"):
        render({}, "--kube-version=1.27.9")
    assert render({"definitions": {"install": False}}, "--kube-version=1.28.0-eks-1")


def test_definitions_come_with_it_or_not(helm: Helm) -> None:
    def definitions(values: dict[str, Any]) -> set[str]:
        return {each["metadata"]["name"] for each in render(values) if each["kind"] == "CustomResourceDefinition"}

    files = {f"{path.stem}.data.fluid.io" for path in (ROOT / CHART_DEFINITIONS).glob("*.yaml")}
    assert definitions({}) == files
    assert len(files) > 10
    assert definitions({"definitions": {"install": False}}) == set()


def test_all_that_values_say_is_there(helm: Helm) -> None:
    objects = {
        (each["kind"], each["metadata"]["name"]): each for each in render({**EVERYTHING, "definitions": {"install": False}})
    }
    operator = objects["Deployment", "fusecache-operator"]["spec"]["template"]
    assert operator["metadata"]["labels"]["team"] == "storage"
    assert {"--exclusive", "--log-level=DEBUG", "--image=fuse:1"} <= set(operator["spec"]["containers"][0]["args"])
    controller = objects["Deployment", "fusecache-controller"]["spec"]["template"]
    assert controller["metadata"]["annotations"]["prometheus.io/path"] == "/other", "what values say goes first"
    assert controller["spec"]["affinity"] == {"nodeAffinity": {}}
    node = objects["DaemonSet", "fusecache-node"]["spec"]["template"]
    assert {each["hostPath"]["path"] for each in node["spec"]["volumes"]} >= {
        "/var/snap/kubelet",
        "/var/snap/kubelet/plugins_registry",
    }
    assert node["metadata"]["annotations"]["prometheus.io/port"] == "9810"
    custody = objects["DaemonSet", "fusecache-custody"]["spec"]["template"]
    assert custody["spec"]["containers"][0]["image"] == "custody:1"
    assert custody["metadata"]["annotations"] == {}, "nothing to scrape"
    for kind, name in objects:
        if kind in PODS:
            assert objects[kind, name]["spec"]["template"]["spec"]["imagePullSecrets"] == [{"name": "registry"}], name
    monitors = [each for (kind, _), each in objects.items() if kind == "PodMonitor"]
    assert [each["metadata"]["labels"]["release"] for each in monitors] == ["prometheus"] * 2


def test_directories_that_users_may_name_are_seen_where_they_are_opened(helm: Helm) -> None:
    values = {"node": {"cacheRoots": ["/mnt/a", "/mnt/b"], "localRoots": ["/data"]}, "definitions": {"install": False}}
    workloads = {each["metadata"]["name"]: each["spec"]["template"]["spec"] for each in render(values) if each["kind"] in PODS}
    (node,), (operator,) = (workloads[f"fusecache-{name}"]["containers"] for name in ("node", "operator"))
    assert parse(node["args"]).cache_roots == ("/mnt/a", "/mnt/b")
    assert parse(node["args"]).local_roots == ("/data",)
    roots = {"--cache-root=/mnt/a", "--cache-root=/mnt/b", "--local-root=/data"}
    assert roots <= set(operator["args"]), "what one allows, the other allows"
    for name, expected in (("fusecache-node", {"/mnt/a", "/mnt/b", "/data"}), ("fusecache-custody", {"/mnt/a", "/mnt/b"})):
        paths = {each["name"]: each["hostPath"]["path"] for each in workloads[name]["volumes"]}
        mounts = {each["mountPath"] for each in workloads[name]["containers"][0]["volumeMounts"]}
        assert expected <= mounts
        for each in workloads[name]["containers"][0]["volumeMounts"]:
            if each["mountPath"] in expected:
                assert paths[each["name"]] == each["mountPath"]


def test_without_provisioning_there_is_nothing_of_it(helm: Helm) -> None:
    objects = render({"definitions": {"install": False}, "controller": {"provisioner": {"enabled": False}}})
    assert "provisioner" not in yaml.safe_dump(objects).replace("external-provisioner", "")
    (role,) = (each for each in objects if each["kind"] == "ClusterRole" and each["metadata"]["name"] == "fusecache-controller")
    assert {one for rule in role["rules"] for one in rule["resources"]} == {"nodes", "persistentvolumes"}


def test_a_new_version_alone_replaces_no_pod(workloads: list[dict[str, Any]]) -> None:
    for each in workloads:
        assert "app.kubernetes.io/version" in each["metadata"]["labels"]
        assert "app.kubernetes.io/version" not in each["spec"]["template"]["metadata"]["labels"]


def test_sidecars_are_the_versions_that_are_tested(workloads: list[dict[str, Any]]) -> None:
    programs = (ROOT / "scripts" / "cluster" / "programs" / "go.mod").read_text()
    (controller,) = (each for each in workloads if each["metadata"]["name"] == "fusecache-controller")
    for container in controller["spec"]["template"]["spec"]["containers"][1:]:
        built = re.search(rf"/{container['name'].replace('csi', 'external')}/v\d+ (\S+)", programs)
        assert built is not None
        assert container["image"] == f"registry.k8s.io/sig-storage/{container['name']}:{built[1]}"


def _arguments(workloads: list[dict[str, Any]], name: str) -> list[str]:
    containers = {one["name"]: one for each in workloads for one in each["spec"]["template"]["spec"]["containers"]}
    return list(containers[name]["args"])


def test_programs_know_their_arguments(workloads: list[dict[str, Any]]) -> None:
    """A flag that a program does not have ends it at once, in every cluster at the same time."""
    node = parse(_arguments(workloads, "node"))
    assert node.has_pods
    assert node.custody == node.state_dir / "custody"
    custody = _arguments(workloads, "custody")
    assert (custody[custody.index("--root") + 1], custody[custody.index("--grace") + 1]) == (str(node.custody), "300")


@pytest.mark.parametrize(("name", "mode"), [("operator", ["operator"]), ("controller", ["controller", "--cluster"])])
def test_programs_that_speak_to_the_cluster_know_theirs(workloads: list[dict[str, Any]], name: str, mode: list[str]) -> None:
    command = [sys.executable, "-P", "-m", "csi", *mode, "--help"]
    text = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout
    arguments = _arguments(workloads, name)
    assert arguments[: len(mode)] == mode
    known = set(re.findall(r"--[a-z-]+", text))
    assert len(known) > 4
    assert set(_flags(arguments[1:])) <= known


@pytest.mark.parametrize("name", ["csi-attacher", "csi-provisioner"])
def test_sidecars_know_their_arguments(workloads: list[dict[str, Any]], name: str) -> None:
    if builds.missing(name):
        pytest.skip(f"{name} is not built (tests.cluster_harness build {name})")
    done = subprocess.run([builds.program(name), "--help"], capture_output=True, text=True, timeout=60)
    known = set(re.findall(r"^ +-{1,2}([a-z-]+)", done.stdout + done.stderr, re.MULTILINE))
    assert {flag.removeprefix("--") for flag in _flags(_arguments(workloads, name))} <= known


def _flags(arguments: list[str]) -> list[str]:
    return [each.partition("=")[0] for each in arguments]


def test_a_directory_in_both_lists_is_mounted_once(helm: Helm) -> None:
    values = {"node": {"cacheRoots": ["/mnt/a"], "localRoots": ["/mnt/a", "/data"]}, "definitions": {"install": False}}
    (node,) = (each for each in render(values) if each["metadata"]["name"] == "fusecache-node" and each["kind"] in PODS)
    spec = node["spec"]["template"]["spec"]
    mounts = [one["mountPath"] for one in spec["containers"][0]["volumeMounts"]]
    assert (mounts.count("/mnt/a"), mounts.count("/data")) == (1, 1)
    names = [one["name"] for one in spec["volumes"]]
    assert len(set(names)) == len(names)


def test_the_operator_knows_which_nodes_have_the_plugin(helm: Helm) -> None:
    values = {"node": {"nodeSelector": {"example.com/storage": "yes"}}, "definitions": {"install": False}}
    workloads = [each for each in render(values) if each["kind"] in PODS]
    assert "--plugin-selector=example.com/storage=yes" in _arguments(workloads, "operator")


def test_pods_that_the_operator_makes_have_the_pull_secrets(helm: Helm) -> None:
    values = {"images": {"pullSecrets": [{"name": "registry"}]}, "definitions": {"install": False}}
    workloads = [each for each in render(values) if each["kind"] in PODS]
    assert "--pull-secret=registry" in _arguments(workloads, "operator")
