"""Definitions of the group data.fluid.io in a cluster: ours applied without the chart, somebody else's, none."""

from __future__ import annotations

from typing import Any

from csi.operator.names import GROUP
from tests.support.kubectl import Kubectl
from tests.support.mounted import ROOT

# Somebody else's: another schema, other columns, no label of ours.
FOREIGN: dict[str, Any] = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "datasets.data.fluid.io", "annotations": {"controller-gen.kubebuilder.io/version": "v0.8.0"}},
    "spec": {
        "group": "data.fluid.io",
        "names": {"kind": "Dataset", "listKind": "DatasetList", "plural": "datasets", "singular": "dataset"},
        "scope": "Namespaced",
        "versions": [
            {
                "name": "v1alpha1",
                "served": True,
                "storage": True,
                "additionalPrinterColumns": [{"name": "Foreign", "type": "string", "jsonPath": ".spec.foreign"}],
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "properties": {"spec": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}},
                    }
                },
            }
        ],
    },
}


def definitions(kubectl: Kubectl) -> list[dict[str, Any]]:
    """Return those that the cluster has, whoever made them."""
    return [one for one in kubectl.items("crd") if one["spec"]["group"] == GROUP]


def apply_definitions(kubectl: Kubectl) -> None:
    """Apply ours, and return when they are served."""
    kubectl("apply", "--server-side", "--filename", str(ROOT / "deploy" / "crds"))
    wait_established(kubectl)


def wait_established(kubectl: Kubectl) -> None:
    """Return when the API server serves all that there are."""
    names = [one["metadata"]["name"] for one in definitions(kubectl)]
    kubectl("wait", "--for=condition=Established", "--timeout=30s", "crd", *names)


def remove_definitions(kubectl: Kubectl) -> None:
    """Remove them with every object of theirs."""
    if names := [one["metadata"]["name"] for one in definitions(kubectl)]:
        kubectl("delete", "crd", "--wait=true", *names)


def remove_unused_definitions(kubectl: Kubectl) -> None:
    """Remove those that there is no object of."""
    names = [one["metadata"]["name"] for one in definitions(kubectl)]
    if unused := [name for name in names if not kubectl.items(name, "--all-namespaces")]:
        kubectl("delete", "crd", "--wait=true", *unused)
