"""Applies objects unless they are what was applied before: at rest, the API server hears nothing.

State: a digest of what was applied for each Dataset, and when. Losing it costs calls, nothing else. Used from one event loop.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any

from csi.operator.app.known import Key
from csi.operator.objects import Objects

AGAIN_SECONDS = 600.0  # somebody may have changed or deleted what is ours


class Applied:
    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._done: dict[Key, tuple[str, float]] = {}

    async def apply(self, key: Key, raws: Sequence[Mapping[str, Any]]) -> None:
        """Bring a Dataset's objects to what they are to be. Raises: ApiError, OSError."""
        digest = hashlib.sha256(json.dumps(raws, sort_keys=True).encode()).hexdigest()
        before, at = self._done.get(key, ("", 0.0))
        if digest == before and time.monotonic() - at < AGAIN_SECONDS:
            return
        self._done.pop(key, None)
        for raw in raws:
            await self._objects.apply(raw)
        self._done[key] = digest, time.monotonic()

    def forget(self, key: Key) -> None:
        """Something of it is gone: apply everything the next time."""
        self._done.pop(key, None)
