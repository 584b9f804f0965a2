"""Files that were closed, in a line: when each is brought to the store, and how many at once.

Owns the line and the task that goes along it; fetch's loop only. Nothing of it must survive: whoever starts puts what the index
knows into it again. Invariant: a file that is in the line, or that `settle` gave back, is settled some time after it is due.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable

import trio

from fusecache.index.inodes import InodeNo

AT_ONCE = 8  # files that are settled together
RETRY_SECONDS = 5.0  # after an upload that nobody waits for has failed
# What is due waits on while programs are writing, with whom it would share the processor: so many times its delay, and not more
# files than that.
BUSY_SECONDS = 0.3
MOST_EXTRA_DELAYS = 5.0
MOST_WAITING = 10_000


class ClosedFiles:
    """`settle` brings one up; it returns whether that is done with, one way or the other. `delay_seconds`: how long it waits."""

    def __init__(
        self, settle: Callable[[InodeNo], Awaitable[bool]], delay_seconds: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._settle = settle
        self._delay_seconds = delay_seconds
        self._clock = clock
        self._line: OrderedDict[InodeNo, float] = OrderedDict()  # when each is due
        self._news = trio.Event()
        self._limiter = trio.CapacityLimiter(AT_ONCE)
        self._busy_at = -BUSY_SECONDS
        self._hurries = False
        self.is_short = False  # of room: what is in the line is due

    def put(self, inode: InodeNo, *, at_once: bool = False) -> None:
        """Settle a file after the usual delay; one that is in the line already keeps its place."""
        if at_once:
            self._line[inode] = self._clock()
            self._line.move_to_end(inode, last=False)
        else:
            self._line.setdefault(inode, self._clock() + self._delay_seconds)
        self._news.set()

    def note_writing(self) -> None:
        """A program waits for a file of its own to be safe."""
        self._busy_at = self._clock()

    def hurry(self) -> None:
        """From now on everything is due."""
        self._hurries = True
        self._news.set()

    async def run(self, nursery: trio.Nursery) -> None:
        while True:
            self._news = trio.Event()
            if not self._line:
                await self._news.wait()
                continue
            inode, due = next(iter(self._line.items()))
            wait = self._wait(due)
            if wait > 0:
                with trio.move_on_after(wait):
                    await self._news.wait()
                if self._wait(due) > 0:
                    await trio.sleep(min(BUSY_SECONDS, wait))  # news of others come often
                continue
            turn = object()
            await self._limiter.acquire_on_behalf_of(turn)
            self._line.pop(inode, None)
            nursery.start_soon(self._run_one, inode, turn)

    def _wait(self, due: float) -> float:
        """Return for how many seconds a file is left alone yet."""
        now = self._clock()
        if self._hurries or self.is_short or len(self._line) > MOST_WAITING:
            return 0.0
        if self._delay_seconds and due <= now < due + MOST_EXTRA_DELAYS * self._delay_seconds:
            return self._busy_at + BUSY_SECONDS - now
        return due - now

    async def _run_one(self, inode: InodeNo, turn: object) -> None:
        try:
            is_done = await self._settle(inode)
        finally:
            self._limiter.release_on_behalf_of(turn)
        if not is_done:
            await trio.sleep(RETRY_SECONDS)
            self.put(inode, at_once=True)
