"""Remembering what was just asked of fetch, so that its answer counts even if older than the TTL when it is looked at.

A listing that takes longer than the TTL, or a TTL of 0, would else miss for ever: what matters is that the store was asked
after the reader came. State: a bounded dictionary of questions, for the life of the process; losing one costs one more
question. Thread-safe."""

from __future__ import annotations

import threading
from typing import NamedTuple

from fusecache.contract.messages import Op
from fusecache.index.inodes import InodeNo

QuestionKey = tuple[Op, InodeNo, bytes]

MAX_QUESTIONS = 8192  # four times the requests that the kernel leaves waiting in one serve process (max_background 2048)
FORGET_SECONDS = 300.0  # longer than any deadline: nobody waits for this answer any more
# fetch promises that a call does not miss twice for the same reason; if it did, the last answer is taken as it is. High enough
# that some readers who ask the same at once do not use up each other's rounds.
MAX_ROUNDS = 6


class Question(NamedTuple):
    asked_at: float  # wall clock of the first time
    listing_pass: int  # of the directory at that time
    rounds: int


class Questions:
    def __init__(self) -> None:
        self._asked: dict[QuestionKey, Question] = {}
        self._lock = threading.Lock()

    def ask(self, key: QuestionKey, now: float, listing_pass: int) -> None:
        """Remember that a Miss is raised for it."""
        with self._lock:
            old = self._asked.pop(key, None)
            if old is not None and now - old.asked_at < FORGET_SECONDS:
                self._asked[key] = old._replace(rounds=old.rounds + 1)
            else:
                self._asked[key] = Question(now, listing_pass, 1)
            if len(self._asked) > MAX_QUESTIONS:
                del self._asked[next(iter(self._asked))]

    def get(self, key: QuestionKey, now: float) -> Question | None:
        found = self._asked.get(key)
        return found if found is not None and now - found.asked_at < FORGET_SECONDS else None

    def answered(self, key: QuestionKey) -> None:
        """Forget it: the next one who comes has not asked."""
        if self._asked:  # nearly always empty on the way of a hit
            with self._lock:
                self._asked.pop(key, None)

    def __len__(self) -> int:
        return len(self._asked)
