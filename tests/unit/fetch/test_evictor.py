"""The evictor: tiers go down to their low watermark, blocks move down and out, and a full tier costs no CPU."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.shared_memory import Counter
from fusecache.contract.warm_request import WarmRequest
from fusecache.fetch.flights import ROOM_SECONDS
from fusecache.fetch.warm import Warm
from fusecache.tiers import eviction
from tests.support.cache_reader import CacheReader
from tests.support.fake_source import FakeSource, content
from tests.support.fetch_harness import BLOCK, FetchHarness, fetching
from tests.support.index_check import PAGE
from tests.support.log_check import LogCheck

FAST: dict[str, Any] = {"rate": 8.0, "ttl_seconds": 100.0}
COUNT = 30


@pytest.fixture
def source() -> FakeSource:
    made = FakeSource()
    for number in range(COUNT):
        made.put(f"f{number:02}", content(f"{number}", BLOCK))
    made.put("large", content("large", 12 * BLOCK))
    return made


def read(reader: CacheReader, number: int) -> None:
    assert reader.read_file(b"f%02d" % number) == content(f"{number}", BLOCK)


def tiers_of(harness: FetchHarness) -> list[int]:
    with harness.index.read() as txn:
        return [extent.tier for _, _, extent in harness.index.extents.iterate(txn)]


def test_the_coldest_move_down_and_then_out(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (10 * PAGE, 10 * PAGE), **FAST) as (harness, reader):
        for number in range(COUNT):
            read(reader, number)
            harness.rest()
            assert all(tier.used_bytes <= tier.high_bytes for tier in harness.tiers)
        assert {0, 1} == set(tiers_of(harness))
        assert harness.counter(Counter.DEMOTED_BYTES) > 0
        assert harness.counter(Counter.EVICTED_BYTES) > 0
        asked = source.counts.calls["read"]
        for number in (0, COUNT - 1):  # what came first stays in the last tier, what came last is still in the first
            read(reader, number)
            assert source.counts.calls["read"] == asked
        for number in range(COUNT):
            read(reader, number)
        assert source.counts.calls["read"] > asked
        assert reader.checksum_failures == 0


def test_a_moved_block_is_verified_on_the_way(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (10 * PAGE, 64 * PAGE), **FAST) as (harness, reader):
        read(reader, 0)
        with harness.index.read() as txn:
            (_, _, extent), *_ = harness.index.extents.iterate(txn)
        segment = next((tmp_path / "tier0").glob("c/*/*"))
        with segment.open("r+b") as file:
            file.seek(extent.offset)
            file.write(b"damaged")
        for number in range(1, 12):
            read(reader, number)
        harness.rest()
        assert harness.counter(Counter.FETCH_CHECKSUM_FAILURES) == 1
        read(reader, 0)
        assert reader.checksum_failures == 0


def test_a_tier_that_fails_while_it_takes_blocks_loses_none(tmp_path: Path, source: FakeSource, expect_log: LogCheck) -> None:
    expect_log("reads go on without it")
    with fetching(tmp_path, source, (10 * PAGE, 64 * PAGE), **FAST) as (harness, reader):
        (tmp_path / "tier1" / "c").rmdir()
        (tmp_path / "tier1" / "c").write_text("not a directory")
        for number in range(COUNT):
            read(reader, number)
        harness.rest()
        assert set(tiers_of(harness)) == {0}
        (tmp_path / "tier1" / "c").unlink()


def test_leased_blocks_are_neither_moved_nor_evicted(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (4 * PAGE,), **FAST) as (harness, reader):
        read(reader, 0)
        inode = reader.inode(b"f00")
        harness.call_sync(lambda: harness.cache.store.leases.update({(inode, 0): 1}))
        for number in range(1, 12):
            read(reader, number)
        with harness.index.read() as txn:
            assert harness.index.extents.get(txn, inode, 0) is not None
        harness.call_sync(lambda: harness.cache.flights.unlease([(inode, 0)]))


def test_room_for_a_long_range_is_made_below_the_watermark(
    tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tier was not above `high` and had room for one block, so nothing was evicted for the five that came together."""
    monkeypatch.setattr("fusecache.fetch.flights.ROOM_SECONDS", 30.0)
    source.put("middle", content("middle", 5 * BLOCK))
    with fetching(tmp_path, source, (20 * PAGE,), **FAST) as (harness, reader):
        for number in range(18):
            read(reader, number)
        harness.rest()
        assert harness.tiers[0].fits(PAGE)
        assert not harness.tiers[0].fits(5 * PAGE)
        began = time.monotonic()
        progress = harness.call(Warm(harness.cache, WarmRequest(("middle",))).run)
        assert (progress.failed, progress.files) == ([], 1)
        assert time.monotonic() - began < 10


