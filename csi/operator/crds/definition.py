"""CustomResourceDefinitions: what a cluster has to know of a kind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from csi.operator.crds.schema import OPEN, Node, property_of
from csi.operator.model.fields import members
from csi.operator.model.kinds import Kind
from csi.operator.model.printer_columns import Column
from csi.operator.names import CATEGORY, DEFINITION_LABEL, DEFINITION_LABELS, DIGEST_ANNOTATION, GROUP, VERSION

_OF_EVERY_OBJECT: Node = {
    "apiVersion": {"type": "string", "description": "Group and version of the kind."},
    "kind": {"type": "string", "description": "Name of the kind."},
    "metadata": {"type": "object"},  # the API server knows what is in it
}


def definition(kind: Kind) -> Node:
    """Return the CustomResourceDefinition of a kind."""
    spec = _spec(kind)
    digest = hashlib.sha256(json.dumps(spec, sort_keys=True).encode()).hexdigest()[:16]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "name": f"{kind.plural}.{GROUP}",
            "labels": dict(DEFINITION_LABELS),
            "annotations": {DIGEST_ANNOTATION: digest},
        },
        "spec": spec,
    }


def is_ours(found: Mapping[str, Any]) -> bool:
    """Whether a definition that a cluster has was put there by this project."""
    labels = found.get("metadata", {}).get("labels") or {}
    return bool(labels.get(DEFINITION_LABEL) == DEFINITION_LABELS[DEFINITION_LABEL])


def digest_of(found: Mapping[str, Any]) -> str:
    """Return what tells one version of a definition from another; "" where it does not say."""
    return str((found.get("metadata", {}).get("annotations") or {}).get(DIGEST_ANNOTATION, ""))


def _spec(kind: Kind) -> Node:
    names: Node = {
        "kind": kind.name,
        "listKind": f"{kind.name}List",
        "plural": kind.plural,
        "singular": kind.name.lower(),
    }
    if kind.short_name:
        names["shortNames"] = [kind.short_name]
    if kind.in_category:
        names["categories"] = [CATEGORY]
    version: Node = {"name": VERSION, "served": True, "storage": True}
    if kind.columns:
        version["additionalPrinterColumns"] = [_column(column) for column in kind.columns]
    subresources = _subresources(kind)
    if subresources:
        version["subresources"] = subresources
    version["schema"] = {"openAPIV3Schema": _schema(kind)}
    return {"group": GROUP, "names": names, "scope": "Cluster" if kind.of_cluster else "Namespaced", "versions": [version]}


def _column(column: Column) -> Node:
    priority = {"priority": column.priority} if column.priority else {}
    return {"name": column.name, "type": column.type, "jsonPath": column.path, **priority}


def _subresources(kind: Kind) -> Node:
    subresources: Node = {"status": {}} if kind.has_status else {}
    if kind.scale:
        subresources["scale"] = {
            "specReplicasPath": kind.scale.spec_replicas,
            "statusReplicasPath": kind.scale.status_replicas,
            "labelSelectorPath": kind.scale.selector,
        }
    return subresources


def _schema(kind: Kind) -> Node:
    own = [member for member in members(kind.model) if member.key not in _OF_EVERY_OBJECT]
    required = [member.key for member in own if member.notes.required]
    return {
        "type": "object",
        "description": (kind.model.__doc__ or "").strip(),
        **({} if kind.has_spec else OPEN),
        **({"required": required} if required else {}),
        "properties": {
            **_OF_EVERY_OBJECT,
            **{member.key: property_of(member, written_by_us=member.key == "status") for member in own},
        },
    }
