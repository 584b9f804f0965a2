"""A bounded memory of what was done a moment ago, so that hints go to fetch once and not with every request. Thread-safe."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable


class Recently:
    """Invariant: at most `limit` keys; the oldest goes first."""

    def __init__(self, seconds: float, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._limit = limit
        self._clock = clock
        self._done: dict[Hashable, float] = {}
        self._lock = threading.Lock()

    def first_time(self, key: Hashable) -> bool:
        """Return whether `key` was not seen within `seconds`, and note it as seen now if so."""
        now = self._clock()
        with self._lock:
            seen = self._done.get(key)
            if seen is not None and now - seen < self._seconds:
                return False
            self._done.pop(key, None)
            self._done[key] = now
            if len(self._done) > self._limit:
                del self._done[next(iter(self._done))]
            return True
