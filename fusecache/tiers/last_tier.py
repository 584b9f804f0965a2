"""Which blocks leave the cache: those at the end of probation, unless one of them takes the place of a block in main.

Both queues are walked by a hand that goes round: probation's (`Admission.exit`) is where blocks leave, main's looks at SAMPLE
blocks for each that leaves, and of these only the most idle one can lose its place. `admission` says when it does. Sizes are
not compared: if blocks of other sizes change places, the queue that has become too large gives the next ones.

What is on probation and must not leave yet (leased, fetched ahead and waiting for its reader, part of a large file that is being
fetched for passthrough) is passed over; main gives instead, and probation keeps that room for a while (`Admission.widen`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Sequence
from typing import NamedTuple

from fusecache.index.containers import ContainerKind
from fusecache.index.environment import NoSpaceError, Transaction
from fusecache.index.extents import ExtentFlag
from fusecache.index.order import PROBATION, OrderRow
from fusecache.tiers.admission import OLD_TICKS
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.marks import NEVER
from fusecache.tiers.tier import Tier, align
from fusecache.tiers.victims import Picked, Search, Victim, victim_at

SAMPLE = 4  # 10 us; 16 found the same hit ratios, within 0.01
BATCH = 16  # rows of a queue read at once
_PROBATION = int(ExtentFlag.PROBATION)


def pick_from_last(store: BlockStore, tier: Tier, want_bytes: int, search: Search) -> list[Victim]:
    """As `eviction.pick_victims`, whose only caller."""
    with store.index.read() as txn, contextlib.closing(_Turn(store, tier, txn, want_bytes)) as turn:
        turn.pick(search)
    if turn.promoted:
        # An index without room: they stay where they are, and what gives room in the index must go on.
        with contextlib.suppress(NoSpaceError):
            store.promote((one.inode, one.block) for one in turn.promoted)
    return list(turn.picked.victims.values())


class _Seen(NamedTuple):
    idle_ticks: int
    row: OrderRow


class _Turn:
    def __init__(self, store: BlockStore, tier: Tier, txn: Transaction, want_bytes: int) -> None:
        self._store = store
        self._txn = txn
        self._tier = tier.number
        self.picked = Picked(store, txn, want_bytes)
        self.promoted: list[Victim] = []
        # What is on its way into the tier will be on probation, and what was forgotten a moment ago came from there.
        self._beside_main = tier.used_bytes - store.held.main_of(tier.number)
        self._leaving = self._round(PROBATION | tier.number, store.admission.exit)
        self._main = self._round(tier.number, store.hands[tier.number])
        self._seen: list[_Seen] = []  # under main's hand

    def pick(self, search: Search) -> None:
        while self.picked.wants_more:
            unit = self._next_leaving()
            if unit:
                self._judge(unit)
            elif not self._take_from_main() and self.picked.wants_more:
                search.rounds += 1
                if search.is_over:
                    return
                self._main = self._round(self._tier, 0)
        if self.picked.victims:
            search.rounds = 0
        if self._seen:
            self._store.hands[self._tier] = self._seen[0].row.order - 1

    def close(self) -> None:
        """Let go of the transaction: rounds that are not over hold the turn and are held by it, and each transaction that is not
        freed keeps a slot in the index's table of readers, which is full soon."""
        self._leaving.close()
        self._main.close()

    def _round(self, queue: int, start: int) -> Generator[OrderRow]:
        """Yield the rows behind `start` in a queue, then those before it, while there is time: each once."""
        after, is_again = start, False
        while True:
            rows = self._store.index.order.after(self._txn, queue, after, BATCH)
            if not rows:
                if is_again or not start:
                    return
                after, is_again = 0, True
            for row in rows:
                if (is_again and row.order > start) or not self.picked.wants_more:
                    return
                self.picked.looked_at += 1
                after = row.order
                yield row

    # -- probation

    def _next_leaving(self) -> Sequence[Victim]:
        """Return the next block that must leave probation, with what leaves with it; nothing if none must, or none may."""
        admission = self._store.admission
        if self._beside_main <= admission.share_bytes:
            return ()
        for row in self._leaving:
            admission.exit = row.order
            victim = victim_at(self._store, self._txn, self._tier, row)
            if victim is None or victim in self.promoted or self._must_wait(victim):
                continue
            unit = () if victim in self.picked else self.picked.unit_of(victim)
            if unit:
                return unit
        admission.widen(self._beside_main)
        return ()

    def _must_wait(self, victim: Victim) -> bool:
        store = self._store
        if self._beside_main > store.admission.most_bytes:
            return False
        return store.admission.awaits_its_reader(victim.inode, victim.block, victim.extent.order) or (
            store.keep_whole and self._is_growing(victim.extent.container)
        )

    def _is_growing(self, container: int) -> bool:
        """Whether it may become a file for passthrough soon: not if a part of it leaves."""
        row = self._store.index.containers.get(self._txn, container)
        return row is not None and row.kind == ContainerKind.WHOLE_FILE and self._store.is_being_written(container)

    def _judge(self, unit: Sequence[Victim]) -> None:
        inode, block, _ = unit[0]
        on_probation = [one for one in unit if one.extent.flags & _PROBATION]
        if len(on_probation) == len(unit):
            loser = self._idler_than(self._store.admission.needed_idle_ticks(inode, block))
            if not loser:
                self._leave(unit)
                return
            self._leave(loser)
        # Else: a file that came while there was room in main for the first part of it.
        self.promoted += on_probation
        self._beside_main -= _size(on_probation)

    def _leave(self, unit: Sequence[Victim]) -> None:
        self.picked.add(unit)
        self._beside_main -= _size([one for one in unit if one.extent.flags & _PROBATION])

    # -- main

    def _look(self) -> _Seen | None:
        """Return the most idle of the next SAMPLE blocks of main that may leave, None if there is none."""
        store, marks = self._store, self._store.marks
        self._seen = [seen for seen in self._seen if (seen.row.inode, seen.row.block) not in self.picked.victims]
        for row in self._main:
            store.hands[self._tier] = row.order
            key = (row.inode, row.block)
            if key in self.picked.victims or store.leases[key]:
                continue
            idle_ticks = marks.idle_ticks(row.order)
            if OLD_TICKS <= idle_ticks < NEVER:
                marks.chill(row.order)  # before the clock has gone round, and it seems to be read lately
                idle_ticks = NEVER
            self._seen.append(_Seen(idle_ticks, row))
            if len(self._seen) >= SAMPLE:
                break
        return max(self._seen, key=lambda seen: seen.idle_ticks, default=None)

    def _idler_than(self, ticks: int) -> Sequence[Victim]:
        """Return what leaves with the most idle block under the hand, if all of it was idle for longer than this."""
        seen = self._look()
        unit = self._unit_at(seen.row) if seen is not None and seen.idle_ticks > ticks else ()
        if seen is not None and unit and all(self._store.marks.idle_ticks(one.extent.order) > ticks for one in unit):
            # The hand stays: where one is idle, others that came with it are, and they must not be passed over for a round.
            self._seen.remove(seen)
            return unit
        self._seen.clear()
        return ()

    def _take_from_main(self) -> bool:
        """What is idle the longest, as probation is small enough. Return whether there was something."""
        while (seen := self._look()) is not None:
            self._seen.remove(seen)
            unit = self._unit_at(seen.row)
            if unit:
                self._leave(unit)
                return True
        return False

    def _unit_at(self, row: OrderRow) -> Sequence[Victim]:
        victim = victim_at(self._store, self._txn, self._tier, row)
        return () if victim is None else self.picked.unit_of(victim)


def _size(blocks: Sequence[Victim]) -> int:
    return sum(align(one.extent.length) for one in blocks)
