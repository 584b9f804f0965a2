"""How many bytes each tier's extents take, and in which of its two queues they stand."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Self

from fusecache.index.environment import Transaction
from fusecache.index.extents import Extent, ExtentFlag
from fusecache.index.meta import Meta
from fusecache.index.order import PROBATION
from fusecache.tiers.tier import align

_PROBATION = int(ExtentFlag.PROBATION)


def queue_of(extent: Extent) -> int:
    """Return the queue of table `order` in which the extent stands."""
    return extent.tier | PROBATION if extent.flags & _PROBATION else extent.tier


class HeldBytes(NamedTuple):
    """By tier, rounded up to ALIGNMENT. `probation` is a part of `live`. A transaction works on a copy, which counts once it is
    committed."""

    live: list[int]
    probation: list[int]

    @classmethod
    def load(cls, txn: Transaction, meta: Meta, tiers: Iterable[int]) -> Self:
        numbers = list(tiers)
        return cls(*([meta.get(txn, f"{key}:{number}") for number in numbers] for key in ("used", "probation")))

    def store(self, txn: Transaction, meta: Meta) -> None:
        for number, (live, probation) in enumerate(zip(self.live, self.probation, strict=True)):
            meta.put(txn, f"used:{number}", live)
            meta.put(txn, f"probation:{number}", probation)

    def copy(self) -> HeldBytes:
        return HeldBytes(list(self.live), list(self.probation))

    def main_of(self, tier: int) -> int:
        return self.live[tier] - self.probation[tier]

    def add(self, extent: Extent) -> None:
        self._count(extent, align(extent.length))

    def remove(self, extent: Extent) -> None:
        self._count(extent, -align(extent.length))

    def _count(self, extent: Extent, size: int) -> None:
        self.live[extent.tier] += size
        if extent.flags & _PROBATION:
            self.probation[extent.tier] += size
