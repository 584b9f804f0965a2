"""The block store: places, extents, accounting, and giving space back without pulling it away from under a reader."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusecache.index.containers import Container
from fusecache.index.environment import NoSpaceError
from fusecache.tiers import block_store
from fusecache.tiers.eviction import pick_victims
from fusecache.tiers.victims import Search
from tests.support.index_check import PAGE, allocated_bytes, containers_on_disk
from tests.support.log_check import LogCheck
from tests.support.store_bench import BLOCK, StoreBench

Bench = Callable[..., StoreBench]

LARGE = 4 * BLOCK


def container_of(bench: StoreBench, inode: int, block: int = 0) -> Container:
    with bench.index.read() as txn:
        found = bench.index.containers.get(txn, bench.the_extent(inode, block).container)
    assert found is not None
    return found


# -- reserve, commit, release


def test_small_objects_share_a_segment_and_large_ones_have_their_own(bench: Bench) -> None:
    b = bench()
    one, two = b.small(2)
    large = b.file(LARGE)
    b.cache(large)
    assert b.the_extent(one).container == b.the_extent(two).container != b.the_extent(large).container
    assert [b.the_extent(large, block).offset for block in range(4)] == [0, 16, 32, 48]
    assert {b.stored(inode) == b.data(inode, 0) for inode in (one, two, large)} == {True}
    assert b.check().extents == 6


def test_a_released_reservation_costs_nothing_and_leaves_no_file(bench: Bench) -> None:
    b = bench()
    for inode in (b.file(BLOCK), b.file(LARGE)):
        place = b.reserve(inode, 0)
        os.pwrite(place.fd, b"x" * BLOCK, place.offset)
        b.store.release(place)
    assert b.tiers[0].used_bytes == 0
    b.check()


def test_a_reservation_counts_before_it_is_written(bench: Bench) -> None:
    b = bench(2 * PAGE)
    places = [b.reserve(b.file(BLOCK), 0), b.reserve(b.file(BLOCK), 0)]
    assert b.tiers[0].used_bytes == 2 * PAGE
    assert b.store.reserve(b.file(BLOCK), b.rows[max(b.rows)], 0) is None
    for place in places:
        b.store.release(place)
    b.small(2)
    b.check()


def test_what_does_not_fit_the_first_tier_goes_to_the_next(bench: Bench) -> None:
    b = bench(PAGE, 4 * PAGE)
    inodes = b.small(3)
    assert [b.the_extent(inode).tier for inode in inodes] == [0, 1, 1]
    b.check()


def test_a_large_file_starts_where_it_fits_and_stays_together(bench: Bench) -> None:
    b = bench(PAGE, 64 * PAGE)
    large = b.file(8 * PAGE)
    b.cache(large, 0, 1)
    assert {b.the_extent(large, block).tier for block in (0, 1)} == {1}
    b.check()


def test_a_failing_tier_is_passed_over(bench: Bench, expect_log: LogCheck) -> None:
    b = bench(64 * PAGE, 64 * PAGE)
    expect_log("reads go on without it")
    b.tiers[0].note_failure(OSError(5, "Input/output error"))
    assert b.the_extent(b.small()[0]).tier == 1
    b.check()


def test_a_block_is_taken_once(bench: Bench) -> None:
    b = bench()
    inode = b.file(BLOCK)
    first, second = (b.written(inode, 0, b.reserve(inode, 0)) for _ in range(2))
    assert b.commit(first) == []
    assert b.commit(second) == [second]
    assert b.check().extents == 1


def test_a_refused_block_of_a_large_file_leaves_the_one_that_was_taken(bench: Bench) -> None:
    """Both lie at the same place of the same file: giving the second back punched out the first."""
    b = bench()
    inode = b.file(LARGE)
    first, second = (b.written(inode, 1, b.reserve(inode, 1)) for _ in range(2))
    b.commit(first)
    b.commit(second)
    assert b.stored(inode, 1) == b.data(inode, 1)
    assert b.tiers[0].used_bytes == PAGE
    b.check()


def test_a_reservation_given_back_leaves_another_of_the_same_place(bench: Bench) -> None:
    b = bench()
    inode = b.file(LARGE)
    first, second = (b.written(inode, 1, b.reserve(inode, 1)) for _ in range(2))
    b.store.release(second.place)
    b.commit(first)
    assert b.stored(inode, 1) == b.data(inode, 1)
    b.check()


def test_blocks_of_an_inode_that_is_gone_are_refused(bench: Bench) -> None:
    b = bench()
    inode = b.file(BLOCK)
    block = b.written(inode, 0, b.reserve(inode, 0))
    with b.index.write() as txn:
        row = b.index.inodes.get(txn, inode)
        assert row is not None
        b.index.inodes.delete(txn, inode)
    assert b.commit(block) == [block]
    with b.index.write() as txn:
        b.index.inodes.put(txn, inode, row)
    assert b.check().extents == 0


def test_a_full_index_changes_nothing_and_the_places_stay_reserved(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    b = bench()
    inode = b.file(BLOCK)
    block = b.written(inode, 0, b.reserve(inode, 0))

    def full(*_: object) -> None:
        raise NoSpaceError("full")

    with monkeypatch.context() as patch:
        patch.setattr(b.index.meta, "put", full)
        with pytest.raises(NoSpaceError):
            b.commit(block)
    assert b.extent(inode) is None
    assert b.tiers[0].used_bytes == PAGE
    assert b.commit(block) == []
    b.check()


# -- forget, move, reclaim


def test_forgetting_gives_the_space_back(bench: Bench) -> None:
    b = bench()
    keep, go = b.small(2)
    assert b.store.forget([(go, 0), (go, 0), (go, 7)]) == BLOCK
    assert b.store.reclaim() is False
    assert b.tiers[0].used_bytes == PAGE
    assert allocated_bytes(b.tiers[0].path) == PAGE
    assert b.stored(keep) == b.data(keep, 0)
    b.check()


def test_a_whole_file_without_blocks_is_unlinked(bench: Bench) -> None:
    b = bench()
    inode = b.file(LARGE)
    b.cache(inode)
    b.store.forget((inode, block) for block in range(4))
    assert list(containers_on_disk(b.tiers[0].path)) == []
    assert b.tiers[0].used_bytes == 0
    b.check()


def test_a_full_segment_is_unlinked_with_its_last_block(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(block_store, "SEGMENT_BYTES", 2 * PAGE)
    b = bench()
    inodes = b.small(5)
    assert len(set(containers_on_disk(b.tiers[0].path))) == 3
    b.store.forget((inode, 0) for inode in inodes[:2])
    assert len(set(containers_on_disk(b.tiers[0].path))) == 2
    b.store.forget((inode, 0) for inode in inodes[4:])  # the one that is being filled stays for the next object
    b.store.reclaim()
    assert b.the_extent(b.small()[0]).offset == PAGE
    b.check()


def test_a_moved_block_is_where_it_was_moved_to(bench: Bench) -> None:
    b = bench(64 * PAGE, 64 * PAGE)
    inode = b.small()[0]
    large = b.file(LARGE)
    b.cache(large, tier=0)
    b.move(inode, 0, 1)
    b.move(large, 2, 1)
    b.store.reclaim()
    assert (b.the_extent(inode).tier, b.the_extent(large, 2).tier, b.the_extent(large, 1).tier) == (1, 1, 0)
    assert (b.stored(inode), b.stored(large, 2)) == (b.data(inode, 0), b.data(large, 2))
    assert [tier.used_bytes for tier in b.tiers] == [3 * PAGE, 2 * PAGE]
    b.check()


def test_a_move_of_what_changed_meanwhile_is_refused(bench: Bench) -> None:
    b = bench(64 * PAGE, 64 * PAGE)
    inode = b.small()[0]
    old = b.the_extent(inode)
    moved = b.written(inode, 0, b.reserve(inode, 0, [b.tiers[1]]), old)
    b.store.forget([(inode, 0)])
    assert b.commit(moved) == [moved]
    assert b.extent(inode) is None
    b.store.reclaim()
    b.check()


def test_nothing_is_punched_out_while_a_reader_can_name_it(bench: Bench) -> None:
    b = bench()
    keep, go = b.small(2)
    path, extent = b.container_file(go), b.the_extent(go)
    with b.index.begin_read() as txn:
        b.store.forget([(go, 0)])
        assert b.store.reclaim() is True
        assert b.index.extents.get(txn, go, 0) == extent
        with path.open("rb") as file:
            assert os.pread(file.fileno(), BLOCK, extent.offset) == b.data(go, 0)
        assert b.tiers[0].used_bytes == 2 * PAGE
        with b.index.begin_read():  # one that came after does not matter
            assert b.store.reclaim() is True
    with b.index.begin_read():
        assert b.store.reclaim() is False
    assert b.tiers[0].used_bytes == PAGE
    assert b.stored(keep) == b.data(keep, 0)
    b.check()


@pytest.mark.slow
def test_nothing_is_punched_out_while_a_reader_in_another_process_can_name_it(bench: Bench) -> None:
    b = bench()
    go = b.small(2)[1]
    extent = b.the_extent(go)
    program = (
        "import os, sys; from pathlib import Path; from fusecache.index.index import Index\n"
        "index = Index(Path(sys.argv[1]), writable=False)\n"
        "with index.read() as txn:\n"
        "    found = index.extents.get(txn, int(sys.argv[2]), 0)\n"
        "    print('looking', flush=True); sys.stdin.readline()\n"
        "    fd = os.open(sys.argv[3], os.O_RDONLY)\n"
        "    print(os.pread(fd, found.length, found.offset).hex(), flush=True)\n"
        "index.close()\n"
    )
    command = [sys.executable, "-c", program, str(b.index.env.path), str(go), str(b.container_file(go))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdin is not None
        assert reader.stdout is not None
        assert reader.stdout.readline() == "looking\n"
        b.store.forget([(go, 0)])
        assert b.store.reclaim() is True
        reader.stdin.write("go on\n")
        reader.stdin.flush()
        assert reader.stdout.readline() == b.data(go, 0).hex() + "\n"
        assert reader.wait(10) == 0
    assert extent.length == BLOCK
    assert b.store.reclaim() is False
    b.check()


@pytest.mark.parametrize("keep_whole", [False, True])
def test_a_forgotten_block_that_came_back_is_not_punched_out(bench: Bench, keep_whole: bool) -> None:
    """It goes to the very same place: a reader's snapshot had delayed the punching, which then hit the new bytes."""
    b = bench(keep_whole=keep_whole)
    inode = b.file(LARGE)
    b.cache(inode, 0, 1)
    with b.index.begin_read():
        b.store.forget([(inode, 1)])
        assert b.store.reclaim() is True
        b.cache(inode, 1)
    assert b.store.reclaim() is False
    assert b.stored(inode, 1) == b.data(inode, 1)
    assert b.tiers[0].used_bytes == 2 * PAGE
    b.check()


