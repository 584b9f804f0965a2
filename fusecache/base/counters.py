"""A page of counters in shared memory: written by one process, read by any, and still there after the writer's death."""

from __future__ import annotations

import mmap
import struct

from fusecache.contract.shared_memory import Counter

_U64 = struct.Struct("<Q")


class CounterPage:
    """Concurrency: one writer process; additions from several of its threads may rarely lose one, which a counter bears."""

    def __init__(self, memory: mmap.mmap, offset: int) -> None:
        self._memory = memory
        self._offset = offset

    def add(self, counter: Counter, amount: int = 1) -> None:
        at = self._offset + 8 * counter
        _U64.pack_into(self._memory, at, (_U64.unpack_from(self._memory, at)[0] + amount) & 0xFFFFFFFFFFFFFFFF)

    def set(self, counter: Counter, value: int) -> None:
        _U64.pack_into(self._memory, self._offset + 8 * counter, value)

    def get(self, counter: Counter) -> int:
        return int(_U64.unpack_from(self._memory, self._offset + 8 * counter)[0])
