"""Names and labels of what is made for a Dataset. Stateless."""

from __future__ import annotations

import hashlib
from typing import Any

from csi.operator.names import API_VERSION, OWN_DOMAIN
from csi.operator.render.surroundings import Identity
from csi.operator.resolved import Resolved

DATASET_LABEL = f"{OWN_DOMAIN}/dataset"
ROLE_LABEL = f"{OWN_DOMAIN}/role"  # of a cache pod: WORKER or CONSUMER
COMPONENT_LABEL = "app.kubernetes.io/component"
MANAGED_BY = {"app.kubernetes.io/managed-by": "fusecache"}
WORKER, CONSUMER = "worker", "consumer"  # values of a node's label for a Dataset, and of its cache pod's
_MAX_LABEL = 63
_MAX_CRON_JOB = 52


def pods_name(dataset: str) -> str:
    """Return the name of ServiceAccount, DaemonSet of the workers, Service and ConfigMap."""
    return f"{dataset}-fuse"


def consumers_name(dataset: str) -> str:
    """Return the name of the DaemonSet on nodes that only mount. The node plugin knows its pods as those of `pods_name`."""
    return f"{pods_name(dataset)}-consumer"


def credentials_name(dataset: str) -> str:
    return f"{pods_name(dataset)}-credentials"


def token_name(dataset: str) -> str:
    return f"{pods_name(dataset)}-token"


def service_name(dataset: str) -> str:
    """Return the name of the Service: a DNS label, while the other objects may have longer names."""
    return _shortened(pods_name(dataset), _MAX_LABEL)


def loader_name(data_load: str, *, is_repeated: bool = False) -> str:
    """Return the name of a Job, which becomes a label of its pods, or of a CronJob, to which the cluster adds a number."""
    return _shortened(f"{data_load}-loader-job", _MAX_CRON_JOB if is_repeated else _MAX_LABEL)


def survey_name(dataset: str) -> str:
    """Return the name of the Job that asks the sources of a Dataset without pods."""
    return _shortened(f"{dataset}-survey", _MAX_LABEL)


def volume_name(namespace: str, dataset: str) -> str:
    """Return the name of the PV, which is that of Fluid; a/b-c and a-b/c have the same."""
    return f"{namespace}-{dataset}"


def node_label(namespace: str, dataset: str) -> str:
    """Return the label of nodes that have something to do with a Dataset."""
    return f"{OWN_DOMAIN}/d-{hashlib.sha256(f'{namespace}/{dataset}'.encode()).hexdigest()[:12]}"


def _shortened(name: str, most: int) -> str:
    if len(name) <= most:
        return name
    return f"{name[: most - 9].rstrip('-.')}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def labels(dataset: str, component: str) -> dict[str, str]:
    return {DATASET_LABEL: dataset, COMPONENT_LABEL: component, **MANAGED_BY}


def selector(dataset: str, role: str = "") -> dict[str, str]:
    """Return what the cache pods of a Dataset are found by: all of them, or those of one role."""
    return {DATASET_LABEL: dataset, COMPONENT_LABEL: "cache", **({ROLE_LABEL: role} if role else {})}


def fluid_id(namespace: str, dataset: str, identity: Identity, prefix: str = "") -> str:
    """Return how Fluid calls a Dataset in labels: by its uid where the name is too long. `prefix`: of the label."""
    readable = f"{namespace}-{dataset}"
    return readable if len(prefix) + len(readable) < _MAX_LABEL else identity.uid


def volume_labels(namespace: str, dataset: str, identity: Identity) -> dict[str, str]:
    """Return the labels of PV and PVC that dashboards of Fluid look for."""
    return {
        f"fluid.io/s-{fluid_id(namespace, dataset, identity, 's-')}": "true",
        "fluid.io/dataset-id": fluid_id(namespace, dataset, identity),
        **MANAGED_BY,
    }


def owned(resolved: Resolved, identity: Identity, name: str, component: str = "cache") -> dict[str, Any]:
    """Return the metadata of an object that goes with the Dataset."""
    owner = {
        "apiVersion": API_VERSION,
        "kind": "Dataset",
        "name": resolved.name,
        "uid": identity.uid,
        "controller": True,
        "blockOwnerDeletion": True,
    }
    return {
        "name": name,
        "namespace": resolved.namespace,
        "labels": labels(resolved.name, component),
        "ownerReferences": [owner],
    }
