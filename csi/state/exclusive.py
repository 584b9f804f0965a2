"""One call at a time for each volume: a second one is told so, and a first one that its caller gave up ends what it began.

State: what is under way. Used from one event loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import TypeVar

from csi.errors import RpcError, aborted

log = logging.getLogger(__name__)

T = TypeVar("T")


class Exclusive:
    def __init__(self) -> None:
        self._under_way: dict[str, str] = {}
        self._tasks: set[asyncio.Task[object]] = set()

    async def run(self, key: str, what: str, act: Callable[[], Awaitable[T]]) -> T:
        """Do it alone, among those with the same key. Cancelled, it goes on by itself, and the key stays taken until it ends.

        Raises: ABORTED if something is under way.
        """
        other = self._under_way.get(key)
        if other is not None:
            raise aborted(f"{other} of {key!r} is still under way: it is to be asked for again when that has ended")
        self._under_way[key] = what

        async def alone() -> T:
            try:
                return await act()
            finally:
                del self._under_way[key]

        task: asyncio.Task[T] = asyncio.ensure_future(alone())
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return await asyncio.shield(task)

    def _ended(self, task: asyncio.Task[object]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, RpcError):
            log.debug("a call ended with: %s", error)

    async def wait_idle(self) -> None:
        """Return when nothing is under way any more."""
        while self._tasks:
            await asyncio.wait(list(self._tasks))
