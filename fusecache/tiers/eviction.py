"""Which blocks leave a full tier: SIEVE, with its queue in the index and its visited bits in the access marks.

SIEVE (Zhang et al., NSDI '24): one queue in order of arrival, one hand that walks from the oldest to the newest; a block that
was read since the hand passed loses its mark and stays, one that was not leaves. Nothing moves on a hit, which suits readers
that cannot write, and a scan of new blocks does not push out what is read again and again.
"""

from __future__ import annotations

from typing import NamedTuple

from fusecache.index.containers import ContainerKind
from fusecache.index.environment import Transaction
from fusecache.index.extents import BlockIndex, Extent
from fusecache.index.inodes import InodeNo
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.tier import Tier, align

BATCH = 256  # rows of the queue read at once
# One call looks at so many rows (5 us each) and picks so many blocks (forgetting one takes 20 us): fetch's loop waits meanwhile.
MAX_ROWS = 2048
MAX_VICTIMS = 512
MAX_ROUNDS = 3  # the first round may only clear marks; the second finds them cleared; the third starts in the middle


class Victim(NamedTuple):
    inode: InodeNo
    block: BlockIndex
    extent: Extent


class Search:
    """How often the hand came to the end of the queue while nothing was found; goes with one tier."""

    def __init__(self) -> None:
        self.rounds = 0

    @property
    def is_over(self) -> bool:
        return self.rounds >= MAX_ROUNDS


def pick_victims(store: BlockStore, tier: Tier, want_bytes: int, search: Search) -> list[Victim]:
    """Return blocks of about `want_bytes` in all that may leave, and move the hand behind them.

    Fewer come back if the rest is leased, or after MAX_ROWS rows: if there are none and the search is not over, call again.
    Containers that may be open for passthrough leave as a whole or not at all, however many blocks that are.
    """
    picked = _Picked(store)
    hand = store.hands[tier.number]
    looked_at = 0
    with store.index.read() as txn:
        while picked.size < want_bytes and looked_at < MAX_ROWS and len(picked.victims) < MAX_VICTIMS:
            rows = store.index.order.after(txn, tier.number, hand, BATCH)
            looked_at += len(rows)
            if not rows:
                search.rounds += 1
                if search.is_over:
                    break
                hand = 0
                continue
            for row in rows:
                hand = row.order
                extent = store.index.extents.get(txn, row.inode, row.block)
                if extent is None or extent.order != row.order or extent.tier != tier.number:
                    continue
                picked.consider(txn, row.inode, row.block, extent)
                if picked.size >= want_bytes or len(picked.victims) >= MAX_VICTIMS:
                    break
    if picked.victims:
        search.rounds = 0
    store.hands[tier.number] = hand
    return list(picked.victims.values())


class _Picked:
    def __init__(self, store: BlockStore) -> None:
        self._store = store
        self._whole: dict[int, bool] = {}
        self.victims: dict[tuple[InodeNo, BlockIndex], Victim] = {}
        self.size = 0

    def consider(self, txn: Transaction, inode: InodeNo, block: BlockIndex, extent: Extent) -> None:
        store = self._store
        if (inode, block) in self.victims or store.leases[(inode, block)]:
            return
        if store.marks.take(extent.order):
            return
        if self._leaves_whole(txn, extent):
            self._consider_whole(txn, inode, extent.container)
        else:
            self._add(Victim(inode, block, extent))

    def _leaves_whole(self, txn: Transaction, extent: Extent) -> bool:
        if not self._store.keep_whole:
            return False
        known = self._whole.get(extent.container)
        if known is None:
            row = self._store.index.containers.get(txn, extent.container)
            known = row is not None and row.kind == ContainerKind.WHOLE_FILE and row.written_ns != 0
            self._whole[extent.container] = known
        return known

    def _consider_whole(self, txn: Transaction, inode: InodeNo, container: int) -> None:
        blocks = [
            Victim(inode, block, extent)
            for block, extent in self._store.index.extents.of_inode(txn, inode)
            if extent.container == container
        ]
        if any(self._store.leases[(inode, victim.block)] or self._store.marks.is_set(victim.extent.order) for victim in blocks):
            return
        for victim in blocks:
            self._add(victim)

    def _add(self, victim: Victim) -> None:
        key = (victim.inode, victim.block)
        if key not in self.victims:
            self.victims[key] = victim
            self.size += align(victim.extent.length)
