"""Which blocks leave a full tier: SIEVE where there is another tier below; what leaves the cache for good, `last_tier` says.

SIEVE (Zhang et al., NSDI '24): one queue in order of arrival, one hand that walks from the oldest to the newest; a block that
was read since the hand passed loses its mark and stays, one that was not leaves. Nothing moves on a hit, which suits readers
that cannot write.
"""

from __future__ import annotations

from fusecache.index.environment import Transaction
from fusecache.index.order import PROBATION
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.last_tier import pick_from_last
from fusecache.tiers.tier import Tier
from fusecache.tiers.victims import Picked, Search, Victim, victim_at

BATCH = 256  # rows of the queue read at once


def pick_victims(store: BlockStore, tier: Tier, want_bytes: int, search: Search) -> list[Victim]:
    """Return blocks of about `want_bytes` in all that may leave, and move the hand behind them.

    Fewer come back if the rest is leased, or after MAX_ROWS rows: if there are none and the search is not over, call again.
    Containers that may be open for passthrough leave as a whole or not at all, however many blocks that are.
    """
    if tier is store.tiers[-1]:
        return pick_from_last(store, tier, want_bytes, search)
    with store.index.read() as txn:
        picked = Picked(store, txn, want_bytes)
        _pick_probation(store, txn, tier.number, picked)
        _pick_unread(store, txn, tier.number, picked, search)
    if picked.victims:
        search.rounds = 0
    return list(picked.victims.values())


def _pick_probation(store: BlockStore, txn: Transaction, tier: int, picked: Picked) -> None:
    """The tier was the last one once: what was on probation then goes first."""
    if not store.held.probation[tier]:
        return
    for row in store.index.order.after(txn, PROBATION | tier, 0, BATCH):
        victim = victim_at(store, txn, tier, row)
        if picked.wants_more and victim is not None:
            picked.add(picked.unit_of(victim))


def _pick_unread(store: BlockStore, txn: Transaction, tier: int, picked: Picked, search: Search) -> None:
    while picked.wants_more:
        rows = store.index.order.after(txn, tier, store.hands[tier], BATCH)
        picked.looked_at += len(rows)
        if not rows:
            search.rounds += 1
            if search.is_over:
                return
            store.hands[tier] = 0
        for row in rows:
            store.hands[tier] = row.order
            victim = victim_at(store, txn, tier, row)
            if victim is not None:
                _consider(store, picked, victim)
            if picked.is_full:
                return


def _consider(store: BlockStore, picked: Picked, victim: Victim) -> None:
    inode, block, extent = victim
    if victim in picked or store.leases[(inode, block)]:
        return
    idle_ticks = store.marks.idle_ticks(extent.order)
    if store.marks.take(extent.order):
        # The last tier will not see this read: the block comes down without its mark.
        store.admission.note_read(inode, block, idle_ticks)
        return
    unit = picked.unit_of(victim)
    if not any(store.marks.is_set(one.extent.order) for one in unit):
        picked.add(unit)
