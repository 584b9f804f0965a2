"""What this mount changed itself, and when: so that an older answer of a source does not take it back.

A listing takes a while, and says of each name what was there at some moment of it. Kept in memory: a question that is under way
dies with fetch, too.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable

from fusecache.index.inodes import InodeNo

REMEMBERED_SECONDS = 600.0  # longer than a listing of a million names takes
REMEMBERED_NAMES = 100_000


class OwnChanges:
    """`are_possible`: the mount may be written. Times are those of `now`."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.are_possible = False
        self._clock = clock
        self._changed_at: OrderedDict[tuple[InodeNo, bytes], float] = OrderedDict()

    def now(self) -> float:
        return self._clock()

    def note(self, parent: InodeNo, name: bytes) -> None:
        """The name was changed at the source, or is about to be."""
        now = self._clock()
        self._changed_at[parent, name] = now
        self._changed_at.move_to_end((parent, name))
        while next(iter(self._changed_at.values())) < now - REMEMBERED_SECONDS or len(self._changed_at) > REMEMBERED_NAMES:
            self._changed_at.popitem(last=False)

    def forget(self, parent: InodeNo, name: bytes) -> None:
        """The source is right about the name."""
        self._changed_at.pop((parent, name), None)

    def is_newer(self, parent: InodeNo, name: bytes, asked_at: float) -> bool:
        """Whether the name was changed after a source was asked for it (0.0: nobody knows when)."""
        changed_at = self._changed_at.get((parent, name))
        return changed_at is not None and changed_at >= asked_at
