"""Events on objects: what happened, and what to do about it, where `kubectl describe` shows it. One object a cause, counted.

State: what was said lately, so that saying it again soon costs no call, and saying it again later one call only. However many
objects there are, what is said again takes turns. Used from one event loop.
"""

from __future__ import annotations

import datetime
import hashlib
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lightkube import ApiError

from csi.operator.app.known import EVENTS
from csi.operator.objects import Objects

log = logging.getLogger(__name__)

COMPONENT = "fusecache"
# Between the first two notes of one cause on one generation of an object, twice as long between the next two, and so on: an API
# server forgets events after an hour, and what does not change need not be written more often than that.
QUIET_SECONDS, LONGEST_QUIET_SECONDS = 1500.0, 3000.0
REPEATS_PER_MINUTE = 10.0  # of all objects together: 500 have their turn within the longest time between two notes
_MAX_MESSAGE = 1024
_MOST_REMEMBERED = 10_000


@dataclass(slots=True)
class _Said:
    """One cause: when it was noted last (monotonic) and for how long that is enough; what its event says."""

    at: float = 0.0
    quiet_seconds: float = 0.0
    first: str = ""
    count: int = 0


class Events:
    def __init__(self, objects: Objects, clock: Callable[[], float] = time.monotonic) -> None:
        self._objects, self._clock = objects, clock
        self._said: dict[str, _Said] = {}  # by the name of the event
        self._repeats, self._repeats_at = REPEATS_PER_MINUTE, clock()  # turns left at that time

    async def say(self, about: Mapping[str, Any], reason: str, message: str, *, is_warning: bool = True) -> None:
        """Note an event on an object. What goes wrong is logged: an event is no reason to fail."""
        metadata = about["metadata"]
        cause = f"{metadata.get('uid')}/{metadata.get('generation')}/{reason}/{message}"
        name = f"{metadata['name'][:200]}.{hashlib.sha256(cause.encode()).hexdigest()[:16]}"
        now = self._clock()
        said = self._said.get(name)
        if said is None:
            said = self._remember(name)
        elif now - said.at < said.quiet_seconds or not self._may_repeat(now):
            return
        said.at, said.quiet_seconds = now, min(max(2 * said.quiet_seconds, QUIET_SECONDS), LONGEST_QUIET_SECONDS)
        (log.warning if is_warning else log.info)("%s %s: %s", about["kind"], metadata["name"], message)
        try:
            await self._write(about, name, reason, message[:_MAX_MESSAGE], "Warning" if is_warning else "Normal", said)
        except (ApiError, OSError) as error:
            self._said.pop(name, None)  # said again at the next look
            log.error("event %s on %s was not written: %s", reason, metadata["name"], error)

    def _remember(self, name: str) -> _Said:
        if len(self._said) > _MOST_REMEMBERED:
            self._said.clear()
        return self._said.setdefault(name, _Said())

    def _may_repeat(self, now: float) -> bool:
        """Take a turn, if there is one."""
        earned = (now - self._repeats_at) * REPEATS_PER_MINUTE / 60
        self._repeats, self._repeats_at = min(self._repeats + earned, REPEATS_PER_MINUTE), now
        if self._repeats < 1:
            return False
        self._repeats -= 1
        return True

    async def _write(self, about: Mapping[str, Any], name: str, reason: str, message: str, kind: str, said: _Said) -> None:
        metadata = about["metadata"]
        namespace = metadata.get("namespace") or "default"
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if not said.count:  # an operator before this one may have said it
            before = await self._objects.get(EVENTS, name, namespace) or {}
            said.first, said.count = before.get("firstTimestamp") or stamp, before.get("count") or 0
        said.count += 1
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
                "firstTimestamp": said.first,
                "lastTimestamp": stamp,
                "count": said.count,
            }
        )
