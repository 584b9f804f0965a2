"""Questions to stores about names: asked again while it is worth it, and waited for only as long as it is worth it.

Owned by the listing, in fetch's loop. A store that is known not to answer is asked from time to time, and nobody waits for that:
what is known of it is told meanwhile (outages.py). The question goes on without those who waited for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import trio

from fusecache.base.counters import CounterPage
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.outages import PATIENCE_SECONDS, Outages
from fusecache.fetch.sources import OpenSource
from fusecache.fetch.workers import Priority

T = TypeVar("T")


@dataclass(slots=True, eq=False)
class Question:
    """What a source was asked, by a task of its own: whoever waits may leave before it ends (`is_left`)."""

    pages: int = 0
    finished: bool = False
    is_left: bool = False
    error: CacheError | None = None
    progress: trio.Event = field(default_factory=trio.Event)

    def advance(self) -> None:
        event, self.progress = self.progress, trio.Event()
        event.set()

    def end(self, error: CacheError | None) -> None:
        self.finished, self.error = True, None if error is None else error.without_origin()
        self.advance()


Q = TypeVar("Q", bound=Question)


class Questions:
    def __init__(self, deadline_seconds: float, counters: CounterPage) -> None:
        self._deadline_seconds = deadline_seconds
        self._counters = counters
        self.outages = Outages(deadline_seconds)
        self.last_error = ""
        self.last_error_at = 0.0

    def deadline(self, *, is_known: bool) -> float:
        """Return until when to ask. Nobody waits so long for what is known (`ask_again`), but a late answer is taken."""
        return time.monotonic() + (PATIENCE_SECONDS if is_known else self._deadline_seconds)

    async def call(self, opened: OpenSource, run: Callable[[], T], deadline: float, priority: Priority = Priority.DEMAND) -> T:
        """Ask a source, again and again until the deadline while it is worth it. A call that is late by then goes on alone."""
        pause = 0.05
        while True:
            self._counters.add(Counter.REMOTE_REQUESTS)
            try:
                began = time.monotonic()
                with trio.move_on_after(max(0.0, deadline - began)):
                    result: T = await opened.gate.call(run, priority)
                    self.outages.note_answer(opened, time.monotonic() - began)
                    return result
                raise CacheError(ErrorKind.UNAVAILABLE, f"{opened.source.url}: the store did not answer in time")
            except CacheError as error:
                self._counters.add(Counter.REMOTE_ERRORS)
                pause = max(pause, min(error.retry_after_seconds or 0.0, 5.0))
                if not error.is_retryable or time.monotonic() + pause > deadline:
                    if error.is_retryable:
                        self._note_outage(opened, error)
                    raise
                self._counters.add(Counter.REMOTE_RETRIES)
            await trio.sleep(pause)
            pause = min(2.0, pause * 2)

    async def ask_again(self, opened: OpenSource, ask: Callable[[], Q], is_enough: Callable[[Q], bool]) -> Q:
        """Put a question whose answer is known, if an old one. Return it when it is answered (enough).

        Raises: its error, or that of the source's outage. A source that is known not to answer is asked from time to time, and
        nobody waits for that."""
        outage = self.outages.of(opened)
        if outage is not None:
            if self.outages.may_ask(opened):
                ask()
            raise outage
        question = ask()
        asked_at = since = time.monotonic()
        pages = question.pages
        while not question.finished and not is_enough(question):
            if question.pages != pages:
                since, pages = time.monotonic(), question.pages
            patience = self.outages.patience(opened, since)
            if patience <= 0:
                error = CacheError(ErrorKind.UNAVAILABLE, f"{opened.source.url}: the store did not answer in time")
                self._note_outage(opened, error, time.monotonic() - asked_at)
                question.is_left = True
                raise error
            with trio.move_on_after(patience):
                await question.progress.wait()
            outage = self.outages.of(opened)
            if outage is not None and not question.finished:
                question.is_left = True
                raise outage
        if question.error is not None:
            raise question.error
        return question

    def note_error(self, error: CacheError) -> None:
        """For the status of the mount."""
        self.last_error, self.last_error_at = str(error), time.time()

    def _note_outage(self, opened: OpenSource, error: CacheError, waited: float = 0.0) -> None:
        self.note_error(error)
        self.outages.note(opened, error, waited)


def is_outage(error: CacheError) -> bool:
    return error.kind in (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT, ErrorKind.DENIED)
