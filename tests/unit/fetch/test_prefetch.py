"""Read-ahead: what is fetched before it is asked for, recognised from three patterns, and what is left alone."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.messages import Op, Request
from fusecache.contract.shared_memory import Counter
from fusecache.fetch import prefetch
from fusecache.fetch.flights import Flights
from tests.support.cache_reader import CacheReader
from tests.support.fake_source import FakeSource, content
from tests.support.fetch_harness import BLOCK, FetchHarness, fetching
from tests.support.index_check import PAGE
from tests.support.mounted import wait_until

FAST: dict[str, Any] = {"rate": 8.0, "ttl_seconds": 1000.0, "prefetch": True}
LARGE = content("large", 200 * BLOCK)
QUOTA = 1000 * PAGE


@pytest.fixture(autouse=True)
def small_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same shapes, some thousand times smaller."""
    monkeypatch.setattr(prefetch, "START_AHEAD_BYTES", 4 * BLOCK)
    monkeypatch.setattr(prefetch, "MAX_AHEAD_BYTES", 32 * BLOCK)
    monkeypatch.setattr(prefetch, "SMALL_FILE_BYTES", 4 * BLOCK)
    monkeypatch.setattr(Flights, "longest_run", lambda self, row: 8)


@pytest.fixture
def source() -> FakeSource:
    made = FakeSource()
    made.put("large", LARGE)
    for number in range(40):
        made.put(f"dir/f{number:02}", content(f"{number}", 10))
    return made


def cached(harness: FetchHarness, inode: int) -> list[int]:
    harness.rest()
    with harness.index.read() as txn:
        return [block for block, _ in harness.index.extents.of_inode(txn, inode)]


def cached_files(harness: FetchHarness, reader: CacheReader) -> set[int]:
    harness.rest()
    return {number for number in range(40) if cached(harness, reader.inode(b"dir/f%02d" % number))}


