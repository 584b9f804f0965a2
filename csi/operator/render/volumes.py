"""The volume that pods use: PV and PVC, bound to each other in advance."""

from __future__ import annotations

from typing import Any

from csi.operator.names import OWN_DOMAIN
from csi.operator.render.object_names import owned, volume_labels, volume_name
from csi.operator.render.surroundings import Identity, Installation
from csi.operator.resolved import Resolved

_ANNOTATIONS = {"CreatedBy": "fluid"}  # programs that look for volumes of Datasets go by it


def persistent_volume(resolved: Resolved, installation: Installation, identity: Identity) -> dict[str, Any]:
    """Return the PV, which belongs to no namespace: whoever deletes the Dataset has to delete it."""
    namespace, name = resolved.namespace, resolved.name
    target = resolved.reference
    attributes = {
        f"{OWN_DOMAIN}/namespace": target.namespace if target else namespace,
        f"{OWN_DOMAIN}/dataset": target.name if target else name,
    }
    if target and target.path:
        attributes[f"{OWN_DOMAIN}/path"] = target.path
    spec: dict[str, Any] = {
        "accessModes": list(resolved.access_modes),
        "capacity": {"storage": resolved.storage_size},
        "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": namespace, "name": name},
        "csi": {
            "driver": installation.driver,
            "volumeHandle": volume_name(namespace, name),
            "readOnly": not resolved.read_write,
            "volumeAttributes": attributes,
        },
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": installation.storage_class,
        "volumeMode": "Filesystem",
    }
    if resolved.mount_node_selector:
        expressions = [
            {"key": key, "operator": "In", "values": [value]} for key, value in sorted(resolved.mount_node_selector.items())
        ]
        spec["nodeAffinity"] = {"required": {"nodeSelectorTerms": [{"matchExpressions": expressions}]}}
    metadata = {
        "name": volume_name(namespace, name),
        "labels": {**resolved.volume_metadata.labels, **volume_labels(namespace, name, identity)},
        "annotations": {**resolved.volume_metadata.annotations, **_ANNOTATIONS},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": metadata, "spec": spec}


def claim(resolved: Resolved, installation: Installation, identity: Identity) -> dict[str, Any]:
    namespace, name = resolved.namespace, resolved.name
    metadata = owned(resolved, identity, name)
    metadata["labels"] = {**resolved.claim_metadata.labels, **metadata["labels"], **volume_labels(namespace, name, identity)}
    metadata["annotations"] = {**resolved.claim_metadata.annotations, **_ANNOTATIONS}
    if resolved.reference:
        metadata["labels"] |= {
            "fluid.io/dataset.referring-name": resolved.reference.name,
            "fluid.io/dataset.referring-namespace": resolved.reference.namespace,
        }
    spec = {
        "accessModes": list(resolved.access_modes),
        "resources": {"requests": {"storage": resolved.storage_size}},
        "storageClassName": installation.storage_class,
        "volumeMode": "Filesystem",
        "volumeName": volume_name(namespace, name),
    }
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": spec}
