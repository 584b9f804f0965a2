"""What is done with the object of an operation, whatever it does: finalizers, owner, status, and its end after a while.

State: none. Raises: ApiError, OSError.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csi.operator.app.known import DATASETS, Key, own_kind
from csi.operator.app.load_statuses import differs, seconds_left
from csi.operator.app.times import now
from csi.operator.model.kinds import KINDS
from csi.operator.names import API_VERSION, finalizer
from csi.operator.objects import Objects


class OperationObjects:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects

    async def write_status(self, raw: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        """What is the same already is not written."""
        if differs(raw.get("status", {}), status):
            metadata = raw["metadata"]
            await self._objects.merge(
                own_kind(raw["kind"]), metadata["name"], {"status": dict(status)}, metadata["namespace"], is_status=True
            )

    async def adopt(self, raw: Mapping[str, Any], dataset: Key) -> None:
        """Put our finalizer on it, and none of somebody who is not there any more; it goes with its Dataset."""
        ours, former = finalizer(raw["kind"]), KINDS[raw["kind"]].former_finalizer
        before = list(raw["metadata"].get("finalizers", ()))
        finalizers = [one for one in before if one not in (ours, former)] + [ours]
        owners = raw["metadata"].get("ownerReferences", [])
        if not any(owner["kind"] == "Dataset" for owner in owners):
            found = await self._objects.get(DATASETS, dataset[1], dataset[0])
            if found is not None:
                owner = {"apiVersion": API_VERSION, "kind": "Dataset", "name": dataset[1], "uid": found["metadata"]["uid"]}
                owners = [*owners, owner]
        if set(finalizers) != set(before) or owners != raw["metadata"].get("ownerReferences", []):
            await self._patch(raw, {"finalizers": finalizers, "ownerReferences": owners})

    async def let_go(self, raw: Mapping[str, Any]) -> None:
        """Take off our finalizer, and that of a controller before us."""
        before = raw["metadata"].get("finalizers", [])
        left = [one for one in before if one not in (finalizer(raw["kind"]), KINDS[raw["kind"]].former_finalizer)]
        if left != before:
            await self._patch(raw, {"finalizers": left})

    async def expire(self, raw: Mapping[str, Any], ttl_seconds: int | None) -> float | None:
        """Delete what ended long enough ago. Return after how many seconds to look again."""
        if ttl_seconds is None:
            return None
        left = seconds_left(raw.get("status", {}), ttl_seconds, now())
        if left > 0:
            return left
        metadata = raw["metadata"]
        await self._objects.delete(own_kind(raw["kind"]), metadata["name"], metadata["namespace"])
        return None

    async def _patch(self, raw: Mapping[str, Any], metadata: Mapping[str, Any]) -> None:
        """The version keeps others' changes: who comes too late looks again."""
        own = raw["metadata"]
        patch = {"metadata": {**metadata, "resourceVersion": own["resourceVersion"]}}
        await self._objects.merge(own_kind(raw["kind"]), own["name"], patch, own["namespace"])