def test_a_file_read_from_its_start_is_read_ahead(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        inode = reader.inode(b"large")
        reader.read(inode, 0, BLOCK)
        ahead = cached(harness, inode)
        assert ahead == list(range(len(ahead)))
        assert 3 <= len(ahead) <= 12


def test_the_window_grows_with_the_stream_and_stays_bounded(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        inode = reader.inode(b"large")
        most = 0
        for block in range(150):
            assert reader.read(inode, block * BLOCK, BLOCK) == LARGE[block * BLOCK : (block + 1) * BLOCK]
            most = max(most, cached(harness, inode)[-1] - block)
        assert 20 < most <= 32 + 8 + 1
        assert source.most_reads_of_a_byte == 1
        assert source.counts.calls["read"] < 150 / 4


def test_hits_move_the_window_on(tmp_path: Path, source: FakeSource) -> None:
    """Reads that all hit never reach fetch: the mark on a block does."""
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        inode = reader.inode(b"large")
        for block in range(150):
            reader.read(inode, block * BLOCK, BLOCK)
            harness.rest()
        assert reader.misses_met < 20


def test_random_reads_are_not_read_ahead(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        inode = reader.inode(b"large")
        places = [150, 20, 110, 60, 190, 85]
        for block in places:
            reader.read(inode, block * BLOCK, 1)
        assert cached(harness, inode) == sorted(places)


def test_a_stream_that_begins_in_the_middle_is_recognised_by_its_second_read(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        inode = reader.inode(b"large")
        reader.read(inode, 100 * BLOCK, BLOCK)
        assert cached(harness, inode) == [100]
        reader.read(inode, 101 * BLOCK, BLOCK)
        assert cached(harness, inode)[-1] > 103


def test_misses_that_come_out_of_order_are_still_one_stream(tmp_path: Path, source: FakeSource) -> None:
    """The kernel reads ahead, and two processes answer it: one of its requests overtakes another."""
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        inode = reader.inode(b"large")
        for block in (1, 0):
            reader.read(inode, block * BLOCK, BLOCK)
        begun = cached(harness, inode)
        assert begun == list(range(len(begun)))
        assert len(begun) >= 4, "it was not seen to begin with the file"
        for block in range(20, 60, 2):
            for one in (block + 1, block):
                reader.read(inode, one * BLOCK, BLOCK)
        # The last hints may still be on their way.
        assert wait_until(lambda: cached(harness, inode)[-1] > 59 + 16, 5.0), "it began anew with each that was overtaken"


def test_the_end_of_the_file_ends_the_window(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        inode = reader.inode(b"large")
        for block in range(195, 200):
            reader.read(inode, block * BLOCK, BLOCK)
        assert cached(harness, inode) == list(range(195, 200))


def test_siblings_of_small_files_are_fetched(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        reader.read_file(b"dir/f05")
        assert cached_files(harness, reader) == {5}
        reader.read_file(b"dir/f20")
        assert cached_files(harness, reader) == set(range(40))
        assert source.most_reads_of_a_byte == 1
        calls = source.counts.calls["read"]
        for number in range(40):
            assert reader.read_file(b"dir/f%02d" % number) == content(f"{number}", 10)
        assert source.counts.calls["read"] == calls


def test_large_siblings_are_left_alone(tmp_path: Path, source: FakeSource) -> None:
    source.put("dir/large", LARGE)
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        reader.read_file(b"dir/f05")
        reader.read_file(b"dir/f20")
        assert cached(harness, reader.inode(b"dir/large")) == []


def test_a_sweep_does_not_push_out_what_it_fetched(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (20 * PAGE,), **FAST) as (harness, reader):
        reader.read_file(b"dir/f05")
        reader.read_file(b"dir/f20")
        harness.rest()
        assert harness.counter(Counter.EVICTED_BYTES) == 0
        assert {5, 20} <= (there := cached_files(harness, reader))
        assert 5 < len(there) <= 18


def test_a_directory_that_was_dropped_is_swept_again(tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "SWEEP_AGAIN_SECONDS", 0.0)
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        inodes = [reader.inode(b"dir/f%02d" % number) for number in range(40)]
        for inode in inodes[:3]:
            reader.read(inode, 0, 10)
        assert cached_files(harness, reader) == set(range(40))
        harness.call_sync(harness.cache.store.forget, [(inode, 0) for inode in inodes])
        for inode in inodes[20:24]:
            reader.read(inode, 0, 10)
        assert cached_files(harness, reader) == set(range(40))


def test_a_sweep_stops_when_nobody_reads(tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetch, "SWEEP_PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(prefetch, "SWEEP_BATCH", 4)
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        reader.read_file(b"dir/f05")
        reader.read_file(b"dir/f20")
        time.sleep(0.05)
        assert len(cached_files(harness, reader)) < 20


def test_read_ahead_may_fail_without_anybody_noticing(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        inode = reader.inode(b"large")
        reader.read(inode, 0, BLOCK)
        harness.rest()
        source.fail(10_000, method="read")
        end = cached(harness, inode)[-1]
        for block in range(end + 1):
            assert reader.read(inode, block * BLOCK, BLOCK) == LARGE[block * BLOCK : (block + 1) * BLOCK]
        harness.rest()
        source.mend()
        assert reader.read(inode, 0, len(LARGE)) == LARGE


def test_without_prefetch_only_what_was_asked_for_is_fetched(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (QUOTA,), **{**FAST, "prefetch": False}) as (harness, reader):
        inode = reader.inode(b"large")
        reader.read(inode, 0, 2 * BLOCK)
        assert cached(harness, inode) == [0, 1]


def test_without_a_tier_nothing_is_read_ahead(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (), **FAST) as (_, reader):
        inode = reader.inode(b"large")
        for block in range(5):
            reader.read(inode, block * BLOCK, BLOCK)
        reader.read_file(b"dir/f05")
        reader.read_file(b"dir/f20")
        assert source.bytes_read <= 5 * BLOCK + 2 * 10


def test_hints_for_what_nobody_streams_are_harmless(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (QUOTA,), **FAST) as (harness, reader):
        inode = reader.inode(b"large")
        for block in (0, 199, 5000):
            reader.misses.tell(Request(Op.HINT, inode=inode, offset=block))
        reader.misses.tell(Request(Op.HINT, inode=999))
        assert reader.read(inode, 0, 1) == LARGE[:1]
        harness.rest()
