"""What pods of the chart may do on a node, and what they are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.helm import Helm, render

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def _containers(workloads: list[dict[str, Any]]) -> Iterator[tuple[str, dict[str, Any]]]:
    for each in workloads:
        spec = each["spec"]["template"]["spec"]
        for container in (*spec["containers"], *spec.get("initContainers", ())):
            yield each["metadata"]["name"], container


def test_every_container_is_bounded_and_cannot_write_its_root(workloads: list[dict[str, Any]]) -> None:
    assert len(list(_containers(workloads))) == 6
    for name, container in _containers(workloads):
        assert container["securityContext"]["readOnlyRootFilesystem"] is True, name
        assert set(container["resources"]["requests"]) == {"cpu", "memory"}, name
        limits = container["resources"].get("limits", {})
        # The memory that reads go through grows with the mounts, and stays if custody is killed for it.
        assert ("memory" in limits) == (name != "fusecache-custody"), name
        assert "cpu" not in limits, "a limit on cpu makes mounts wait"


def test_images_are_those_of_values(helm: Helm) -> None:
    images = {name: f"example.com/{name}:1" for name in ("csi", "custody", "fuse", "attacher", "provisioner")}
    workloads = [
        each for each in render({"images": images, "definitions": {"install": False}}) if "template" in each.get("spec", {})
    ]
    used = {container["image"] for _, container in _containers(workloads)}
    assert used == set(images.values()) - {images["fuse"]}, "the operator starts cache pods"


def test_only_what_mounts_is_privileged(workloads: list[dict[str, Any]]) -> None:
    privileged = {name for name, container in _containers(workloads) if container["securityContext"].get("privileged")}
    assert privileged == {"fusecache-node", "fusecache-custody"}
    for each in workloads:
        if each["metadata"]["name"] in privileged:
            continue
        spec = each["spec"]["template"]["spec"]
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not [one for one in spec.get("volumes", ()) if "hostPath" in one]
        for container in spec["containers"]:
            context = container["securityContext"]
            assert context["allowPrivilegeEscalation"] is False
            assert context["capabilities"] == {"drop": ["ALL"]}


def test_selectors_find_the_pods_of_one_part(objects: list[dict[str, Any]], workloads: list[dict[str, Any]]) -> None:
    labels = {each["metadata"]["name"]: each["spec"]["template"]["metadata"]["labels"] for each in workloads}

    def found(selector: dict[str, str]) -> set[str]:
        return {name for name, given in labels.items() if selector.items() <= given.items()}

    for each in workloads:
        assert found(each["spec"]["selector"]["matchLabels"]) == {each["metadata"]["name"]}
    budgets = [each for each in objects if each["kind"] == "PodDisruptionBudget"]
    assert [found(each["spec"]["selector"]["matchLabels"]) for each in budgets] == [
        {"fusecache-operator"},
        {"fusecache-controller"},
    ]
    policies = {each["metadata"]["name"]: each["spec"] for each in objects if each["kind"] == "NetworkPolicy"}
    assert found(policies["fusecache-deny-ingress"]["podSelector"]["matchLabels"]) == set(labels)
    assert "ingress" not in policies["fusecache-deny-ingress"]


def test_network_policies_let_in_to_the_ports_that_pods_have(
    objects: list[dict[str, Any]], workloads: list[dict[str, Any]]
) -> None:
    opened = {
        port["port"]
        for each in objects
        if each["kind"] == "NetworkPolicy"
        for rule in each["spec"].get("ingress", ())
        for port in rule["ports"]
    }
    ports = {port["containerPort"] for _, container in _containers(workloads) for port in container.get("ports", ())}
    assert opened == ports
    assert all(each["spec"]["policyTypes"] == ["Ingress"] for each in objects if each["kind"] == "NetworkPolicy")


def test_everything_is_in_the_namespace_of_the_release_or_in_none(objects: list[dict[str, Any]]) -> None:
    of_cluster = {"ClusterRole", "ClusterRoleBinding", "CSIDriver", "PriorityClass"}
    for each in objects:
        namespace = each["metadata"].get("namespace")
        assert namespace == (None if each["kind"] in of_cluster else "here"), each["metadata"]["name"]
