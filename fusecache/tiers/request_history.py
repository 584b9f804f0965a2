"""When blocks were asked for, whether they are still cached or not: the last three times of each, in a table of fixed size.

State: TABLE_SLOTS words of memory; owned by fetch's event loop, empty after its start. A slot belongs to whichever block came
last: where many more blocks than slots come by, requests are forgotten, and hardly ever made up.
"""

from __future__ import annotations

import mmap

from fusecache.index.extents import BlockIndex
from fusecache.index.inodes import InodeNo

TABLE_SLOTS = 1 << 19  # 4 MiB: a tier of 1 TiB has 262,144 blocks of 4 MiB
LAST_TICK = 0xFFFF
_FINGERPRINT = 0xFFFF << 48
_TIMES = (1 << 48) - 1
_NO_TIME = 0


class RequestHistory:
    """Invariant: a slot is 0, or (from its high bits down) 16 bits of the block's hash and the ticks of the third last, the
    second last and the last request, 16 bits each, 0 where there was none. Ticks are 1 to LAST_TICK, and round again."""

    def __init__(self) -> None:
        self._table = memoryview(mmap.mmap(-1, 8 * TABLE_SLOTS)).cast("Q")  # its pages take memory once they are written to

    def note(self, inode: InodeNo, block: BlockIndex, tick: int) -> None:
        """The block was asked for. Requests within one tick are one visit: "correlated references" of LRU-K (O'Neil et al.,
        SIGMOD '93), here mostly the pieces of a block that is read in several requests."""
        hashed = hash((inode, block))
        slot, fingerprint = hashed % TABLE_SLOTS, hashed & _FINGERPRINT
        entry = self._table[slot]
        if entry & _FINGERPRINT != fingerprint:
            self._table[slot] = fingerprint | tick
        elif entry & LAST_TICK != tick:
            self._table[slot] = fingerprint | (entry << 16 | tick) & _TIMES

    def note_thrice(self, inode: InodeNo, block: BlockIndex, tick: int) -> None:
        """As if there had been three requests at once."""
        hashed = hash((inode, block))
        self._table[hashed % TABLE_SLOTS] = hashed & _FINGERPRINT | tick << 32 | tick << 16 | tick

    def last(self, inode: InodeNo, block: BlockIndex) -> int | None:
        """Return the tick of the last request that is remembered."""
        return self._times(inode, block) & LAST_TICK or None

    def third_last(self, inode: InodeNo, block: BlockIndex) -> int | None:
        """Return the tick of the last request but two that is remembered."""
        return self._times(inode, block) >> 32 or None

    def _times(self, inode: InodeNo, block: BlockIndex) -> int:
        hashed = hash((inode, block))
        entry = self._table[hashed % TABLE_SLOTS]
        return entry & _TIMES if entry & _FINGERPRINT == hashed & _FINGERPRINT else _NO_TIME
