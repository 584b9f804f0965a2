"""Secrets of users and of Datasets, read one by one and never listed. State: what was read in the last seconds."""

from __future__ import annotations

import base64
import time
from typing import Any

from csi.operator.app.known import SECRETS, Key
from csi.operator.objects import Objects

KEPT_SECONDS = 8.0  # of a Secret that many Datasets share: a changed key is noticed by the next look after that


class SecretValues:
    """Used from one event loop."""

    def __init__(self, objects: Objects) -> None:
        self._objects = objects
        self._read: dict[Key, tuple[float, dict[str, Any] | None]] = {}

    async def get(self, namespace: str, name: str, *, is_fresh: bool = False) -> dict[str, str] | None:
        """Return the values of a Secret by their keys, None if there is none. `is_fresh`: the API server is asked in any case:
        what we make ourselves may just have gone with a Dataset of the same name. Raises: ApiError, OSError."""
        now = time.monotonic()
        at, raw = self._read.get((namespace, name), (-KEPT_SECONDS, None))
        if is_fresh or now - at >= KEPT_SECONDS or raw is None:
            raw = await self._objects.get(SECRETS, name, namespace)
            self._read = {key: one for key, one in self._read.items() if now - one[0] < KEPT_SECONDS}
            self._read[namespace, name] = now, raw
        if raw is None:
            return None
        return {key: base64.b64decode(value).decode(errors="replace") for key, value in (raw.get("data") or {}).items()}