def test_punching_a_block_smaller_than_a_page_leaves_its_neighbours(bench: Bench) -> None:
    b = bench()
    inode = b.file(LARGE)
    b.cache(inode)
    b.store.forget([(inode, 1)])
    b.store.reclaim()
    assert [b.stored(inode, block) for block in (0, 2, 3)] == [b.data(inode, block) for block in (0, 2, 3)]
    b.check()


# -- passthrough


def test_a_complete_container_is_trusted_and_never_punched(bench: Bench) -> None:
    b = bench(keep_whole=True)
    inode = b.file(LARGE)
    b.cache(inode)
    row = container_of(b, inode)
    assert row.written_ns == b.container_file(inode).stat().st_ctime_ns
    path = b.container_file(inode)
    b.store.forget([(inode, 1)])
    assert b.store.reclaim() is False
    assert path.read_bytes() == b"".join(b.data(inode, block) for block in range(4))  # the kernel may read it right now
    assert b.tiers[0].used_bytes == 4 * PAGE
    b.check()
    b.cache(inode, 1)
    assert b.tiers[0].used_bytes == 4 * PAGE
    b.check()
    b.store.forget((inode, block) for block in range(4))
    assert not path.exists()
    assert b.tiers[0].used_bytes == 0
    b.check()


def test_a_container_that_somebody_touched_while_it_was_filled_is_not_trusted(bench: Bench) -> None:
    b = bench(keep_whole=True)
    inode = b.file(LARGE)
    b.cache(inode, 0, 1, 2)
    with b.container_file(inode).open("r+b") as file:
        file.write(b"!")
    b.cache(inode, 3)
    assert container_of(b, inode).written_ns == 0


