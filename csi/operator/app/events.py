"""Events on objects: what happened, and what to do about it, where `kubectl describe` shows it. One object a cause, counted.

State: what was said lately, so that saying it again soon costs no call. Used from one event loop.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import time
from collections.abc import Mapping
from typing import Any

from lightkube import ApiError

from csi.operator.app.known import EVENTS
from csi.operator.objects import Objects

log = logging.getLogger(__name__)

COMPONENT = "fusecache"
# Between the first two notes of one cause on one generation of an object, twice as long between the next two, and so on: an API
# server forgets events after an hour, and what does not change need not be written more often than that.
QUIET_SECONDS, LONGEST_QUIET_SECONDS = 1500.0, 3000.0
_MAX_MESSAGE = 1024
_MOST_REMEMBERED = 10_000


class Events:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._said: dict[str, tuple[float, float]] = {}  # name → when, for how long that is enough

    async def say(self, about: Mapping[str, Any], reason: str, message: str, *, is_warning: bool = True) -> None:
        """Note an event on an object. What goes wrong is logged: an event is no reason to fail."""
        metadata = about["metadata"]
        cause = f"{metadata.get('uid')}/{metadata.get('generation')}/{reason}/{message}"
        name = f"{metadata['name'][:200]}.{hashlib.sha256(cause.encode()).hexdigest()[:16]}"
        now = time.monotonic()
        said, quiet = self._said.get(name, (-LONGEST_QUIET_SECONDS, 0.0))
        if now - said < quiet:
            return
        if len(self._said) > _MOST_REMEMBERED:
            self._said.clear()
        self._said[name] = now, min(max(2 * quiet, QUIET_SECONDS), LONGEST_QUIET_SECONDS)
        (log.warning if is_warning else log.info)("%s %s: %s", about["kind"], metadata["name"], message)
        namespace = metadata.get("namespace") or "default"
        try:
            await self._write(about, namespace, name, reason, message[:_MAX_MESSAGE], "Warning" if is_warning else "Normal")
        except (ApiError, OSError) as error:
            self._said.pop(name, None)  # said again at the next look
            log.error("event %s on %s was not written: %s", reason, metadata["name"], error)

    async def _write(self, about: Mapping[str, Any], namespace: str, name: str, reason: str, message: str, kind: str) -> None:
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        before = await self._objects.get(EVENTS, name, namespace)
        metadata = about["metadata"]
        await self._objects.apply(
            {
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {"name": name, "namespace": namespace},
                "involvedObject": {
                    "apiVersion": about["apiVersion"],
                    "kind": about["kind"],
                    "name": metadata["name"],
                    "namespace": metadata.get("namespace", ""),
                    "uid": metadata.get("uid", ""),
                    "resourceVersion": metadata.get("resourceVersion", ""),
                },
                "type": kind,
                "reason": reason,
                "message": message,
                "source": {"component": COMPONENT},
                "firstTimestamp": before["firstTimestamp"] if before and before.get("firstTimestamp") else stamp,
                "lastTimestamp": stamp,
                "count": (before.get("count", 0) if before else 0) + 1,
            }
        )
