"""What leaves the cache: a small part lets everything pass through, the rest stays unless something is asked for more often."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from fusecache.index.environment import NoSpaceError
from fusecache.index.extents import ExtentFlag
from fusecache.tiers import last_tier, victims
from fusecache.tiers.admission import OLD_TICKS
from fusecache.tiers.eviction import pick_victims
from fusecache.tiers.marks import NEVER
from fusecache.tiers.victims import Search
from tests.support.garbage import no_collection
from tests.support.index_check import PAGE
from tests.support.store_bench import BLOCK, StoreBench

Bench = Callable[..., StoreBench]
PAGES = 80
CAPACITY = 76  # blocks that such a tier keeps: 0.95 of it
MAIN = 73  # of these; the rest is on probation


@pytest.fixture
def full(bench: Bench) -> StoreBench:
    b = bench(PAGES * PAGE)
    for _ in range(CAPACITY):
        come(b)
    return b


@pytest.fixture
def first(full: StoreBench) -> list[int]:
    """What is in main."""
    found = [inode for inode in full.rows if not is_on_probation(full, inode)]
    assert len(found) == MAIN
    return found


def come(b: StoreBench, inode: int | None = None) -> int:
    """Somebody misses an object (a new one by default): it is fetched and read, and the tier is relieved."""
    inode = b.file(BLOCK) if inode is None else inode
    b.cache(inode, 0)
    b.marks.set(b.the_extent(inode).order)
    relieve(b)
    return inode


def relieve(b: StoreBench) -> None:
    tier, search = b.tiers[-1], Search()
    while tier.used_bytes > tier.high_bytes and not search.is_over:
        picked = pick_victims(b.store, tier, PAGE, search)
        b.store.forget((victim.inode, victim.block) for victim in picked)
        b.store.reclaim()


def is_on_probation(b: StoreBench, inode: int) -> bool:
    return bool(b.the_extent(inode).flags & ExtentFlag.PROBATION)


def cached(b: StoreBench, inodes: list[int]) -> list[int]:
    return [inode for inode in inodes if b.extent(inode) is not None]


def pass_time(b: StoreBench, ticks: int) -> None:
    for _ in range(ticks):
        b.store.admission._advance()


def test_what_comes_into_a_full_cache_passes_through(full: StoreBench, first: list[int]) -> None:
    new = [come(full) for _ in range(100)]
    assert cached(full, first) == first
    assert cached(full, new) == new[MAIN - CAPACITY :]
    assert is_on_probation(full, new[-1])
    full.check()


def test_what_is_asked_for_three_times_takes_the_place_of_what_nobody_reads(full: StoreBench, first: list[int]) -> None:
    wanted = full.file(BLOCK)
    for _ in range(3):
        pass_time(full, 2)
        come(full, wanted)
        for _ in range(5):
            come(full)
    assert full.extent(wanted) is not None
    assert not is_on_probation(full, wanted)
    assert len(cached(full, first)) == MAIN - 1
    full.check()


def test_what_was_read_meanwhile_keeps_its_place(full: StoreBench, first: list[int]) -> None:
    wanted = full.file(BLOCK)
    for _ in range(3):
        pass_time(full, 2)
        for inode in first:
            full.marks.set(full.the_extent(inode).order)
        come(full, wanted)
        for _ in range(5):
            come(full)
    assert full.extent(wanted) is None


def test_shuffled_epochs_push_nothing_out(full: StoreBench, first: list[int]) -> None:
    """Twice as many objects as fit, each read once an epoch: what is cached stays cached, hits or not."""
    dataset = first + [full.file(BLOCK) for _ in range(CAPACITY)]
    order = random.Random(1)
    for _ in range(6):
        for inode in order.sample(dataset, len(dataset)):
            extent = full.extent(inode)
            if extent is None:
                come(full, inode)
            else:
                full.marks.set(extent.order)
    assert cached(full, first) == first


def test_what_nobody_asks_for_during_many_turnovers_leaves_for_anything(full: StoreBench, first: list[int]) -> None:
    pass_time(full, OLD_TICKS - 40)
    come(full)
    assert cached(full, first) == first
    pass_time(full, 60)
    new = [come(full) for _ in range(20)]
    assert len(cached(full, new)) > 10


def test_an_old_mark_is_pinned_before_the_clock_has_gone_round(full: StoreBench, first: list[int]) -> None:
    pass_time(full, OLD_TICKS)
    come(full)
    cold = [one for one in first if (e := full.extent(one)) and full.marks.idle_ticks(e.order) == NEVER]
    assert cold


def test_what_was_fetched_ahead_waits_for_its_reader(full: StoreBench, first: list[int]) -> None:
    left = []
    for _ in range(4):
        ahead = [full.file(BLOCK) for _ in range(8)]
        for inode in ahead:
            full.cache(inode, 0)
            relieve(full)
        assert cached(full, ahead) == ahead
        for inode in ahead:
            full.marks.set(full.the_extent(inode).order)
        left.append(len(cached(full, first)))
        pass_time(full, 1)
    assert MAIN - 8 <= left[0] < MAIN  # probation is smaller than what came: main gave the rest
    assert left[-1] >= left[1] - 1  # and hardly any again: that room is kept


def test_nobody_waits_for_a_reader_for_ever(full: StoreBench) -> None:
    ahead = full.file(BLOCK)
    full.cache(ahead, 0)
    pass_time(full, 5)
    for _ in range(5):
        come(full)
    assert full.extent(ahead) is None


def test_leased_blocks_stay_whichever_queue_they_are_in(full: StoreBench) -> None:
    for inode in full.rows:
        full.store.leases[inode, 0] += 1
    search = Search()
    assert pick_victims(full.store, full.tiers[0], PAGE, search) == []
    while not search.is_over:
        assert pick_victims(full.store, full.tiers[0], PAGE, search) == []


def test_one_call_looks_at_a_bounded_number_of_rows(full: StoreBench, first: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(victims, "MAX_ROWS", 8)
    monkeypatch.setattr(last_tier, "BATCH", 2)
    for inode in [*first[:60], *list(full.rows)[MAIN:]]:
        full.store.leases[inode, 0] += 1
    search, calls = Search(), 1
    while not (picked := pick_victims(full.store, full.tiers[0], PAGE, search)):
        calls += 1
    assert 1 < calls < 20
    assert all(not full.store.leases[victim.inode, 0] for victim in picked)


def test_an_index_without_room_costs_a_place_and_nothing_else(full: StoreBench, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = full.file(BLOCK)
    for _ in range(2):
        pass_time(full, 2)
        come(full, wanted)
        for _ in range(5):
            come(full)

    def refuse(blocks: object) -> None:
        raise NoSpaceError("full")

    monkeypatch.setattr(full.store, "promote", refuse)
    pass_time(full, 2)
    come(full, wanted)
    come(full)
    full.check()


def test_what_is_kept_goes_into_main_at_once(full: StoreBench) -> None:
    kept = full.file(BLOCK)
    written = full.written(kept, 0, full.reserve(kept, 0))._replace(is_kept=True)
    full.commit(written)
    relieve(full)
    assert not is_on_probation(full, kept)
    other = come(full)
    assert is_on_probation(full, other)
    full.store.keep([(other, 0, full.the_extent(other))])
    assert not is_on_probation(full, other)
    for _ in range(50):
        come(full)
    assert cached(full, [kept, other]) == [kept, other]
    full.check()


def test_the_queues_survive_a_restart(full: StoreBench) -> None:
    last = come(full)
    full.restart()
    new = [come(full) for _ in range(50)]
    assert cached(full, [last, *new]) == new[MAIN - CAPACITY :]
    full.check()


def test_a_complete_container_leaves_as_a_whole(bench: Bench) -> None:
    b = bench(PAGES * PAGE, keep_whole=True)
    for _ in range(CAPACITY):
        come(b)
    large = b.file(3 * BLOCK)
    for block in range(3):
        b.cache(large, block)
        b.marks.set(b.the_extent(large, block).order)
    for _ in range(6):
        come(b)
    assert {b.extent(large, block) for block in range(3)} == {None}
    b.check()


def test_a_file_that_is_being_fetched_for_passthrough_is_not_taken_apart(bench: Bench) -> None:
    b = bench(PAGES * PAGE, keep_whole=True)
    for _ in range(CAPACITY):
        come(b)
    large = b.file(8 * BLOCK)
    places = [b.reserve(large, block) for block in range(2)]
    b.commit(b.written(large, 0, places[0]))
    b.marks.set(b.the_extent(large).order)
    for _ in range(5):
        come(b)
    assert b.extent(large) is not None
    b.store.release(places[1])
    pass_time(b, 1)
    for _ in range(5):
        come(b)
    assert b.extent(large) is None


def test_an_upper_tier_that_was_the_last_one_gives_its_probation_first(bench: Bench) -> None:
    b = bench(PAGES * PAGE)
    inodes = [come(b) for _ in range(CAPACITY)]
    two = bench(PAGES * PAGE, PAGES * PAGE)
    b.tiers.append(two.tiers[1])
    b.restart()
    assert [one.inode for one in pick_victims(b.store, b.tiers[0], 3 * PAGE, Search())] == inodes[MAIN:]
    b.tiers.pop()


def test_picking_holds_no_transaction_until_the_garbage_collection(full: StoreBench) -> None:
    """Each holds a slot of the index's table of readers: 512 of them stopped fetch, and all that came after it."""

    def slots() -> int:
        return len(full.store.index.env._env.readers().splitlines())

    relieve(full)
    before = slots()
    with no_collection():
        for _ in range(30):
            pick_victims(full.store, full.tiers[-1], PAGE, Search())
        assert slots() == before
