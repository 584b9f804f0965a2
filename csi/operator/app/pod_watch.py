"""Watches our own pods, those of caches and loaders, by label: a cluster has many others, which kopf would bring as well.

State: none beside what it notes in `Known`. Used from one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from lightkube import ApiError

from csi.operator.app.known import PODS, Key, Known, key_of
from csi.operator.objects import Objects
from csi.operator.render.object_names import DATASET_LABEL, MANAGED_BY

log = logging.getLogger(__name__)

PAUSE_SECONDS = 2.0  # after a watch that failed
# A watch that brings nothing may be one whose connection something on the way has dropped, without a word to either end.
WATCH_SECONDS = 330.0


class PodWatch:
    def __init__(
        self,
        objects: Objects,
        known: Known,
        look_at: Callable[[Key], None],
        on_broken: Callable[[], None] = lambda: None,
        watch_seconds: float = WATCH_SECONDS,
    ) -> None:
        """`on_broken`: is told that the watch broke, and that others may have broken with it."""
        self._objects = objects
        self._on_broken = on_broken
        self._known = known
        self._look_at = look_at
        self._watch_seconds = watch_seconds

    async def run(self) -> None:
        """Watch for ever: a watch that ends, or is old, is begun again with a list."""
        while True:
            try:
                async with asyncio.timeout(self._watch_seconds) as limit:
                    version = await self._list()
                    async for what, raw in self._objects.watch(PODS, version, labels=MANAGED_BY):
                        self._note(what, raw)
            except (ApiError, OSError) as error:
                if not limit.expired():
                    log.info("the watch of pods ended and is begun again: %s", error)
                    self._on_broken()
            await asyncio.sleep(PAUSE_SECONDS)

    async def _list(self) -> str:
        """Note what there is, and forget what is not there any more. Return the version to go on from."""
        pods, version = await self._objects.list_with_version(PODS, labels=MANAGED_BY)
        there = {key_of(raw) for raw in pods}
        for raw in list(self._known.all(PODS)):
            if key_of(raw) not in there:
                self._note("DELETED", raw)
        for raw in pods:
            self._note(None, raw)
        return version

    def _note(self, what: str | None, raw: dict[str, Any]) -> None:
        metadata = raw["metadata"]
        before = self._known.get(PODS, metadata["name"], metadata["namespace"])
        self._known.note(PODS, what, raw)
        dataset = metadata.get("labels", {}).get(DATASET_LABEL)
        if dataset and (what == "DELETED" or before is None or _counts(before) != _counts(raw)):
            self._look_at((metadata["namespace"], dataset))


def _counts(pod: dict[str, Any]) -> tuple[Any, ...]:
    """What of a pod changes what is to be done, or shown."""
    status = pod.get("status", {})
    ready = [one["status"] for one in status.get("conditions", ()) if one["type"] in ("Ready", "PodScheduled")]
    reasons = [one.get("state", {}).get("waiting", {}).get("reason") for one in status.get("containerStatuses", ())]
    return status.get("phase"), status.get("podIP"), ready, reasons, pod["metadata"].get("deletionTimestamp")
