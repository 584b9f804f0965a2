"""Before a Dataset goes, its cache pods remove what they have cached: nobody else can, on the node that keeps it.

State: since when which Dataset's pods are asked. Used from one event loop.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from csi.operator.app.daemons import Daemons
from csi.operator.app.events import Events
from csi.operator.app.known import Key, Known, key_of
from csi.operator.app.observation import addresses, cache_pods
from csi.operator.app.secret_values import SecretValues
from csi.operator.render.credentials import OWN_KEY
from csi.operator.render.object_names import token_name

ERASE_SECONDS = 120.0  # how long pods are asked that do not answer: a container that ended is started again within that
SILENT_SECONDS = 10.0  # nobody needs to be told of what takes no longer
ERROR_DELETE = "ErrorDeleteDataset"
DISCARD_ANNOTATION = "fusecache.io/discard-unsaved"  # of a Dataset: files that are not in the store may be lost


class Erasing:
    def __init__(
        self, known: Known, events: Events, daemons: Daemons, secrets: SecretValues, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._known, self._events, self._daemons, self._secrets, self._clock = known, events, daemons, secrets, clock
        self._since: dict[Key, float] = {}

    async def is_over(self, raw: dict[str, Any]) -> bool:
        """Have the cache pods of a Dataset remove what they have cached. Return whether that is done, or has been tried for long
        enough; an event says what it waits for. Raises: ApiError, OSError."""
        key = key_of(raw)
        pods = [pod for pod in cache_pods(self._known, key) if pod.get("status", {}).get("phase") == "Running"]
        token = (await self._secrets.get(key[0], token_name(key[1]), is_fresh=True) or {}).get(OWN_KEY, "")
        if not pods or not token:
            self._since.pop(key, None)
            return True
        discards = raw["metadata"].get("annotations", {}).get(DISCARD_ANNOTATION) == "true"
        erased = await self._daemons.erase(addresses(pods), token, discards=discards)
        if erased.refusals:
            await self._events.say(raw, ERROR_DELETE, erased.refusals[0])
            return False
        waited = self._clock() - self._since.setdefault(key, self._clock())
        if erased.unfinished and waited < ERASE_SECONDS:
            if waited >= SILENT_SECONDS:
                which = _named(pods, erased.unfinished)
                message = f"waits {ERASE_SECONDS:.0f} s at most until {which} has removed what it has cached"
                await self._events.say(raw, ERROR_DELETE, f"{message}: `kubectl describe pod` says whether it runs")
            return False
        if erased.unfinished:
            which = _named(pods, erased.unfinished)
            await self._events.say(raw, ERROR_DELETE, f"{which} did not remove what it has cached: it stays on its node")
        self._since.pop(key, None)
        return True


def _named(pods: Iterable[Mapping[str, Any]], unfinished: Sequence[str]) -> str:
    """Return who is at these addresses; of many the first three."""
    found = [pod for pod in pods if pod["status"].get("podIP") in unfinished]
    names = sorted(f"{pod['metadata']['name']} on {pod['spec'].get('nodeName')}" for pod in found)
    return f"cache pod {', '.join(names[:3])}" + (f" and {len(names) - 3} more" if len(names) > 3 else "")
