"""Whether what the index says of a name or a listing may still be told: not older than the TTL, or newer than the question.

State: the questions under way (questions.py). Any thread.
"""

from __future__ import annotations

from collections.abc import Callable

from fusecache.contract.messages import Op
from fusecache.fuse.filesystem_protocol import Miss
from fusecache.index.directories import Directory, DirectoryFlag
from fusecache.index.inodes import InodeNo
from fusecache.index.names import NameRow
from fusecache.serve.questions import MAX_ROUNDS, QuestionKey, Questions

# A directory that only leads to the places of sources is as the spec says: it is never listed and never out of date.
_COMPLETE = int(DirectoryFlag.COMPLETE)  # plain ints: & with an IntFlag takes longer than the rest of the check
_SYNTHETIC = int(DirectoryFlag.SYNTHETIC)
_FROM_THE_SPEC = _SYNTHETIC | _COMPLETE
_CLOCK_BACK_SECONDS = 5.0  # a time stamp further ahead than this comes from a clock that was set back since: not fresh
_CHECKED_AT_ROUNDING = 1.0  # NameRow.checked_at holds whole seconds: it may be this much earlier than the check
# While a listing is under way nobody can say how old its first names are: short enough to come back soon, long enough for `ls
# -l`. A guess.
_INCOMPLETE_TTL_SECONDS = 5.0


class Freshness:
    def __init__(self, ttl_seconds: float, clock: Callable[[], float]) -> None:
        self._ttl = ttl_seconds
        self._clock = clock
        self._questions = Questions()

    def check_name(self, parent: InodeNo, name: bytes, directory: Directory | None, row: NameRow | None, by_name: bool) -> float:
        """Return for how many seconds the kernel may keep the answer that these rows give (row None: the name does not exist).

        `by_name`: the listing is inexact, so that only the check of the name itself counts. Raises: Miss(LOOKUP)."""
        if directory is not None and directory.flags & _FROM_THE_SPEC == _FROM_THE_SPEC:
            return self._ttl
        now = self._clock()
        listed_at = directory.listed_at if directory is not None and directory.flags & _COMPLETE and not by_name else 0.0
        checked_at = 0.0 if row is None else row.checked_at
        left = self._left(max(listed_at, checked_at), now)
        key: QuestionKey = (Op.LOOKUP, parent, name)
        if left > 0.0:
            self._questions.answered(key)
            return left
        question = self._questions.get(key, now)
        if question is not None:
            newest = max(listed_at, checked_at + _CHECKED_AT_ROUNDING if checked_at else 0.0)
            has_answer = row is not None or (directory is not None and directory.is_complete)
            if has_answer and (newest >= question.asked_at or question.rounds >= MAX_ROUNDS):
                self._questions.answered(key)
                return 0.0
        self._questions.ask(key, now, 0)
        raise Miss(Op.LOOKUP, parent, name=name)

    def check_listing(self, inode: InodeNo, directory: Directory | None) -> float:
        """Return for how many seconds the kernel may keep entries of this listing. Raises: Miss(LIST) if it has to be listed
        anew first.

        A first listing is shown as it grows, after one question (which starts it if nobody does it): its pages are waited for
        one by one."""
        if directory is not None and directory.flags & _FROM_THE_SPEC == _FROM_THE_SPEC:
            return self._ttl
        now = self._clock()
        left = self._left(directory.listed_at, now) if directory is not None and directory.is_complete else 0.0
        key: QuestionKey = (Op.LIST, inode, b"")
        if left > 0.0:
            self._questions.answered(key)
            return left
        listing_pass = 0 if directory is None else directory.listing_pass
        question = self._questions.get(key, now)
        if question is not None and directory is not None:
            is_newer = directory.listed_at >= question.asked_at or listing_pass > question.listing_pass
            if is_newer or not directory.is_complete or question.rounds >= MAX_ROUNDS:
                self._questions.answered(key)
                return 0.0 if directory.is_complete else min(self._ttl, _INCOMPLETE_TTL_SECONDS)
        self._questions.ask(key, now, listing_pass)
        raise Miss(Op.LIST, inode)

    def end_miss(self, miss: Miss) -> None:
        """Nobody comes back with this miss: what was asked for it says nothing to the next one who comes."""
        self._questions.answered((miss.op, miss.inode, miss.name))

    def listing_seconds_left(self, directory: Directory) -> float:
        """As `check_listing`, for a reader who is in the middle of it: never a Miss."""
        if not directory.is_complete:
            return min(self._ttl, _INCOMPLETE_TTL_SECONDS)
        if directory.flags & _SYNTHETIC:
            return self._ttl
        return self._left(directory.listed_at, self._clock())

    def name_seconds_left(self, row: NameRow | None) -> float:
        """For how long the check of this name alone is good; 0.0 if it is not any more."""
        return 0.0 if row is None else self._left(row.checked_at, self._clock())

    def _left(self, validated_at: float, now: float) -> float:
        """`validated_at` 0.0: never."""
        age = now - validated_at
        return min(self._ttl, max(0.0, self._ttl - age)) if validated_at and age > -_CLOCK_BACK_SECONDS else 0.0
