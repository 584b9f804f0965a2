"""Ranges of containers whose block was forgotten, and which take space still.

Most wait until no reader's snapshot can name them, and are punched out then. Ranges of a whole-file container that was complete
once are never punched: the kernel may have it open (passthrough) and reads it without asking us. They leave with the file. Either
way the same block may come again before that, and its range is in use again.

Called by fetch's event loop only. A range is known by its container and offset; `tiers` count its bytes as used until it is given
back here or its owner takes it back.
"""

from __future__ import annotations

import collections
from collections.abc import Container, Iterator, Sequence
from typing import NamedTuple

from fusecache.tiers.tier import Tier

Range = tuple[int, int]  # container, offset


class Freed(NamedTuple):
    """A range that waits until no reader can name it. `length` is what it counts for, `punched` what may be punched out: blocks
    smaller than a page lie side by side in a whole-file container."""

    transaction: int
    tier: int
    container: int
    offset: int
    length: int
    punched: int


class Forgotten:
    """Invariant: a range is at most in one of the two: waiting, or kept."""

    def __init__(self, tiers: Sequence[Tier]) -> None:
        self._tiers = tiers
        self._waiting: collections.OrderedDict[Range, Freed] = collections.OrderedDict()
        self._kept: dict[int, dict[int, int]] = {}  # container -> offset -> bytes

    def wait(self, freed: Freed) -> None:
        self._waiting[freed.container, freed.offset] = freed

    def keep(self, container: int, offset: int, length: int) -> None:
        """The kernel may read it: it goes when the container goes."""
        self._kept.setdefault(container, {})[offset] = length

    def keeps(self, container: int) -> bool:
        """Whether the kernel may have the container open, as a range of it was kept."""
        return container in self._kept

    def take_back(self, container: int, offset: int) -> int:
        """The range is in use again, if it is here: it will not be punched out. Return the bytes that it counted for, else 0."""
        freed = self._waiting.pop((container, offset), None)
        waited = 0 if freed is None else freed.length
        return waited + self._kept.get(container, {}).pop(offset, 0)

    def drop(self, container: int) -> int:
        """The container's file is unlinked. Return the bytes that its ranges counted for."""
        waiting = [key for key in self._waiting if key[0] == container]
        return sum(self._waiting.pop(key).length for key in waiting) + sum(self._kept.pop(container, {}).values())

    def punch(self, oldest_reader: int | None, in_use: Container[Range]) -> bool:
        """Punch out what no reader can name any more. Return whether something is still waiting for a reader.

        `oldest_reader`: the transaction of the oldest snapshot. Ranges `in_use` have another owner by now, who counts them, too.
        """
        while self._waiting:
            key, freed = next(iter(self._waiting.items()))
            if oldest_reader is not None and oldest_reader < freed.transaction:
                return True
            del self._waiting[key]
            tier = self._tiers[freed.tier]
            if key not in in_use:
                tier.punch(freed.container, freed.offset, freed.punched)
            tier.used_bytes -= freed.length
        return False

    def __contains__(self, key: Range) -> bool:
        container, offset = key
        return key in self._waiting or offset in self._kept.get(container, ())

    def offsets(self, container: int) -> Iterator[int]:
        """Of the ranges in a container."""
        yield from (offset for other, offset in self._waiting if other == container)
        yield from self._kept.get(container, ())

    @property
    def is_waiting(self) -> bool:
        return bool(self._waiting)

    def waiting(self) -> Iterator[Freed]:
        """In the order in which they were forgotten."""
        return iter(self._waiting.values())

    def kept(self) -> Iterator[tuple[int, int]]:
        """Container and bytes of each."""
        return ((container, length) for container, ranges in self._kept.items() for length in ranges.values())
