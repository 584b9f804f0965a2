"""Whether the operation that another one runs after is complete, and where it ran. State: none. Raises: ApiError, OSError."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from csi.operator.app.events import Events
from csi.operator.app.known import own_kind
from csi.operator.app.load_statuses import COMPLETE, FAILED
from csi.operator.app.operation_keys import OperationKey, operation_of, predecessor_of
from csi.operator.objects import Objects
from csi.operator.resolved_load import Predecessor

NOT_FOUND, WAITING = "DataOperationNotFound", "DataOperationWaiting"
_MOST_STEPS = 100  # of a chain that is followed


@dataclass(frozen=True, slots=True)
class Turn:
    """`has_come`: what was waited for is complete. `circle`: why it never will be, in words. `place`: where to run."""

    has_come: bool
    circle: str = ""
    place: dict[str, Any] = field(default_factory=dict)


class Predecessors:
    def __init__(self, objects: Objects, events: Events) -> None:
        self._objects = objects
        self._events = events

    async def turn_of(self, raw: dict[str, Any], predecessor: Predecessor) -> Turn:
        """Look at what an operation runs after, and say what it waits for."""
        key = OperationKey(predecessor.kind, predecessor.namespace, predecessor.name)
        found = await self._get(key)
        if found is None:
            await self._events.say(raw, NOT_FOUND, f"there is no {key}, which this one runs after: it waits until there is")
            return Turn(False)
        if circle := await self._circle(operation_of(raw), found):
            return Turn(False, circle)
        phase = found.get("status", {}).get("phase", "")
        if phase == FAILED:
            await self._events.say(raw, WAITING, f"{key} failed: this one waits until it is replaced by one that is complete")
            return Turn(False)
        if phase != COMPLETE:
            await self._events.say(raw, WAITING, f"{key} is not complete yet: this one waits for it", is_warning=False)
            return Turn(False)
        at = found if predecessor.place is None else await self._get(OperationKey(*predecessor.place))
        return Turn(True, place=(at or {}).get("status", {}).get("nodeAffinity") or {})

    async def _get(self, key: OperationKey) -> dict[str, Any] | None:
        return await self._objects.get(own_kind(key.kind), key.name, key.namespace)

    async def _circle(self, own: OperationKey, found: dict[str, Any]) -> str:
        """Return the way on which an operation waits for itself, "" if it does not."""
        way = [own]
        at: dict[str, Any] | None = found
        while at is not None and len(way) < _MOST_STEPS:
            way.append(operation_of(at))
            if way[-1] == own:
                return f"operations wait for each other in a circle: {' → '.join(map(str, way))}"
            following = predecessor_of(at)
            if following is None or following in way[1:]:
                return ""  # somebody else's circle is said to them
            at = await self._get(following)
        return ""