def test_a_container_of_an_earlier_process_is_not_trusted_when_it_becomes_complete(bench: Bench) -> None:
    b = bench(keep_whole=True)
    inode = b.file(LARGE)
    b.cache(inode, 0, 1, 2)
    b.restart()
    b.cache(inode, 3)
    row = container_of(b, inode)
    assert (row.live_bytes, row.written_ns) == (row.end, 0)
    b.check()


def test_a_container_that_lost_a_block_on_the_way_is_not_trusted(bench: Bench) -> None:
    b = bench(keep_whole=True)
    inode = b.file(LARGE)
    b.cache(inode, 0, 1, 2)
    b.store.forget([(inode, 0)])
    b.cache(inode, 0, 3)
    assert container_of(b, inode).written_ns == 0
    b.check()


# -- things that vanish, and restarts


def test_a_segment_that_vanished_is_not_written_to_again(bench: Bench) -> None:
    b = bench()
    lost = b.small()[0]
    b.container_file(lost).unlink()
    b.tiers[0].close_writable()
    fresh = b.small()[0]
    assert b.the_extent(fresh).container != b.the_extent(lost).container
    assert b.stored(fresh) == b.data(fresh, 0)
    assert not b.tiers[0].is_failing()


def test_a_whole_file_that_vanished_takes_its_blocks_with_it(bench: Bench) -> None:
    """Else it would be made again, full of holes, and be complete by the count of its blocks."""
    b = bench(keep_whole=True)
    inode = b.file(LARGE)
    b.cache(inode, 0, 1, 2)
    b.container_file(inode).unlink()
    b.tiers[0].close_writable()
    b.cache(inode, 3)
    assert [b.extent(inode, block) is None for block in range(4)] == [True, True, True, False]
    assert container_of(b, inode, 3).written_ns == 0
    b.check()


