"""When a dead child is started again, and when its deaths mean that the index is damaged.

State: recent deaths. Pure: the clock is an argument. Called by the supervisor from its one thread.
"""

from __future__ import annotations

import signal
from collections import deque
from dataclasses import dataclass

from fusecache.contract.process import ExitCode

MAX_DELAY_SECONDS = 1.0
FIRST_DELAY_SECONDS = 0.05
SHORT_LIFE_SECONDS = 1.0
FREE_SHORT_LIVES = 3  # in a row, before the next one has to wait
# Somebody else's doing, and no reason to let readers wait: an upgrade, an operator, the kernel short of memory.
_KILLED_FROM_OUTSIDE = (-signal.SIGKILL, -signal.SIGTERM, 0)
DAMAGE_DEATHS = 3
DAMAGE_WINDOW_SECONDS = 10.0
_DAMAGE_SIGNALS = (-signal.SIGBUS, -signal.SIGSEGV, -signal.SIGABRT)  # what a mapped file full of noise does to its reader


@dataclass(frozen=True, slots=True)
class Death:
    """How a child ended.

    Attributes:
        status: exit status, or minus the signal's number.
        was_ready: it had said ready.
        said_why: it had said failed.
        lived_seconds: since it was told to start.
    """

    role: str
    status: int
    was_ready: bool
    said_why: bool
    lived_seconds: float = SHORT_LIFE_SECONDS


@dataclass(frozen=True, slots=True)
class Decision:
    delay_seconds: float
    rebuild_index: bool = False
    is_first_wait: bool = False  # replaced at once until now: worth a line in the log


class RestartPolicy:
    """A child that was ready is replaced at once. One that dies before being ready, or crashes soon after, again and again, is
    replaced ever later."""

    def __init__(self) -> None:
        self._unready_deaths: dict[str, int] = {}
        self._short_lives: dict[str, int] = {}
        self._damage_times: deque[float] = deque(maxlen=DAMAGE_DEATHS)

    def became_ready(self, role: str) -> None:
        self._unready_deaths.pop(role, None)

    def died(self, death: Death, now: float) -> Decision:
        """Decide about a child that ended unasked. `now`: monotonic seconds."""
        if self._means_damage(death.status, now):
            self._damage_times.clear()
            return Decision(0.0, rebuild_index=True)
        if death.said_why:
            return Decision(MAX_DELAY_SECONDS)
        if death.was_ready:
            return self._crashed(death)
        count = self._unready_deaths.get(death.role, 0)
        self._unready_deaths[death.role] = count + 1
        return Decision(0.0 if count == 0 else min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(count - 1, 8)))

    def _crashed(self, death: Death) -> Decision:
        if death.status in _KILLED_FROM_OUTSIDE:
            return Decision(0.0)
        if death.lived_seconds >= SHORT_LIFE_SECONDS:
            self._short_lives.pop(death.role, None)
            return Decision(0.0)
        count = self._short_lives[death.role] = self._short_lives.get(death.role, 0) + 1
        if count <= FREE_SHORT_LIVES:
            return Decision(0.0)
        delay = min(MAX_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(count - FREE_SHORT_LIVES - 1, 8))
        return Decision(delay, is_first_wait=count == FREE_SHORT_LIVES + 1)

    def _means_damage(self, status: int, now: float) -> bool:
        if status == ExitCode.INDEX_DAMAGED:
            return True
        if status not in _DAMAGE_SIGNALS:
            return False
        self._damage_times.append(now)
        return len(self._damage_times) == DAMAGE_DEATHS and now - self._damage_times[0] <= DAMAGE_WINDOW_SECONDS
