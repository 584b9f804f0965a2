"""Which sources do not answer now: what is known of them is told without waiting.

State: per source its outage, if there is one, and how long its answers took lately. Owned by the questions (questions.py), in
fetch's loop; no method has a checkpoint. Every answer that passes the source's gate, also of reads, ends its outage.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from fusecache.contract.errors import CacheError
from fusecache.fetch.sources import OpenSource

ASK_AGAIN_SECONDS = 5.0  # from one question to the next while the source does not answer
PATIENCE_SECONDS = 5.0  # how long a question about what is known is waited for at most, whatever else the source answers
SILENCE_SECONDS = 1.0  # after so long without any answer the source counts as silent
SILENCE_SHARE = 0.1  # of the deadline, at most: a program waits once for a name, and then for the bytes
# A read that comes so soon after an outage was found is of somebody who waited for the name until then: a program needs
# milliseconds from the one to the other, on a busy machine some more. A guess.
SAME_PROGRAM_SECONDS = 0.5
SLOW_FACTOR = 4  # a source that takes its time is silent only after so many times what it took lately
SLOWNESS_DECAY = 0.9  # per answer


@dataclass(slots=True)
class _Outage:
    error: CacheError
    began_at: float
    ask_again_at: float
    waited: float


class Outages:
    """All times are monotonic seconds."""

    def __init__(self, deadline_seconds: float) -> None:
        self._longest_silence = deadline_seconds * SILENCE_SHARE
        self._outages: dict[int, _Outage] = {}
        self._took: dict[int, float] = {}

    def of(self, opened: OpenSource) -> CacheError | None:
        """Return why the source is not waited for, or None."""
        outage = self._outages.get(opened.id)
        if outage is not None and opened.gate.answered_at > outage.began_at:
            del self._outages[opened.id]
            return None
        return None if outage is None else outage.error

    def note(self, opened: OpenSource, error: CacheError, waited: float = 0.0) -> None:
        """It failed, or was silent for too long: readers `waited` for it so long in vain."""
        now = time.monotonic()
        known = self._outages.get(opened.id)
        if known is None:
            self._outages[opened.id] = _Outage(error, now, now + ASK_AGAIN_SECONDS, waited)
        else:
            known.error, known.ask_again_at = error, now + ASK_AGAIN_SECONDS

    def time_spent(self, source: int) -> float:
        """Return how much of its deadline whoever wants to read now has spent on the name already. Never more than
        SILENCE_SHARE of the deadline: so much sooner may somebody be told of an error who has just come."""
        outage = self._outages.get(source)
        is_recent = outage is not None and time.monotonic() - outage.began_at < SAME_PROGRAM_SECONDS
        return min(outage.waited, self._longest_silence) if outage is not None and is_recent else 0.0

    def may_ask(self, opened: OpenSource) -> bool:
        """Whether it is time to find out if the source is back; then the next time is later."""
        outage, now = self._outages[opened.id], time.monotonic()
        if now < outage.ask_again_at:
            return False
        outage.ask_again_at = now + ASK_AGAIN_SECONDS
        return True

    def forget_all(self) -> None:
        self._outages.clear()

    def note_answer(self, opened: OpenSource, seconds: float) -> None:
        """A question was answered after so long."""
        self._took[opened.id] = max(seconds, self._took.get(opened.id, 0.0) * SLOWNESS_DECAY)

    def patience(self, opened: OpenSource, since: float) -> float:
        """Return for how long to wait (0 or less: not any more) for the answer to a question that was asked, or got its last
        part, at `since`."""
        silence = max(SILENCE_SECONDS, SLOW_FACTOR * self._took.get(opened.id, 0.0))
        silence = min(silence, self._longest_silence)
        until = min(since + PATIENCE_SECONDS, max(since, opened.gate.answered_at) + silence)
        return until - time.monotonic()
