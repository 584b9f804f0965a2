"""Which nodes use a Dataset, as VolumeAttachments say, and the labels of nodes that follow from it.

Volumes of references have the attributes of their target, and so count as the target's. Stateless beside what is known.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from csi import DRIVER_NAME
from csi.operator.app.known import ATTACHMENTS, NODES, VOLUMES, Key, Known
from csi.operator.objects import Objects
from csi.operator.placement import EXCLUSIVE_LABEL, Node, exclusive_changes, label_changes
from csi.operator.render.object_names import node_label
from csi.operator.resolved import Resolved
from csi.volumes.dataset_reference import NAMESPACE
from csi.volumes.inline import DATASET

ON_DEMAND = "OnDemand"
SEEN_SECONDS, SEEN_LOOKS = 1.0, 50


class Attachments:
    def __init__(self, objects: Objects, known: Known) -> None:
        self._objects = objects
        self._known = known

    async def label_nodes(self, resolved: Resolved, nodes: Sequence[Node], workers: Sequence[str]) -> None:
        """Label workers, and nodes that use the Dataset. Raises: ApiError, OSError."""
        key = (resolved.namespace, resolved.name)
        label, drops = node_label(*key), resolved.clean_policy == ON_DEMAND
        changes = label_changes(label, nodes, workers, self._nodes(key), drops_consumers=drops)
        if None in changes.values():  # a pod may have come so lately that we were not told of its attachment yet
            changes = label_changes(label, nodes, workers, await self._nodes_now(key), drops_consumers=drops)
        exclusive = exclusive_changes(resolved, nodes, workers)
        wanted = {
            name: {one: of[name] for one, of in ((label, changes), (EXCLUSIVE_LABEL, exclusive)) if name in of}
            for name in changes | exclusive
        }
        for name, labels in wanted.items():
            await self._objects.merge(NODES, name, {"metadata": {"labels": labels}})
        await self._until_seen(wanted)

    async def _until_seen(self, wanted: Mapping[str, Mapping[str, str | None]]) -> None:
        """Wait until the watch has brought labels, or does not: the next Dataset chooses its nodes by them."""

        def is_seen() -> bool:
            known = {name: self._known.get(NODES, name) for name in wanted}
            return all(
                raw is None or raw["metadata"].get("labels", {}).get(label) == value
                for name, raw in known.items()
                for label, value in wanted[name].items()
            )

        for _ in range(SEEN_LOOKS):
            if is_seen():
                return
            await asyncio.sleep(SEEN_SECONDS / SEEN_LOOKS)

    def _nodes(self, key: Key) -> set[str]:
        return {_node(raw) for raw in self._known.all(ATTACHMENTS) if dataset_of_attachment(raw, self._known) == key}

    async def _nodes_now(self, key: Key) -> set[str]:
        """Ask the API server instead of our copy."""
        found = set()
        async for raw in self._objects.list(ATTACHMENTS):
            name = _volume(raw)
            if name:
                volume = self._known.get(VOLUMES, name) or await self._objects.get(VOLUMES, name)
                if volume is not None and dataset_of_volume(volume) == key:
                    found.add(_node(raw))
        return found


def dataset_of_volume(raw: dict[str, Any]) -> Key | None:
    """Return the Dataset whose cache pods serve a PV, None for volumes of others."""
    csi = raw.get("spec", {}).get("csi") or {}
    attributes = csi.get("volumeAttributes") or {}
    if csi.get("driver") != DRIVER_NAME or not (NAMESPACE in attributes and DATASET in attributes):
        return None
    return attributes[NAMESPACE], attributes[DATASET]


def dataset_of_attachment(raw: dict[str, Any], known: Known) -> Key | None:
    """Return the Dataset that an attachment is of, None if it is none of ours, or its volume is not known."""
    volume = known.get(VOLUMES, _volume(raw))
    return dataset_of_volume(volume) if volume is not None else None


def _volume(raw: dict[str, Any]) -> str:
    """Return the name of the PV, "" for attachments of other drivers."""
    spec = raw["spec"]
    return str(spec["source"].get("persistentVolumeName") or "") if spec["attacher"] == DRIVER_NAME else ""


def _node(raw: dict[str, Any]) -> str:
    return str(raw["spec"]["nodeName"])
