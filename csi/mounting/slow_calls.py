"""Calls that wait for a daemon, in a thread each, with a limit in time: what comes late is undone.

No state. The threads are daemons: one that waits at a mount that nobody serves neither keeps the driver from ending, nor takes a
place in the pool that other calls want.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


async def in_time(seconds: float, call: Callable[[], T], undo: Callable[[T], None]) -> T:
    """Return what `call` returns, or raise what it raises. Raises: TimeoutError; then, and if the caller is cancelled, `undo`
    gets what `call` returns in the end."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[T] = loop.create_future()

    def tell(callback: Callable[[], None]) -> bool:
        """Return False if nobody can be told any more."""
        with contextlib.suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(callback)
            return True
        return False

    def deliver(result: T) -> None:
        if answer.done():
            undo(result)
        else:
            answer.set_result(result)

    def fail(error: BaseException) -> None:
        if not answer.done():
            answer.set_exception(error)

    def run() -> None:
        try:
            result = call()
        except BaseException as error:
            problem = error  # `error` is gone after this block
            tell(lambda: fail(problem))
        else:
            if not tell(lambda: deliver(result)):
                undo(result)

    threading.Thread(target=run, daemon=True, name="slow-call").start()
    try:
        async with asyncio.timeout(seconds):
            return await answer
    except BaseException:
        if answer.done() and not answer.cancelled() and answer.exception() is None:  # it came at the same moment
            undo(answer.result())
        raise
