"""What leaves a tier together: single blocks, or all of a container that may be open for passthrough."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fusecache.index.containers import ContainerKind
from fusecache.index.environment import Transaction
from fusecache.index.extents import BlockIndex, Extent
from fusecache.index.inodes import InodeNo
from fusecache.index.order import OrderRow
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.tier import align

# One call looks at so many rows (5 us each) and picks so many blocks (forgetting one takes 20 us): fetch's loop waits meanwhile.
MAX_ROWS = 2048
MAX_VICTIMS = 512
MAX_ROUNDS = 3  # the first round may only clear marks; the second finds them cleared; the third starts in the middle


class Victim(NamedTuple):
    inode: InodeNo
    block: BlockIndex
    extent: Extent


def victim_at(store: BlockStore, txn: Transaction, tier: int, row: OrderRow) -> Victim | None:
    """Return the block that a row of a tier's queue names, None if it is not there any more."""
    extent = store.index.extents.get(txn, row.inode, row.block)
    if extent is None or extent.order != row.order or extent.tier != tier:
        return None
    return Victim(row.inode, row.block, extent)


class Search:
    """How often the hand came to the end of the queue while nothing was found; goes with one tier."""

    def __init__(self) -> None:
        self.rounds = 0

    @property
    def is_over(self) -> bool:
        return self.rounds >= MAX_ROUNDS


class Picked:
    """Invariant: nothing in it is leased; `size` is what it takes of its tier. `looked_at` counts rows of queues."""

    def __init__(self, store: BlockStore, txn: Transaction, want_bytes: int) -> None:
        self._store = store
        self._txn = txn
        self._want_bytes = want_bytes
        self._whole: dict[int, bool] = {}
        self.victims: dict[tuple[InodeNo, BlockIndex], Victim] = {}
        self.size = 0
        self.looked_at = 0

    @property
    def is_full(self) -> bool:
        return self.size >= self._want_bytes or len(self.victims) >= MAX_VICTIMS

    @property
    def wants_more(self) -> bool:
        return not self.is_full and self.looked_at < MAX_ROWS

    def __contains__(self, victim: Victim) -> bool:
        return (victim.inode, victim.block) in self.victims

    def unit_of(self, victim: Victim) -> list[Victim]:
        """Return what leaves with this block, itself included; nothing if any of it is leased."""
        unit = [victim]
        if self._leaves_whole(victim.extent.container):
            unit = [
                Victim(victim.inode, block, extent)
                for block, extent in self._store.index.extents.of_inode(self._txn, victim.inode)
                if extent.container == victim.extent.container
            ]
        return [] if any(self._store.leases[(one.inode, one.block)] for one in unit) else unit

    def _leaves_whole(self, container: int) -> bool:
        if not self._store.keep_whole:
            return False
        known = self._whole.get(container)
        if known is None:
            row = self._store.index.containers.get(self._txn, container)
            known = row is not None and row.kind == ContainerKind.WHOLE_FILE and row.written_ns != 0
            self._whole[container] = known
        return known

    def add(self, unit: Sequence[Victim]) -> None:
        for victim in unit:
            key = (victim.inode, victim.block)
            if key not in self.victims:
                self.victims[key] = victim
                self.size += align(victim.extent.length)
