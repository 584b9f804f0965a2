"""The next page of a listing, asked for while the one before is stored. No state beyond one question and its answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.protocol import Page


class PageAhead:
    """A page that is asked for in a task of its own. If nobody wants the result any more, it is dropped."""

    def __init__(self, ask: Callable[[], Awaitable[Page]]) -> None:
        self._ask = ask
        self.begun = trio.Event()
        self._ended = trio.Event()
        self._outcome: Page | CacheError | None = None

    async def run(self) -> None:
        self.begun.set()
        try:
            self._outcome = await self._ask()
        except CacheError as error:
            self._outcome = error
        finally:
            self._ended.set()

    async def result(self) -> Page:
        await self._ended.wait()
        if isinstance(self._outcome, Page):
            return self._outcome
        raise self._outcome or CacheError(ErrorKind.INTERRUPTED, "the listing was ended")
