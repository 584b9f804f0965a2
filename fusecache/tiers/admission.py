"""How the last tier decides what stays: which new blocks go on probation, and what one must show to take another's place.

A block that comes into a full cache is as good as the one it pushes out, or worse. So most of the last tier (*main*) keeps what
it has, and a small queue (*probation*, FIFO) lets the rest pass through. A block at the end of probation gets a place in main
only for one there that was idle for longer than it took the newcomer to be asked for three times (LRU-K with K = 3: O'Neil et
al., SIGMOD '93; the comparison of a distance between requests with an idle time is that of LIRS: Jiang and Zhang, SIGMETRICS
'02).

Why three: in shuffled epochs over a dataset of any size, no block is idle for longer than there is between the third last request
of another and now (one whole epoch lies between these), so that nothing is ever exchanged for its equal, and whatever part of the
dataset main holds is read once an epoch. With two requests, equals push each other out. What is really read more often than what
it replaces gets its place with the third request.

State: the clock and the history of requests, in memory; owned by fetch's event loop. After a restart the history is empty: main
stays as it is until something was asked for three times again.
"""

from __future__ import annotations

from fusecache.index.extents import BlockIndex
from fusecache.index.inodes import InodeNo
from fusecache.tiers.marks import Marks
from fusecache.tiers.request_history import LAST_TICK, RequestHistory

TICKS_A_TURNOVER = 16  # while as much is fetched as the tier holds; 8 to 64 differed by less than 0.02 of any hit ratio
# Nobody asked for it while twelve times the tier was fetched: it leaves for whatever comes. A dataset of up to seven times the
# cache is read in shuffled epochs without that. It must be found before its mark seems young again (marks.TICKS).
OLD_TICKS = 12 * TICKS_A_TURNOVER
LEAST_PROBATION = 1 / 32  # of what the tier may hold. 0.01 to 0.05 differ by what epochs lose: half of it
MOST_PROBATION = 1 / 2
SHRINKING = 1 / 32  # of what probation has above its least size, with every tick
UNREAD_TICKS = TICKS_A_TURNOVER // 4  # how long what was fetched ahead waits for its reader


class Admission:
    """Of one tier, the last one. Invariant: LEAST_PROBATION <= share_bytes / capacity <= MOST_PROBATION."""

    def __init__(self, tier: int, capacity_bytes: int, marks: Marks) -> None:
        """`capacity_bytes`: down to what the tier is emptied. (If it were more, main could not be left alone.)"""
        self._number = tier
        self._capacity = capacity_bytes
        self._marks = marks
        self._fetched_bytes = 0  # in this tick
        self.history = RequestHistory()
        self.now = marks.tick
        self.share_bytes = self._capacity * LEAST_PROBATION  # of probation, and of what is on its way into the tier
        self.exit = 0  # the order of the block on probation that was looked at last

    @property
    def most_bytes(self) -> float:
        return self._capacity * MOST_PROBATION

    def sends_to_probation(self, tier: int, main_bytes: int, length: int) -> bool:
        """Whether a block that is committed to this tier now goes on probation: once main is full."""
        return tier == self._number and main_bytes + length > self._capacity - self.share_bytes

    def note_fetched(self, inode: InodeNo, block: BlockIndex, length: int, *, is_kept: bool) -> None:
        """A block came from the source: somebody missed it. This is what time is measured by."""
        if is_kept:
            self.note_kept(inode, block)
        else:
            self.history.note(inode, block, self.now)
        self._fetched_bytes += length
        while self._fetched_bytes * TICKS_A_TURNOVER >= self._capacity > 0:
            self._fetched_bytes -= -(-self._capacity // TICKS_A_TURNOVER)
            self._advance()

    def note_kept(self, inode: InodeNo, block: BlockIndex) -> None:
        """It shall stay: once it came down to this tier, it takes the place of anything that is idle for longer."""
        self.history.note_thrice(inode, block, self.now)

    def _advance(self) -> None:
        self._marks.advance()
        self.now = self.now % LAST_TICK + 1
        self.exit = 0  # what had to wait is looked at again, once a tick and not every time
        self.share_bytes -= (self.share_bytes - self._capacity * LEAST_PROBATION) * SHRINKING

    def note_read(self, inode: InodeNo, block: BlockIndex, idle_ticks: int) -> None:
        """A mark was found: the block was read so long ago."""
        self.history.note(inode, block, self._ago(idle_ticks))

    def widen(self, size: float) -> None:
        """Probation could not get smaller than this: main makes room for it once, and not again and again."""
        self.share_bytes = max(self.share_bytes, min(size, self.most_bytes))

    def needed_idle_ticks(self, inode: InodeNo, block: BlockIndex) -> int:
        """Return for how long a block must have been idle, at least, for this one to take its place: longer than that."""
        third_last = self.history.third_last(inode, block)
        return OLD_TICKS if third_last is None else min(OLD_TICKS, self._since(third_last))

    def awaits_its_reader(self, inode: InodeNo, block: BlockIndex, order: int) -> bool:
        """Whether it was fetched ahead, and not long ago."""
        last = self.history.last(inode, block) if self._marks.is_unread(order) else None
        return last is not None and self._since(last) < UNREAD_TICKS

    def _since(self, tick: int) -> int:
        return (self.now - tick) % LAST_TICK

    def _ago(self, ticks: int) -> int:
        return (self.now - ticks - 1) % LAST_TICK + 1