def test_a_lost_tier_is_used_again_when_its_directory_can_be_made(bench: Bench, expect_log: LogCheck) -> None:
    expect_log("its directory was removed", at_least=1)
    b = bench()
    b.small(3)
    large = b.file(LARGE)
    b.cache(large)
    shutil.rmtree(b.tiers[0].path)
    b.store.lose_container(b.tiers[0], b.the_extent(large).container, large)
    b.tiers[0].close_writable()
    fresh = b.small()[0]
    assert b.stored(fresh) == b.data(fresh, 0)
    assert b.extent(large) is None


def test_a_restart_gives_the_same_accounting(bench: Bench) -> None:
    b = bench(8 * PAGE, 64 * PAGE)
    b.small(5)
    large = b.file(LARGE)
    b.cache(large)
    b.store.forget([(large, 2)])
    b.store.reclaim()
    before = [tier.used_bytes for tier in b.tiers], b.store.cached_bytes
    b.restart()
    assert ([tier.used_bytes for tier in b.tiers], b.store.cached_bytes) == before
    b.check()
    b.small(1)
    b.check()


def test_a_number_is_not_given_out_again_after_a_crash(bench: Bench) -> None:
    b = bench()
    places = [b.reserve(b.file(BLOCK), 0), b.reserve(b.file(LARGE), 0)]
    for place in places:
        os.close(place.fd)
    b.restart()
    fresh = b.reserve(b.file(LARGE), 0)
    assert fresh.container > max(place.container for place in places)
    b.store.release(fresh)


