"""Hit ratios of traces: our own eviction, run over a real index and a real tier, beside other policies run on paper.

A pure simulation of what is read in which order: no mount, no store, no clock. Owns a temporary directory for the index.
"""

from __future__ import annotations

import itertools
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from fusecache.index.inodes import NO_MODE, NO_OWNER, ROOT, Inode, identity_of
from fusecache.source.protocol import EntryKind
from fusecache.tiers.eviction import pick_victims
from fusecache.tiers.victims import Search
from tests.bench.eviction_policies import POLICIES, belady
from tests.support.store_bench import StoreBench

CAPACITY = 1000  # objects that fit
SLOT_BYTES = 4096  # what the smallest block takes of a tier
OURS = "fusecache"
BELADY = "Belady"
SEED = 17


class Trace(NamedTuple):
    """`counts` says which reads are counted; the others only fill or disturb the cache."""

    name: str
    title: str
    reads: Sequence[int]
    counts: Sequence[bool]


def epochs(size: int = 2 * CAPACITY, count: int = 6) -> Trace:
    """A dataset of twice the cache, read as a whole in another order in each epoch; the first one is not counted."""
    source = random.Random(SEED)
    reads = [one for _ in range(count) for one in source.sample(range(size), size)]
    title = "shuffled epochs over a dataset of twice the cache"
    return Trace("epochs", title, reads, [number >= size for number in range(len(reads))])


def zipf(objects: int = 10 * CAPACITY, count: int = 30_000, scanned: int = 5 * CAPACITY) -> Trace:
    """Popularity by rank to the power of -0.9, and a scan through other objects, once, between these reads."""
    source = random.Random(SEED)
    weights = list(itertools.accumulate(1 / rank**0.9 for rank in range(1, objects + 1)))
    popular = source.choices(range(objects), cum_weights=weights, k=count)
    scan = range(objects, objects + scanned)
    reads = [*popular[: count // 2], *_alternating(popular[count // 2 :], scan)]
    return Trace("zipf", "Zipf 0.9 over ten times the cache, with a scan through it", reads, [True] * len(reads))


def hot_set(size: int = CAPACITY * 6 // 10, count: int = 20_000) -> Trace:
    """Objects that are read again and again, with a scan between them that reads every other object once; they are counted."""
    source = random.Random(SEED)
    hot = [source.randrange(size) for _ in range(count)]
    reads = [*hot[: 4 * size], *_alternating(hot[4 * size :], range(size, size + count - 4 * size))]
    counts = [number >= 4 * size and one < size for number, one in enumerate(reads)]
    return Trace("hot", "a hot set of 0.6 of the cache, with a scan through it; of the hot set", reads, counts)


def _alternating(some: Sequence[int], others: Sequence[int]) -> list[int]:
    """Return both, each in its order and spread evenly over the whole."""
    placed = [(number / len(part), one) for part in (some, others) for number, one in enumerate(part)]
    return [one for _, one in sorted(placed, key=lambda pair: pair[0])]


TRACES: tuple[Callable[[], Trace], ...] = (epochs, zipf, hot_set)


def measure() -> dict[str, dict[str, float]]:
    """Return the hit ratio of each trace under each policy."""
    found = {}
    for make in TRACES:
        trace = make()
        runs = {OURS: run_ours(trace.reads, CAPACITY)}
        runs |= {name: policy(trace.reads, CAPACITY) for name, policy in POLICIES.items()}
        runs[BELADY] = belady(trace.reads, CAPACITY)
        found[trace.name] = {name: ratio(trace, hits) for name, hits in runs.items()}
    return found


def ratio(trace: Trace, hits: Sequence[bool]) -> float:
    counted = [hit for hit, counts in zip(hits, trace.counts, strict=True) if counts]
    return sum(counted) / len(counted)


def best_of_others(ratios: Mapping[str, float]) -> float:
    return max(ratios[name] for name in POLICIES)


def run_ours(trace: Sequence[int], capacity: int) -> list[bool]:
    """Read a trace through the real eviction, with the watermarks that a tier has by default."""
    with tempfile.TemporaryDirectory(prefix="fusecache-hits-") as directory:
        cache = _Cache(Path(directory), capacity * SLOT_BYTES)
        try:
            return [cache.read(one) for one in trace]
        finally:
            cache.close()


class _Cache(StoreBench):
    """Files of one block, without names: nobody looks them up here."""

    def __init__(self, path: Path, quota_bytes: int) -> None:
        (path / "tier0").mkdir()
        super().__init__(path, quota_bytes)
        self._inodes: dict[int, int] = {}

    def read(self, one: int) -> bool:
        """Return whether it was cached; it is, afterwards."""
        inode = self._inodes.get(one)
        if inode is None:
            inode = self._inodes[one] = self._add(one)
        extent = self.extent(inode)
        if extent is not None:
            self.marks.set(extent.order)
            return True
        self.cache(inode, 0)
        self.marks.set(self.the_extent(inode).order)  # serve looks again, and finds it
        self._relieve()
        return False

    def _add(self, one: int) -> int:
        inode, path = 1 << 48 | one + 2, b"f%d" % one
        row = Inode(
            EntryKind.FILE, 0, NO_MODE, NO_OWNER, NO_OWNER, 1, self.block_size, 0, 0, ROOT, 1,
            identity_of(1, path, b"v"), path, b"v", b"",
        )  # fmt: skip
        self.rows[inode] = row
        with self.index.write() as txn:
            self.index.inodes.put(txn, inode, row)
        return inode

    def _relieve(self) -> None:
        """As fetch's evictor does when a block was committed."""
        (tier,) = self.tiers
        if tier.used_bytes <= tier.high_bytes:
            return
        search, target = Search(), self.store.relieved_bytes(tier)
        while tier.used_bytes > target:
            victims = pick_victims(self.store, tier, max(self.block_size, tier.used_bytes - target), search)
            if not victims and search.is_over:
                return
            self.store.forget([(victim.inode, victim.block) for victim in victims])
            self.store.reclaim()


def lines(found: Mapping[str, Mapping[str, float]]) -> Iterator[list[str]]:
    """Yield the cells of a table, its head first."""
    names = [OURS, *POLICIES, BELADY]
    yield ["", *names]
    for make in TRACES:
        trace = make()
        if trace.name in found:
            yield [trace.title, *(f"{found[trace.name][name]:.3f}" for name in names)]
