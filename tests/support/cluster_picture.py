"""What there is of a Dataset in a cluster, so that two runs can be compared: objects, who owns them, finalizers, labels of nodes.

Functions that return plain values. Names begin with the one that the test chose for the run, which is replaced by a word.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from csi.operator.render.object_names import node_label
from tests.support.kubectl import Kubectl

KINDS = (
    "datasets,alluxioruntimes,thinruntimes,dataloads,persistentvolumeclaims,secrets,configmaps,services,"
    "serviceaccounts,daemonsets,jobs,cronjobs"
)
_OF_EVERY_NAMESPACE = ("kube-root-ca.crt", "default")
_STATUS = {
    "Dataset": ("phase", "runtimes", "mounts", "datasetRef", "operationRef", "cacheStates"),
    "AlluxioRuntime": ("masterPhase", "workerPhase", "fusePhase", "desiredWorkerNumberScheduled", "currentWorkerNumberScheduled"),
    "DataLoad": ("phase", "duration", "waitingFor"),
}
Picture = dict[str, Any]


def picture(kubectl: Kubectl, name: str) -> Picture:
    """Return everything in the namespace by kind and name, the PVs of the namespace, and the labels of nodes."""
    found: Picture = {}
    for one in kubectl.items(KINDS):
        if one["metadata"]["name"] not in _OF_EVERY_NAMESPACE:
            found[f"{one['kind']} {one['metadata']['name']}"] = _essence(one)
    prefix = f"{kubectl.namespace}-"
    for one in kubectl.items("persistentvolumes"):
        if one["metadata"]["name"].startswith(prefix):
            found[f"PersistentVolume {one['metadata']['name'].removeprefix(prefix)}"] = one["spec"]["csi"]["volumeAttributes"]
    found["labels of nodes"] = node_labels(kubectl, name)
    renamed: Picture = _renamed(found, name)
    return renamed


def node_labels(kubectl: Kubectl, name: str) -> dict[str, int]:
    """Return how many nodes have which value of the Dataset's label."""
    label = node_label(kubectl.namespace, name)
    return dict(Counter(node["metadata"]["labels"][label] for node in kubectl.items("nodes", f"--selector={label}")))


def _essence(raw: dict[str, Any]) -> Any:
    metadata = raw["metadata"]
    owners = sorted(f"{owner['kind']} {owner['name']}" for owner in metadata.get("ownerReferences", ()))
    shown = {key: raw.get("status", {}).get(key) for key in _STATUS.get(raw["kind"], ())}
    is_going = "deletionTimestamp" in metadata
    data = sorted(raw["data"]) if raw["kind"] in ("Secret", "ConfigMap") else None
    return [sorted(metadata.get("finalizers", ())), owners, is_going, shown, data]


def _renamed(value: Any, name: str) -> Any:
    if isinstance(value, dict):
        return {_renamed(key, name): _renamed(one, name) for key, one in value.items()}
    if isinstance(value, list):
        return [_renamed(one, name) for one in value]
    return value.replace(name, "NAME") if isinstance(value, str) else value
