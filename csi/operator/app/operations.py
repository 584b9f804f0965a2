"""Looks at operations: DataLoads are carried out (loads.py), the other kinds are refused in words. Keeps nothing in between."""

from __future__ import annotations

from typing import Any

from csi.operator.app.events import Events
from csi.operator.app.known import DATA_LOADS, own_kind
from csi.operator.app.load_statuses import COMPLETE, FAILED, failed_status
from csi.operator.app.loads import Loads
from csi.operator.app.operation_keys import OperationKey
from csi.operator.app.operation_objects import OperationObjects
from csi.operator.app.times import now
from csi.operator.model.kinds import KINDS
from csi.operator.objects import Objects

NOT_SUPPORTED = "DataOperationNotSupport"


class Operations:
    def __init__(self, objects: Objects, events: Events, loads: Loads) -> None:
        self._objects = objects
        self._events = events
        self._loads = loads
        self._own = OperationObjects(objects)

    async def look(self, key: OperationKey) -> float | None:
        """Return after how many seconds to look again. Raises: ApiError, OSError."""
        raw = await self._objects.get(own_kind(key.kind), key.name, key.namespace)
        if raw is None:
            return None
        return await (self._loads.look(raw) if key.kind == DATA_LOADS.kind else self._refuse(raw))

    async def _refuse(self, raw: dict[str, Any]) -> float | None:
        await self._own.let_go(raw)
        if raw["metadata"].get("deletionTimestamp"):
            return None
        if raw.get("status", {}).get("phase") not in (COMPLETE, FAILED):
            kind = raw["kind"]
            message = f"{kind} is not carried out by this version of fusecache: {KINDS[kind].instead}"
            await self._events.say(raw, NOT_SUPPORTED, message)
            status = failed_status(raw.get("status", {}), NOT_SUPPORTED, message, now())
            await self._own.write_status(raw, status)
            raw = {**raw, "status": {**raw.get("status", {}), **status}}
        ttl = raw.get("spec", {}).get("ttlSecondsAfterFinished")
        return await self._own.expire(raw, ttl if isinstance(ttl, int) else None)
