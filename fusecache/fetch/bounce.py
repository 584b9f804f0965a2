"""The bounce buffer: where the bytes of a READ go that no tier can take.

Slots are as large as the largest READ. A slot is held by the tokens that were answered with it, until they say DONE or their
connection ends.
"""

from __future__ import annotations

import mmap

SLOT_BYTES = 1 << 20  # the largest READ: 256 pages


class BounceBuffer:
    """Invariant: a slot is either free or held by at least one holder."""

    def __init__(self, memory: mmap.mmap, most_bytes: int | None = None) -> None:
        """Pages that were used once stay: under a memory limit not all of the buffer may be."""
        self.memory = memory
        size = len(memory) if most_bytes is None else min(len(memory), most_bytes)
        self._free = [number * SLOT_BYTES for number in reversed(range(size // SLOT_BYTES))]
        self._holders: dict[int, int] = {}

    def take(self) -> int | None:
        """Return the offset of a slot with one holder, or None if all are held."""
        if not self._free:
            return None
        offset = self._free.pop()
        self._holders[offset] = 1
        return offset

    def hold(self, offset: int) -> None:
        self._holders[offset] += 1

    def release(self, offset: int) -> None:
        self._holders[offset] -= 1
        if not self._holders[offset]:
            del self._holders[offset]
            self._free.append(offset)
