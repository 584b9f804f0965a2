"""Landing slots and the table of parked requests of one serve process, in the shared memory that outlives it.

Owns no memory: it reads and writes the regions of one `serve_index` in custody's memfd (layout and crash rules:
contract/shared_memory.py). Each landing slot belongs to one reading thread. `park`, `clear`, `mark_applied` and `set_running` may
be called from any thread, for different entries at once: the free list is a list, whose pop and append are atomic.

A request that waits has an *entry*: 0 and more is one of the table, `NO_ENTRY` none, less than that the landing slot that it
stays in (`stay`), as it is too long for the table.

The poison rule counts dead processes that had *started* on a request. A request in a landing slot was started. A parked one
merely waits for fetch, which may take longer than many restarts, so it counts only while `running` is set (in a landing slot,
where the reading thread works at it, unless it stays there to wait).
"""

from __future__ import annotations

import mmap
import queue
from collections.abc import Iterator
from dataclasses import dataclass

from fusecache.contract.shared_memory import ENTRY_BYTES, ENTRY_HEADER, PAGE, SLOT_HEADER_BYTES, Layout

_FREE, _PARKED = 0, 1
_STATE, _ATTEMPTS, _LENGTH, _PROGRESS = 0, 1, 2, 3  # u32 words of an entry
_RUNNING, _APPLIED, _ERRNO_SHIFT = 1, 2, 16  # in the word of progress
_WORDS = ENTRY_BYTES // 4
NO_ENTRY = -1
_FIRST_STAYING = -2  # entry of the first landing slot; further ones below
LARGEST_PARKED_REQUEST = ENTRY_BYTES - ENTRY_HEADER.size


