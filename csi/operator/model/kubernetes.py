"""Types that belong to Kubernetes and are embedded in ours: kept as they are, and passed on.

Small ones have their fields in the schema, so that `kubectl explain` and the check of a manifest are of use; large ones are
objects that the API server leaves alone. Keys that a later Kubernetes adds get through in either case.
"""

from __future__ import annotations

from typing import Annotated, Any

from csi.operator.model.scalars import QUANTITY
from csi.operator.model.structure import Schema

Raw = dict[str, Any]

_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_INT32 = {"type": "integer", "format": "int32"}
_INT64 = {"type": "integer", "format": "int64"}
_OPEN = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


def _list(items: Raw) -> Raw:
    return {"type": "array", "items": items}


def _object(properties: Raw, *required: str) -> Raw:
    needed = {"required": list(required)} if required else {}
    return {**_OPEN, "properties": properties, **needed}


_LABEL_REQUIREMENT = _object({"key": _TEXT, "operator": _TEXT, "values": _list(_TEXT)}, "key", "operator")
_NODE_SELECTOR_TERM = _object({"matchExpressions": _list(_LABEL_REQUIREMENT), "matchFields": _list(_LABEL_REQUIREMENT)})
_QUANTITIES = {"type": "object", "additionalProperties": QUANTITY}

NodeSelector = Annotated[
    Raw, Schema(_object({"nodeSelectorTerms": _list(_NODE_SELECTOR_TERM)}, "nodeSelectorTerms"), "node selector")
]
Toleration = Annotated[
    Raw,
    Schema(
        _object({"key": _TEXT, "operator": _TEXT, "value": _TEXT, "effect": _TEXT, "tolerationSeconds": _INT64}), "toleration"
    ),
]
Resources = Annotated[
    Raw,
    Schema(
        _object({"limits": _QUANTITIES, "requests": _QUANTITIES, "claims": _list(_object({"name": _TEXT}, "name"))}),
        "resource requirements",
    ),
]
EnvVar = Annotated[Raw, Schema(_object({"name": _TEXT, "value": _TEXT, "valueFrom": _OPEN}, "name"), "environment variable")]
VolumeMount = Annotated[
    Raw,
    Schema(
        _object(
            {
                "name": _TEXT,
                "mountPath": _TEXT,
                "subPath": _TEXT,
                "subPathExpr": _TEXT,
                "readOnly": _FLAG,
                "mountPropagation": _TEXT,
            },
            "name",
            "mountPath",
        ),
        "volume mount",
    ),
]
Volume = Annotated[Raw, Schema(_object({"name": _TEXT}, "name"), "volume")]
VolumeSource = Annotated[Raw, Schema(_OPEN, "volume source")]
VolumeClaim = Annotated[Raw, Schema(_OPEN, "persistent volume claim")]
ContainerPort = Annotated[
    Raw,
    Schema(
        _object(
            {"name": _TEXT, "containerPort": _INT32, "hostPort": _INT32, "hostIP": _TEXT, "protocol": _TEXT}, "containerPort"
        ),
        "container port",
    ),
]
SecretName = Annotated[Raw, Schema(_object({"name": _TEXT}), "reference to a Secret")]
Affinity = Annotated[Raw, Schema(_OPEN, "affinity")]
NodeAffinity = Annotated[Raw, Schema(_OPEN, "node affinity")]
PodSpec = Annotated[Raw, Schema(_OPEN, "pod specification")]
Probe = Annotated[Raw, Schema(_OPEN, "probe")]
Lifecycle = Annotated[Raw, Schema(_OPEN, "lifecycle hooks")]
AnyMap = Annotated[Raw, Schema(_OPEN, "object")]
