"""Finds what was deleted while nobody watched: a watch that broke is begun again with a list, and a list names what is there.

State: when to look next. Used from one event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging

from lightkube import ApiError

from csi.operator.app.known import WATCHED, key_of
from csi.operator.app.watching import Watcher
from csi.operator.objects import Kind, Objects

log = logging.getLogger(__name__)

FIRST_SECONDS = 20.0  # after the start: between our first list and the watches'
EVERY_SECONDS = 900.0  # some twenty calls; a watch may break that nobody told us of
SOON_SECONDS = 5.0  # after a watch broke: others may be about to
PAUSE_SECONDS = 5.0  # after a look that failed


class LostSight:
    def __init__(self, objects: Objects, watcher: Watcher) -> None:
        self._objects = objects
        self._watcher = watcher
        self._is_wanted = asyncio.Event()

    def look_soon(self) -> None:
        self._is_wanted.set()

    async def run(self) -> None:
        """Look for ever."""
        await asyncio.sleep(FIRST_SECONDS)
        while True:
            self._is_wanted.clear()
            try:
                for kind in WATCHED:
                    await self._look(kind)
            except (ApiError, OSError) as error:
                log.info("what was deleted unseen is looked for again soon: %s", error)
                await asyncio.sleep(PAUSE_SECONDS)
                continue
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_wanted.wait(), EVERY_SECONDS)
                await asyncio.sleep(SOON_SECONDS)

    async def _look(self, kind: Kind) -> None:
        """Tell of each object of a kind that is known and is not there."""
        known = self._watcher.known
        if not any(True for _ in known.all(kind)):
            return
        there = {key_of(raw) async for raw in self._objects.list(kind)}
        for raw in list(known.all(kind)):
            namespace, name = key = key_of(raw)
            if key in there or await self._objects.get(kind, name, namespace or None) is not None:
                continue  # the latter came after the list
            if known.get(kind, name, namespace) is not None:
                log.info("%s %s was deleted unseen", kind.kind, "/".join(filter(None, key)))
                self._watcher.note(kind, "DELETED", raw)
