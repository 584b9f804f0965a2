"""Finds daemons that live but hang: asked for a sign of life they give none, and nothing in them moves.

A daemon that is replaced without need costs readers a pause and looks like a crash, so silence alone is no proof. A daemon is
hung when, for HUNG_SECONDS on end, a question was unanswered *and* none of its threads ran, wanted to run, waited for a disk, or
was being debugged. That is a stopped process, or one whose threads wait for each other. A slow store cannot look like it: its
requests wait in worker threads or in tables, and whoever listens to the supervisor still answers. Neither can a busy machine
(threads want to run), a hanging disk (SIGKILL would wait for it, too), or a machine or container that was stopped as a whole:
then we did not run either, and begin to count anew.

State: per child, whether it owes an answer, and what was seen of it since. Called from the supervisor's loop; a tick sends one
message a child, and looks into /proc only where the last one was not answered.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from fusecache.custody import kernel
from fusecache.custody.child import Child
from fusecache.custody.event_loop import EventLoop

log = logging.getLogger(__name__)

TICK_SECONDS = 5.0
HUNG_SECONDS = 30.0
LATE_FACTOR = 1.5  # a tick that comes later than this says that we did not run ourselves
# States of /proc/PID/task/TID/stat in which a thread can be stuck for good: asleep, or stopped by a signal.
_STUCK_STATES = frozenset(b"ST")


@dataclass(slots=True)
class _Watch:
    owes_answer: bool = False
    seen: tuple[tuple[int, bytes], ...] | None = None  # what each thread had run
    stuck_seconds: float = 0.0


class Heartbeat:
    def __init__(
        self,
        loop: EventLoop,
        children: Callable[[], Iterable[Child]],
        tick_seconds: float = TICK_SECONDS,
        hung_seconds: float = HUNG_SECONDS,
    ) -> None:
        """`children`: those that said ready; they answer {"do": "ping"} with {"did": "pong"} (contract/process.py)."""
        self._loop = loop
        self._children = children
        self._tick_seconds = tick_seconds
        self._hung_seconds = hung_seconds
        self._watches: dict[Child, _Watch] = {}
        self._last_tick = 0.0

    def begin(self) -> None:
        self._last_tick = time.monotonic()
        self._loop.call_later(self._tick_seconds, self._tick)

    def answered(self, child: Child) -> None:
        self._watches.pop(child, None)

    def _tick(self) -> None:
        now = time.monotonic()
        was_late = now - self._last_tick > LATE_FACTOR * self._tick_seconds
        self._last_tick = now
        children = list(self._children())
        self._watches = {child: self._watches.get(child, _Watch()) for child in children}
        for child, watch in self._watches.items():
            if not watch.owes_answer:
                watch.owes_answer = child.ping()
            else:
                self._look_at(child, watch, was_late)
        self._loop.call_later(self._tick_seconds, self._tick)

    def _look_at(self, child: Child, watch: _Watch, was_late: bool) -> None:
        threads = kernel.threads_of(child.pid)
        seen = tuple((tid, ran) for tid, _, ran in threads)
        is_stuck = bool(threads) and all(state in _STUCK_STATES for _, state, _ in threads)
        if was_late or not is_stuck or seen != watch.seen:
            watch.stuck_seconds = 0.0
            watch.seen = seen if is_stuck else None
            return
        watch.stuck_seconds += self._tick_seconds
        if watch.stuck_seconds >= self._hung_seconds:
            log.error(
                "%s (pid %d) has given no sign of life for %.0f s and none of its threads runs: it is killed and replaced",
                child.name,
                child.pid,
                watch.stuck_seconds,
            )
            watch.stuck_seconds = 0.0
            child.kill()