@pytest.mark.parametrize("how", ["leases of others", "its own"])
def test_a_tier_full_of_leases_costs_no_cpu(
    tmp_path: Path, source: FakeSource, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flights that waited for room and the evictor woke each other, thousands of times a second."""
    rounds = [0]
    real = eviction.pick_victims

    def count(*arguments: Any) -> Any:
        rounds[0] += 1
        return real(*arguments)

    monkeypatch.setattr("fusecache.fetch.evictor.pick_victims", count)
    if how == "its own":
        monkeypatch.setattr("fusecache.fetch.flights.ROOM_SECONDS", 30.0)
    with fetching(tmp_path, source, (4 * PAGE,), **{**FAST, "rate": 1.0}) as (harness, reader):
        if how == "its own":
            began = time.monotonic()
            reader.read(reader.inode(b"large"), 0, 5 * BLOCK)
            assert time.monotonic() - began < 10  # it can never have them all: it does not wait
        else:
            inodes = [reader.inode(b"f%02d" % number) for number in range(4)]
            for number, inode in enumerate(inodes):
                harness.call_sync(lambda inode=inode: harness.cache.store.leases.update({(inode, 0): 1}))
                read(reader, number)
            thread = threading.Thread(target=read, args=(reader, 5))
            thread.start()
            time.sleep(0.5)
            harness.call_sync(lambda: harness.cache.flights.unlease([(inode, 0) for inode in inodes]))
            began = time.monotonic()
            thread.join()
            assert time.monotonic() - began < ROOM_SECONDS / 2  # woken by the leases that ended, not by the clock
        assert rounds[0] < 40


def test_replaced_objects_leave_before_others(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (10 * PAGE,), **{**FAST, "ttl_seconds": 0.0}) as (harness, reader):
        for number in range(8):
            read(reader, number)
        old = reader.inode(b"f03")
        source.put("f03", b"new")
        reader.read_file(b"f03")
        for number in range(8, 12):
            read(reader, number)
        harness.rest()
        with harness.index.read() as txn:
            assert harness.index.extents.get(txn, old, 0) is None


@pytest.mark.slow
def test_many_readers_of_more_than_fits_see_right_bytes(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (6 * PAGE, 8 * PAGE), keep_whole=True, **FAST) as (harness, reader):
        problems: list[BaseException] = []
        end = time.monotonic() + 2

        def loop(seed: int) -> None:
            mine = harness_readers[seed % 2]
            number = seed
            try:
                while time.monotonic() < end:
                    number = (number * 7 + 3) % COUNT
                    read(mine, number)
                    if number % 5 == 0:
                        assert mine.read_file(b"large") == content("large", 12 * BLOCK)
            except BaseException as error:
                problems.append(error)

        harness_readers = [reader, harness.reader()]
        threads = [threading.Thread(target=loop, args=(seed,)) for seed in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not problems, problems[0]
        assert harness.counter(Counter.EVICTED_BYTES) > 0
        assert all(one.checksum_failures == 0 for one in harness_readers)
