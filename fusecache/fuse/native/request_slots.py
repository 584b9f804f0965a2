"""Landing slots and the table of parked requests of one serve process, in the shared memory that outlives it.

Owns no memory: it reads and writes the regions of one `serve_index` in custody's memfd (layout and crash rules:
contract/shared_memory.py). Each landing slot belongs to one reading thread. `park`, `clear` and `set_running` may be called from
any thread, for different entries at once: the free list is a list, whose pop and append are atomic.

The poison rule counts dead processes that had *started* on a request. A request in a landing slot was started. A parked one
merely waits for fetch, which may take longer than many restarts, so it counts only while `running` (the reserved word of the
entry) is set.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass

from fusecache.contract.shared_memory import ENTRY_BYTES, ENTRY_HEADER, PAGE, SLOT_HEADER_BYTES, Layout

_FREE, _PARKED = 0, 1
_STATE, _ATTEMPTS, _LENGTH, _RUNNING = 0, 1, 2, 3  # u32 words of an entry
_WORDS = ENTRY_BYTES // 4
NO_ENTRY = -1
LARGEST_PARKED_REQUEST = ENTRY_BYTES - ENTRY_HEADER.size


class LandingSlot:
    """One buffer the kernel writes requests into. `words[0]` is the length field of the request's header: 0 = nothing taken."""

    __slots__ = ("_header", "buffer", "words")

    def __init__(self, memory: memoryview, offset: int, landing_bytes: int) -> None:
        self._header = memory[offset : offset + 4].cast("I")
        self.buffer = memory[offset + SLOT_HEADER_BYTES : offset + SLOT_HEADER_BYTES + landing_bytes]
        self.words = self.buffer[:48].cast("I")

    @property
    def attempts(self) -> int:
        return self._header[0]

    @attempts.setter
    def attempts(self, value: int) -> None:
        self._header[0] = value

    @property
    def unique(self) -> int:
        """Unique of the request inside, 0 if there is none. Also right for another thread's slot, as the kernel sends an
        INTERRUPT only after it copied the request."""
        words = self.words
        return (words[2] | words[3] << 32) if words[0] else 0

    def clear(self) -> None:
        """The request was answered or parked: a successor must not take it again."""
        self.words[0] = 0

    def release(self) -> None:
        for view in (self.words, self.buffer, self._header):
            view.release()


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request that the predecessor took and perhaps did not answer. `entry` is NO_ENTRY for one in a landing slot."""

    request: bytes
    attempts: int
    entry: int
    slot: LandingSlot | None


class RequestSlots:
    """The slots and the table of one serve process."""

    def __init__(self, memory: mmap.mmap, layout: Layout, serve_index: int) -> None:
        self._memory = memoryview(memory)
        self.landing = [
            LandingSlot(self._memory, layout.slot(serve_index, reader), layout.landing_bytes) for reader in range(layout.readers)
        ]
        table = layout.table(serve_index)
        self._table = self._memory[table : table + layout.table_entries * ENTRY_BYTES]
        self._words = self._table.cast("I")
        # Lowest entries last, because pop takes the last: the same few pages are used again and again.
        self._free = [index for index in reversed(range(layout.table_entries)) if self._words[index * _WORDS] == _FREE]

    def prefault(self) -> None:
        """Make the landing pages present and writable: a request that the kernel cannot copy out is lost."""
        for slot in self.landing:
            for offset in range(0, len(slot.buffer), PAGE):
                slot.buffer[offset] = slot.buffer[offset]
            slot.buffer[-1] = slot.buffer[-1]

    def park(self, request: bytes, unique: int, attempts: int) -> int:
        """Copy a request into the table; return its entry, or NO_ENTRY if the table is full or the request too long for an
        entry."""
        length = len(request)
        if length > LARGEST_PARKED_REQUEST:
            return NO_ENTRY
        try:
            entry = self._free.pop()
        except IndexError:
            return NO_ENTRY
        start = entry * ENTRY_BYTES
        ENTRY_HEADER.pack_into(self._table, start, _FREE, attempts, length, 0, unique)
        start += ENTRY_HEADER.size
        self._table[start : start + length] = request
        self._words[entry * _WORDS + _STATE] = _PARKED
        return entry

    def clear(self, entry: int) -> None:
        if entry != NO_ENTRY:
            self._words[entry * _WORDS + _STATE] = _FREE
            self._free.append(entry)

    def set_running(self, entry: int, running: bool) -> None:
        """Say that code works on the request now: dying meanwhile counts against it."""
        if entry != NO_ENTRY:
            self._words[entry * _WORDS + _RUNNING] = running

    def set_attempts(self, entry: int, attempts: int) -> None:
        self._words[entry * _WORDS + _ATTEMPTS] = attempts

    def unanswered(self) -> Iterator[Unanswered]:
        """Yield what the predecessor left, parked requests first (they are older). `attempts` already counts its death.

        The caller stores `attempts` (in slot or entry) just before it starts on a request, not earlier: if another request of the
        list kills it first, this one is innocent."""
        for entry in range(len(self._words) // _WORDS):
            words = self._words[entry * _WORDS : entry * _WORDS + 4]
            if words[_STATE] == _PARKED:
                start = entry * ENTRY_BYTES + ENTRY_HEADER.size
                request = bytes(self._table[start : start + words[_LENGTH]])
                yield Unanswered(request, words[_ATTEMPTS] + bool(words[_RUNNING]), entry, None)
        for slot in self.landing:
            length = slot.words[0]
            if length:
                yield Unanswered(bytes(slot.buffer[:length]), slot.attempts + 1, NO_ENTRY, slot)

    def holds(self, unique: int) -> bool:
        """Return whether a landing slot holds this request now."""
        return any(slot.unique == unique for slot in self.landing)

    def is_parked(self, unique: int) -> bool:
        """Return whether the table holds this request; for looking into another process's table."""
        low, high = unique & 0xFFFFFFFF, unique >> 32
        words = self._words
        return any(words[at] == _PARKED and words[at + 4] == low and words[at + 5] == high for at in range(0, len(words), _WORDS))

    def close(self) -> None:
        """Let go of the memory map, so that it can be closed."""
        for slot in self.landing:
            slot.release()
        for view in (self._words, self._table, self._memory):
            view.release()