@pytest.mark.parametrize("reclaimed", ["before", "after", "never"])
@pytest.mark.parametrize("end", ["committed", "released"])
@pytest.mark.parametrize("keep_whole", [False, True])
def test_a_block_is_forgotten_while_it_comes_again(bench: Bench, keep_whole: bool, end: str, reclaimed: str) -> None:
    """Two reservations of one block have one place; when what the first one brought was forgotten, the second one's bytes were
    punched out with it."""
    b = bench(keep_whole=keep_whole)
    inode = b.file(LARGE)
    b.cache(inode, 1, 2, 3)
    first, second = (b.written(inode, 0, b.reserve(inode, 0)) for _ in range(2))
    assert first.place[:4] == second.place[:4]
    assert not b.commit(first)
    b.store.forget([(inode, 0)])
    if reclaimed == "before":
        assert not b.store.reclaim()
    if end == "committed":
        assert not b.commit(second)
    else:
        b.store.release(second.place)
    if reclaimed == "after":
        assert not b.store.reclaim()
    if end == "committed":
        assert b.stored(inode) == b.data(inode, 0)
    b.check()
    b.store.forget((inode, block) for block in range(4))
    b.store.reclaim()
    b.check()
    assert sum(tier.used_bytes for tier in b.tiers) == 0


# -- any sequence


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    quotas=st.sampled_from([(2 * PAGE,), (4 * PAGE, 3 * PAGE), (64 * PAGE,)]),
    keep_whole=st.booleans(),
    steps=st.lists(st.tuples(st.integers(0, 6), st.integers(0, 3), st.integers(0, 3)), max_size=25),
)
def test_accounting_holds_after_any_sequence(
    tmp_path_factory: pytest.TempPathFactory, quotas: tuple[int, ...], keep_whole: bool, steps: list[tuple[int, int, int]]
) -> None:
    b = StoreBench(tmp_path_factory.mktemp("bench"), *quotas, keep_whole=keep_whole)
    try:
        files = [b.file(BLOCK), b.file(3), b.file(LARGE), b.file(3 * BLOCK + 1)]
        waiting = []
        for what, which, block in steps:
            inode = files[which]
            block = min(block, (b.rows[inode].size - 1) // BLOCK)
            if what == 0:
                place = b.store.reserve(inode, b.rows[inode], block)
                waiting += [] if place is None else [b.written(inode, block, place)]
            elif what == 1 and waiting:
                b.commit(waiting.pop(0))
            elif what == 2 and waiting:
                b.store.release(waiting.pop().place)
            elif what == 3:
                b.store.forget([(inode, block)])
            elif what == 4:
                b.store.reclaim()
            elif what == 5:
                b.store.forget((v.inode, v.block) for v in pick_victims(b.store, b.tiers[-1], block * PAGE + 1, Search()))
            elif what == 6 and (extent := b.extent(inode, block)) is not None and extent.tier + 1 < len(b.tiers):
                place = b.store.reserve(inode, b.rows[inode], block, b.tiers[extent.tier + 1 :])
                waiting += [] if place is None else [b.written(inode, block, place, extent)]
            for tier in b.tiers:
                assert allocated_bytes(tier.path) <= tier.used_bytes <= tier.quota_bytes
        for left in waiting:
            b.store.release(left.place)
        b.check()
        b.store.reclaim()
        b.check()
    finally:
        b.close()
