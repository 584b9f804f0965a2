"""Keys of objects that have to be looked at, each once however often it is named, by several workers, never by two at a time.

State: keys that wait, are due later, or are being worked on. Used from one event loop. An error is tried again after a growing
pause; nothing is kept of it, as whoever looks at an object looks at all of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

log = logging.getLogger(__name__)

Key = TypeVar("Key", bound=Hashable)
FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.5, 60.0


class WorkQueue(Generic[Key]):
    """`work(key)` looks at an object, and returns after how many seconds it is to be looked at again, None for never."""

    def __init__(
        self,
        work: Callable[[Key], Awaitable[float | None]],
        workers: int = 4,
        note: Callable[[str, float], None] = lambda result, seconds: None,
    ) -> None:
        """`note`: is told of each look: done or failed, and its seconds."""
        self._work = work
        self._note = note
        self._workers = workers
        self._waiting: dict[Key, None] = {}  # in the order of their coming
        self._busy: set[Key] = set()
        self._named_again: set[Key] = set()
        self._failures: dict[Key, int] = {}
        self._timers: dict[Key, asyncio.TimerHandle] = {}
        self._something = asyncio.Condition()

    def add(self, key: Key) -> None:
        """Have a key looked at soon; again, if it is being looked at just now."""
        timer = self._timers.pop(key, None)
        if timer is not None:
            timer.cancel()
        if key in self._busy:
            self._named_again.add(key)
            return
        self._waiting[key] = None
        asyncio.get_running_loop().create_task(self._wake())

    def add_later(self, key: Key, seconds: float) -> None:
        """As `add`, after some time, unless it is named before."""
        if key not in self._waiting and key not in self._timers:
            self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._due, key)

    def _due(self, key: Key) -> None:
        self._timers.pop(key, None)
        self.add(key)

    @property
    def depth(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    async def run(self) -> None:
        """Work for ever."""
        async with asyncio.TaskGroup() as group:
            for _ in range(self._workers):
                group.create_task(self._worker())

    async def _wake(self) -> None:
        async with self._something:
            self._something.notify()

    async def _worker(self) -> None:
        while True:
            async with self._something:
                await self._something.wait_for(lambda: bool(self._waiting))
                key = next(iter(self._waiting))
                del self._waiting[key]
                self._busy.add(key)
            try:
                await self._look_at(key)
            finally:
                self._busy.discard(key)
            if key in self._named_again:
                self._named_again.discard(key)
                self.add(key)

    async def _look_at(self, key: Key) -> None:
        began = time.monotonic()
        try:
            again = await self._work(key)
        except asyncio.CancelledError:
            raise
        except Exception as error:
            failures = self._failures[key] = self._failures.get(key, 0) + 1
            pause = min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(failures - 1, 10))
            log.warning("%s: %s; tried again in %.1f s", key, error, pause, exc_info=log.isEnabledFor(logging.DEBUG))
            self._later(key, pause)
            self._note("failed", time.monotonic() - began)
            return
        self._note("done", time.monotonic() - began)
        self._failures.pop(key, None)
        if again is not None:
            self._later(key, again)

    def _later(self, key: Key, seconds: float) -> None:
        with contextlib.suppress(KeyError):
            self._timers.pop(key).cancel()
        self._timers[key] = asyncio.get_running_loop().call_later(seconds, self._due, key)
