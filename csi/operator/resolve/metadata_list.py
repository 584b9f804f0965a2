"""The annotation by which a runtime asks for labels and annotations on the volume that is made for its Dataset.

`data.fluid.io/metadataList`: a JSON list of {"selector": {"group": "", "kind": KIND}, "labels": {}, "annotations": {}}, where
KIND is PersistentVolume or PersistentVolumeClaim.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from csi.operator.model.object import Object
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.pods import is_ours
from csi.operator.resolved import ObjectMetadata

ANNOTATION = "data.fluid.io/metadataList"
VOLUME, CLAIM = "PersistentVolume", "PersistentVolumeClaim"
_FORM = f"the annotation {ANNOTATION} must be a JSON list of selector, labels and annotations"


def volume_metadata(runtime: Object, findings: Findings) -> dict[str, ObjectMetadata]:
    """Return what is asked for by kind; entries for other kinds are for objects that there are not."""
    text = runtime.metadata.annotations.get(ANNOTATION, "")
    if not text:
        return {}
    try:
        entries = json.loads(text)
        found = [_read(entry) for entry in entries]
    except (ValueError, TypeError, AttributeError, RecursionError):
        findings.refuse(_FORM, on_runtime=True)
        return {}
    asked: dict[str, ObjectMetadata] = {}
    for kind, metadata in found:
        before = asked.get(kind, ObjectMetadata())
        asked[kind] = ObjectMetadata({**before.labels, **metadata.labels}, {**before.annotations, **metadata.annotations})
        if any(is_ours(key) for key in (*metadata.labels, *metadata.annotations)):
            findings.refuse(f"the annotation {ANNOTATION} has keys that are ours to set: leave them out", on_runtime=True)
    return {kind: asked[kind] for kind in (VOLUME, CLAIM) if kind in asked}


def _read(entry: Mapping[str, Any]) -> tuple[str, ObjectMetadata]:
    maps = entry.get("labels") or {}, entry.get("annotations") or {}
    kind = entry["selector"].get("kind") if isinstance(entry.get("selector"), dict) else None
    if not isinstance(kind, str) or not all(isinstance(each, dict) for each in maps):
        raise ValueError
    if not all(isinstance(value, str) for each in maps for value in each.values()):
        raise ValueError
    return kind, ObjectMetadata(*maps)
