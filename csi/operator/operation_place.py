"""Where an operation ran, as its status keeps it, and how another one is sent to the same place. Pure.

The place is a required node affinity of one term, with an expression for each label that is kept: the node's name, its zone and
region, and those that the annotation names.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from csi.operator.resolved_load import Predecessor

HOSTNAME = "kubernetes.io/hostname"
_ALWAYS = (HOSTNAME, "topology.kubernetes.io/zone", "topology.kubernetes.io/region")
_ANNOTATIONS = ("data-operation.fluid.io/affinity.labels", "affinity.dataflow.fluid.io/labels")
_REQUIRED, _PREFERRED = "requiredDuringSchedulingIgnoredDuringExecution", "preferredDuringSchedulingIgnoredDuringExecution"
REQUIRE = "Require"


def place_of(labels: Mapping[str, str], annotations: Mapping[str, str]) -> dict[str, Any]:
    """Return the place of a node. `annotations`: of the operation."""
    named = [name.strip() for key in _ANNOTATIONS for name in annotations.get(key, "").split(",")]
    kept = [name for name in dict.fromkeys((*_ALWAYS, *named)) if name in labels]
    expressions = [_expression(name, [labels[name]]) for name in kept]
    return {_REQUIRED: {"nodeSelectorTerms": [{"matchExpressions": expressions}]}} if expressions else {}


def sent_after(affinity: Mapping[str, Any], predecessor: Predecessor, place: Mapping[str, Any]) -> dict[str, Any]:
    """Return an affinity by which a pod also goes where the predecessor ran. A place that is not known changes nothing."""
    terms = place.get(_REQUIRED, {}).get("nodeSelectorTerms") or [{}]
    there = {one["key"]: one["values"] for one in terms[0].get("matchExpressions", ()) if one.get("values")}
    if predecessor.affinity == REQUIRE:
        wanted = [_expression(name, there[name]) for name in predecessor.requires or (HOSTNAME,) if name in there]
        return _with_required(affinity, wanted) if wanted else dict(affinity)
    weighted = [(name, weight) for name, weight in predecessor.prefers or ((HOSTNAME, 100),) if name in there]
    if not predecessor.affinity or not weighted:
        return dict(affinity)
    node = dict(affinity.get("nodeAffinity") or {})
    added = [
        {"weight": max(1, min(100, weight)), "preference": {"matchExpressions": [_expression(name, there[name])]}}
        for name, weight in weighted
    ]
    return {**affinity, "nodeAffinity": {**node, _PREFERRED: [*(node.get(_PREFERRED) or ()), *added]}}


def _with_required(affinity: Mapping[str, Any], wanted: list[dict[str, Any]]) -> dict[str, Any]:
    """Terms are alternatives: each has to say it."""
    node = dict(affinity.get("nodeAffinity") or {})
    terms: Iterable[Mapping[str, Any]] = (node.get(_REQUIRED) or {}).get("nodeSelectorTerms") or [{}]
    joined = [{**term, "matchExpressions": [*(term.get("matchExpressions") or ()), *wanted]} for term in terms]
    return {**affinity, "nodeAffinity": {**node, _REQUIRED: {"nodeSelectorTerms": joined}}}


def _expression(name: str, values: list[str]) -> dict[str, Any]:
    return {"key": name, "operator": "In", "values": list(values)}
