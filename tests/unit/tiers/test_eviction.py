"""SIEVE over the index, in tiers above the last: what was read stays, what was not leaves, the hand goes on where it stood."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fusecache.tiers import eviction, victims
from fusecache.tiers.eviction import pick_victims
from fusecache.tiers.victims import Search, Victim
from tests.support.index_check import PAGE
from tests.support.store_bench import BLOCK, StoreBench

Bench = Callable[..., StoreBench]


@pytest.fixture
def bench(bench: Bench) -> Bench:
    """With another tier below: in the last one it is not SIEVE that decides."""
    return lambda first=1 << 20, **options: bench(first, 1 << 20, **options)


def names(victims: list[Victim]) -> list[int]:
    return [victim.inode for victim in victims]


def test_the_oldest_unread_leave_first(bench: Bench) -> None:
    b = bench()
    inodes = b.small(4)
    assert names(pick_victims(b.store, b.tiers[0], 2 * PAGE, Search())) == inodes[:2]


def test_what_was_read_stays_and_loses_its_mark(bench: Bench) -> None:
    b = bench()
    inodes = b.small(4)
    b.marks.set(b.the_extent(inodes[0]).order)
    assert names(pick_victims(b.store, b.tiers[0], PAGE, Search())) == inodes[1:2]
    assert not b.marks.is_set(b.the_extent(inodes[0]).order)


def test_the_hand_goes_on_where_it_stood_and_round(bench: Bench) -> None:
    b = bench()
    inodes = b.small(4)
    for inode in inodes[:2]:
        b.marks.set(b.the_extent(inode).order)
    assert names(pick_victims(b.store, b.tiers[0], PAGE, Search())) == inodes[2:3]
    b.store.forget([(inodes[2], 0)])
    fresh = b.small()[0]
    assert names(pick_victims(b.store, b.tiers[0], 2 * PAGE, Search())) == [inodes[3], fresh]
    b.store.forget([(inodes[3], 0), (fresh, 0)])
    assert names(pick_victims(b.store, b.tiers[0], PAGE, Search())) == inodes[:1]  # round, and its mark is gone


def test_the_hand_survives_a_restart(bench: Bench) -> None:
    b = bench()
    inodes = b.small(4)
    pick_victims(b.store, b.tiers[0], 2 * PAGE, Search())
    b.store.forget([])  # any transaction stores it
    b.restart()
    assert names(pick_victims(b.store, b.tiers[0], PAGE, Search())) == inodes[2:3]


def test_when_all_were_read_the_second_round_finds_some(bench: Bench) -> None:
    b = bench()
    inodes = b.small(3)
    for inode in inodes:
        b.marks.set(b.the_extent(inode).order)
    assert names(pick_victims(b.store, b.tiers[0], PAGE, Search())) == inodes[:1]


def test_one_call_looks_at_a_bounded_number_of_rows(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It went through the whole queue when all was read, and nobody was answered meanwhile."""
    monkeypatch.setattr(eviction, "BATCH", 4)
    monkeypatch.setattr(victims, "MAX_ROWS", 8)
    b = bench()
    inodes = b.small(20)
    for inode in inodes:
        b.marks.set(b.the_extent(inode).order)
    search, calls = Search(), 0
    while not (found := pick_victims(b.store, b.tiers[0], PAGE, search)):
        assert not search.is_over
        calls += 1
    assert calls == 2
    assert names(found) == inodes[:1]
    monkeypatch.setattr(victims, "MAX_VICTIMS", 5)
    assert len(pick_victims(b.store, b.tiers[0], 20 * PAGE, Search())) == 5


def test_leased_blocks_stay(bench: Bench) -> None:
    b = bench()
    inodes = b.small(3)
    b.store.leases[(inodes[0], 0)] += 1
    assert names(pick_victims(b.store, b.tiers[0], 9 * PAGE, Search())) == inodes[1:]
    b.store.leases[(inodes[1], 0)] += 1
    b.store.leases[(inodes[2], 0)] += 1
    assert pick_victims(b.store, b.tiers[0], PAGE, Search()) == []


def test_an_empty_tier_has_no_victims(bench: Bench) -> None:
    b = bench()
    b.small(2, tier=1)
    assert pick_victims(b.store, b.tiers[0], PAGE, Search()) == []
    assert len(pick_victims(b.store, b.tiers[1], PAGE, Search())) == 1


def test_a_scan_does_not_push_out_what_is_read_again_and_again(bench: Bench) -> None:
    b = bench(16 * PAGE)
    hot = b.small(8)
    for _ in range(40):
        for inode in hot:
            b.marks.set(b.the_extent(inode).order)
        if not b.tiers[0].fits(PAGE):
            b.store.forget((victim.inode, victim.block) for victim in pick_victims(b.store, b.tiers[0], 2 * PAGE, Search()))
            b.store.reclaim()
        b.small(1)
    assert all(b.extent(inode) is not None for inode in hot)
    b.check()


@pytest.mark.parametrize("held", ["nothing", "a lease", "a mark"])
def test_a_complete_container_leaves_as_a_whole_or_not_at_all(bench: Bench, held: str) -> None:
    b = bench(keep_whole=True)
    inode = b.file(4 * BLOCK)
    b.cache(inode)
    if held == "a lease":
        b.store.leases[(inode, 3)] += 1
    if held == "a mark":
        b.marks.set(b.the_extent(inode, 3).order)
    found = pick_victims(b.store, b.tiers[0], PAGE, Search())
    expected = {"nothing": {0, 1, 2, 3}, "a lease": set(), "a mark": {0, 1, 2, 3}}[held]  # the mark is gone in the second round
    assert {victim.block for victim in found} == expected


def test_an_incomplete_container_leaves_block_by_block(bench: Bench) -> None:
    b = bench(keep_whole=True)
    inode = b.file(4 * BLOCK)
    b.cache(inode, 0, 1, 2)
    assert len(pick_victims(b.store, b.tiers[0], PAGE, Search())) == 1


def test_blocks_of_replaced_objects_go_first(bench: Bench) -> None:
    b = bench()
    old, hot = b.small(2)
    for inode in (old, hot):
        b.marks.set(b.the_extent(inode).order)
    with b.index.write() as txn:
        b.index.inodes.mark_orphan(txn, old)
    b.store.mark_orphans_cold([old, hot])
    assert names(pick_victims(b.store, b.tiers[0], PAGE, Search())) == [old]
