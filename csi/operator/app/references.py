"""Datasets that refer to another one: they show what it shows, and are let in if its owner allows it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csi.operator.app.statuses import BOUND, UPDATING, Seen
from csi.operator.figures import Figures
from csi.operator.names import OWN_DOMAIN
from csi.operator.resolved import Problem, Reference

ALLOWED_NAMESPACES = f"{OWN_DOMAIN}/allowed-reference-namespaces"  # of a target: names with commas; without it, all of them
NOT_ALLOWED = "ReferenceNotAllowed"
_MIRRORED = ("ufsTotal", "fileNum", "cacheStates", "mounts")


def refuse_reference(raw_target: Mapping[str, Any], namespace: str) -> Problem | None:
    """Return why Datasets of a namespace may not refer to a target, None if they may."""
    allowed = raw_target["metadata"].get("annotations", {}).get(ALLOWED_NAMESPACES)
    if allowed is None or namespace in (one.strip() for one in allowed.split(",")):
        return None
    where = f"{raw_target['metadata']['namespace']}/{raw_target['metadata']['name']}"
    return Problem(
        NOT_ALLOWED,
        f"dataset {where} may not be referred to from namespace {namespace}: its annotation {ALLOWED_NAMESPACES} says which may",
        heals=True,
    )


def seen_of_target(raw_target: Mapping[str, Any]) -> Seen:
    """Return whether a reference can be used: as its target."""
    status = raw_target.get("status", {})
    if status.get("phase") in (BOUND, UPDATING):
        return Seen(figures=Figures(answered=1))
    said = next((one.get("message", "") for one in status.get("conditions", ()) if one.get("type") == "Ready"), "")
    return Seen(problems=[Problem("TargetFailed", f"the Dataset that it refers to is {status.get('phase')}: {said}", heals=True)])


def mirrored_status(status: Mapping[str, Any], raw_target: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of a reference: its own, with the figures of its target."""
    of_target = raw_target.get("status", {})
    empty: dict[str, Any] = {"ufsTotal": "", "fileNum": "", "cacheStates": {}, "mounts": []}
    return {**status, **{key: of_target.get(key, empty[key]) for key in _MIRRORED}, "datasetRef": []}


def thin_runtime(reference: Reference, namespace: str, name: str, uid: str) -> dict[str, Any]:
    """Return the runtime that a reference gets if its user has written none. It has no profile, and does nothing."""
    owner = {"apiVersion": "data.fluid.io/v1alpha1", "kind": "Dataset", "name": name, "uid": uid}
    return {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "ThinRuntime",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "ownerReferences": [owner],
            "annotations": {f"{OWN_DOMAIN}/made-for": f"dataset://{reference.namespace}/{reference.name}"},
        },
        "spec": {},
    }