class LandingSlot:
    """One buffer the kernel writes requests into. `words[0]` is the length field of the request's header: 0 = nothing taken."""

    __slots__ = ("_applied", "_header", "buffer", "entry", "words")

    def __init__(self, memory: memoryview, offset: int, landing_bytes: int, index: int = 0) -> None:
        self.entry = _FIRST_STAYING - index
        self._header = memory[offset : offset + 8].cast("I")
        self._applied = memory[offset + 8 : offset + 16].cast("Q")
        self.buffer = memory[offset + SLOT_HEADER_BYTES : offset + SLOT_HEADER_BYTES + landing_bytes]
        self.words = self.buffer[:48].cast("I")

    @property
    def attempts(self) -> int:
        return self._header[0]

    @attempts.setter
    def attempts(self, value: int) -> None:
        self._header[0] = value

    @property
    def is_running(self) -> bool:
        """False: it waits for fetch."""
        return not self._header[1]

    @is_running.setter
    def is_running(self, value: bool) -> None:
        self._header[1] = not value

    @property
    def is_applied(self) -> bool:
        """Whether the request inside took effect. Never true of the next one, which has another unique."""
        return self._applied[0] == self.unique != 0

    def mark_applied(self) -> None:
        self._applied[0] = self.unique

    @property
    def unique(self) -> int:
        """Unique of the request inside, 0 if there is none. Also right for another thread's slot, as the kernel sends an
        INTERRUPT only after it copied the request."""
        words = self.words
        return (words[2] | words[3] << 32) if words[0] else 0

    def clear(self) -> None:
        """The request was answered or parked: a successor must not take it again."""
        self.words[0] = 0

    def empty(self) -> None:
        """As `clear`, and forget what was known of the request."""
        self.clear()
        self._header[0] = self._header[1] = 0

    def release(self) -> None:
        for view in (self.words, self.buffer, self._header, self._applied):
            view.release()


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request that the predecessor took and perhaps did not answer. `entry` is NO_ENTRY for one in a landing slot.

    `errno`: what it was going to answer with; 0: not decided, or no error."""

    request: bytes
    attempts: int
    entry: int
    slot: LandingSlot | None
    errno: int = 0


class RequestSlots:
    """The slots and the table of one serve process."""

    def __init__(self, memory: mmap.mmap, layout: Layout, serve_index: int) -> None:
        self._memory = memoryview(memory)
        self.landing = [
            LandingSlot(self._memory, layout.slot(serve_index, index), layout.landing_bytes, index)
            for index in range(layout.readers + layout.spare_slots)
        ]
        self._free_slots: queue.SimpleQueue[LandingSlot] = queue.SimpleQueue()
        self._stayed: set[int] = set()  # of slots whose request stayed before `open`
        self._entries: dict[int, int] = {}  # of the table, by unique
        self._applied: set[int] = set()  # what predecessors did
        table = layout.table(serve_index)
        self._table = self._memory[table : table + layout.table_entries * ENTRY_BYTES]
        self._words = self._table.cast("I")
        # Lowest entries last, because pop takes the last: the same few pages are used again and again.
        self._free = [index for index in reversed(range(layout.table_entries)) if self._words[index * _WORDS] == _FREE]

    def open(self) -> None:
        """Make all slots free that hold nothing any more. Once, after everything left was taken up."""
        for slot in self.landing:
            if slot.entry not in self._stayed:
                self._free_slots.put(slot)

    def take_slot(self) -> LandingSlot:
        """Return a free slot to read into; waits for one."""
        return self._free_slots.get()

    def stay(self, slot: LandingSlot) -> int:
        """Let a request wait where it landed, as it is too long for the table; return its entry."""
        slot.is_running = False
        self._stayed.add(slot.entry)
        return slot.entry

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
        self._entries[unique] = entry
        self._words[entry * _WORDS + _STATE] = _PARKED
        return entry

    def clear(self, entry: int) -> None:
        """The request was answered: a successor must not take it again."""
        if entry >= 0:
            self._entries.pop(self._unique_in(entry), None)
            self._words[entry * _WORDS + _STATE] = _FREE
            self._free.append(entry)
        elif entry <= _FIRST_STAYING:
            slot = self.landing[_FIRST_STAYING - entry]
            slot.empty()
            self._free_slots.put(slot)

    def set_running(self, entry: int, running: bool) -> None:
        """Say that code works on the request now: dying meanwhile counts against it."""
        if entry >= 0:
            progress = self._words[entry * _WORDS + _PROGRESS]
            self._words[entry * _WORDS + _PROGRESS] = (progress | _RUNNING) if running else (progress & ~_RUNNING)
        elif entry <= _FIRST_STAYING:
            self.landing[_FIRST_STAYING - entry].is_running = running

    def mark_failing(self, entry: int, error_number: int) -> None:
        """Say, before it is answered, that a request ends with this errno: whoever takes it up must not try again, as what is
        asked for may have become possible."""
        if entry >= 0:
            self._words[entry * _WORDS + _PROGRESS] |= error_number << _ERRNO_SHIFT

    def mark_applied(self, unique: int) -> None:
        """Say, before it is answered, that a request took effect."""
        entry = self._entries.get(unique, NO_ENTRY)
        if entry >= 0:
            self._words[entry * _WORDS + _PROGRESS] |= _APPLIED
            return
        for slot in self.landing:
            if slot.unique == unique:
                slot.mark_applied()

    def is_applied(self, unique: int) -> bool:
        """Whether a request that is being taken up took effect before its process died."""
        return unique in self._applied

    def _unique_in(self, entry: int) -> int:
        words = self._words
        return words[entry * _WORDS + 4] | words[entry * _WORDS + 5] << 32

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
                progress = words[_PROGRESS]
                attempts = words[_ATTEMPTS] + (progress & _RUNNING)
                unique = self._unique_in(entry)
                self._entries[unique] = entry
                if progress & _APPLIED:
                    self._applied.add(unique)
                yield Unanswered(request, attempts, entry, None, progress >> _ERRNO_SHIFT)
        for slot in self.landing:
            length = slot.words[0]
            if length:
                if slot.is_applied:
                    self._applied.add(slot.unique)
                yield Unanswered(bytes(slot.buffer[:length]), slot.attempts + slot.is_running, NO_ENTRY, slot)

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
