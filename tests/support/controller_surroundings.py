"""What tests of the controller need of a cluster: definitions, an operator, an account with the documented rights, nodes that say
that they have the driver. No kubelet mounts anything here: VolumeAttachments are the tests' own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from csi import DRIVER_NAME
from tests.support.kubectl import Kubectl
from tests.support.mounted import ROOT
from tests.support.service_account import write_kubeconfig

INTERNALS = ROOT / "docs" / "kubernetes-internals.md"


def documented_rules() -> list[dict[str, Any]]:
    """Return what docs/kubernetes-internals.md says that the controller may do."""
    text = INTERNALS.read_text().partition("\n## The controller\n")[2].partition("\n## ")[0]
    (block,) = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    rules: list[dict[str, Any]] = yaml.safe_load(block)["rules"]
    return rules


@contextmanager
def account(kubeconfig: Path, namespace: Kubectl, path: Path) -> Iterator[Path]:
    """Write a kubeconfig of an account that may do what is documented, and no more."""
    name = f"controller-{os.urandom(4).hex()}"
    kind = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": name}}
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace.namespace}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name}
    cluster_wide = Kubectl(kubeconfig)
    namespace.create([{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}}])
    cluster_wide.create(
        [
            {**kind, "kind": "ClusterRole", "rules": documented_rules()},
            {**kind, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": [subject]},
        ]
    )
    try:
        yield write_kubeconfig(path, cluster_wide, namespace.namespace, name)
    finally:
        cluster_wide("delete", "clusterrolebinding,clusterrole", name)


@contextmanager
def driver_on_nodes(kubeconfig: Path) -> Iterator[list[str]]:
    """Have every CSINode say that the driver is there, as kubelet would; yield the names of the nodes."""
    kubectl = Kubectl(kubeconfig)
    names = sorted(one["metadata"]["name"] for one in kubectl.items("nodes"))
    before = {one["metadata"]["name"]: one["spec"].get("drivers") or [] for one in kubectl.items("csinodes")}

    def write(node: str, drivers: list[dict[str, Any]]) -> None:
        kubectl("patch", "csinode", node, "--type=merge", f"--patch={json.dumps({'spec': {'drivers': drivers}})}")

    for node in names:
        others = [one for one in before[node] if one["name"] != DRIVER_NAME]
        write(node, [*others, {"name": DRIVER_NAME, "nodeID": node, "topologyKeys": []}])
    try:
        yield names
    finally:
        for node in names:
            write(node, before[node])


@contextmanager
def attached(kubectl: Kubectl, volume: str, node: str) -> Iterator[str]:
    """Make a VolumeAttachment, as Kubernetes does for a pod; yield its name, and delete it if the test did not."""
    name = f"test-{os.urandom(6).hex()}"
    attachment = {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "VolumeAttachment",
        "metadata": {"name": name},
        "spec": {"attacher": DRIVER_NAME, "nodeName": node, "source": {"persistentVolumeName": volume}},
    }
    kubectl.create([attachment])
    try:
        yield name
    finally:
        kubectl("delete", "volumeattachment", name, "--ignore-not-found", "--wait=true")
