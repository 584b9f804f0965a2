"""Flights whose blocks find no place: no tier, a small one, a full or a lost one. Reads go past the cache, and are right."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import threading
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import Counter
from fusecache.fetch import block_jobs, flights
from fusecache.fetch.flights import Waiter
from tests.support.cache_reader import CacheReader
from tests.support.fake_source import FakeSource, Way, content, make_source
from tests.support.fetch_harness import BLOCK, fetching
from tests.support.garbage import no_collection
from tests.support.index_check import PAGE
from tests.support.log_check import LogCheck
from tests.support.threads import together

FAST: dict[str, Any] = {"rate": 8.0, "ttl_seconds": 100.0}
DATA = content("file", 6 * BLOCK + 5)


@pytest.fixture
def source() -> FakeSource:
    made = FakeSource()
    made.put("file", DATA)
    made.put("small", b"small")
    return made


@pytest.fixture(autouse=True)
def nothing_is_read_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """What streams, streams: the files here are all smaller than what is read as a whole."""
    monkeypatch.setattr(flights, "WHOLE_OBJECT_BYTES", 0)


def test_without_a_tier_bytes_go_past_the_cache(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (), bounce_slots=2, **FAST) as (harness, reader):
        together(20, lambda number: _expect(reader, number))
        assert harness.counter(Counter.BOUNCED_BYTES) > 0


def _expect(reader: CacheReader, number: int) -> None:
    offset = number * 3
    assert reader.read(reader.inode(b"file"), offset, 40) == DATA[offset : offset + 40]


def test_equal_reads_past_the_cache_cost_one_request(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (), **FAST) as (_, reader):
        inode = reader.inode(b"file")
        source.gate.clear()
        arrived = threading.Barrier(50, action=lambda: threading.Timer(0.5, source.gate.set).start())

        def read(_: int) -> None:
            arrived.wait()
            assert reader.read(inode, 0, 1000) == DATA

        together(50, read)
        assert source.counts.calls["read"] == 1


@pytest.mark.parametrize("quota", [0, 1 << 20])
def test_what_waited_for_blocks_is_freed_at_once(tmp_path: Path, source: FakeSource, quota: int) -> None:
    """Without a garbage collection, which is rare: each read past the cache left two kilobytes until then."""
    names = [f"one{number}" for number in range(20)]
    for name in names:
        source.put(name, b"x")
    with fetching(tmp_path, source, (quota,), **FAST) as (_, reader):
        assert reader.read_file(b"file") == DATA
        with no_collection():
            for name in names:
                assert reader.read_file(name.encode()) == b"x"
            left = [found for found in gc.get_objects() if isinstance(found, Waiter)]
    assert len(left) <= 1  # the last one's answer may be on its way


@pytest.mark.parametrize("fault", [ErrorKind.UNAVAILABLE, None])
def test_reads_past_the_cache_retry_and_end_at_the_deadline(
    tmp_path: Path, source: FakeSource, fault: ErrorKind | None, expect_log: LogCheck
) -> None:
    with fetching(tmp_path, source, (), deadline_seconds=0.5, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        source.fail(2, method="read")
        assert reader.read(inode, 0, 1000) == DATA
        expect_log("answered to a reader: UNAVAILABLE", level=50)
        if fault is None:
            source.gate.clear()
        else:
            source.fail(100_000, fault)
        with pytest.raises(CacheError) as caught:
            reader.read(inode, 1, 10)
        assert caught.value.kind is ErrorKind.UNAVAILABLE
        source.mend()


@pytest.mark.parametrize("quota", [0, 1, PAGE - 1])
def test_a_quota_below_one_block_is_served_from_the_store(tmp_path: Path, source: FakeSource, quota: int) -> None:
    with fetching(tmp_path, source, (quota,), **FAST) as (harness, reader):
        assert reader.read_file(b"file") == DATA
        assert reader.read_file(b"small") == b"small"
        assert harness.tiers[0].used_bytes == 0


@pytest.mark.parametrize("quota", [PAGE, 2 * PAGE, 3 * PAGE])
@pytest.mark.parametrize("way", Way)
def test_a_quota_of_a_few_blocks_is_kept_and_everything_is_read(tmp_path: Path, quota: int, way: Way) -> None:
    source = make_source(way)
    source.put("file", DATA)
    for number in range(6):
        source.put(f"s{number}", content(f"s{number}", BLOCK))
    with fetching(tmp_path, source, (quota,), **FAST) as (_, reader):

        def read(number: int) -> None:
            for _ in range(3):
                assert reader.read_file(b"s%d" % number) == content(f"s{number}", BLOCK)
                assert reader.read_file(b"file") == DATA

        together(6, read)


def test_a_waiter_that_goes_past_the_cache_leaves_no_lease(tmp_path: Path, source: FakeSource) -> None:
    """Its other flights went on and leased their blocks to it, for ever."""
    with fetching(tmp_path, source, (3 * PAGE,), **FAST) as (_, reader):
        inode = reader.inode(b"file")
        reader.read(inode, 2 * BLOCK, 1)  # splits the range: one part finds room, the other does not
        assert reader.read(inode, 0, 1000) == DATA


def test_a_full_disk_under_a_tier_is_a_miss(
    tmp_path: Path, source: FakeSource, expect_log: LogCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("No space left on device.*reads go on without it")
    real = os.pwrite
    full = [True]

    def pwrite(fd: int, data: Any, offset: int) -> int:
        if full[0] and "/tier0/" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(fd, data, offset)

    monkeypatch.setattr(block_jobs.os, "pwrite", pwrite)
    with fetching(tmp_path, source, (1 << 20, 1 << 20), **FAST) as (harness, reader):
        assert reader.read_file(b"file") == DATA
        assert reader.read_file(b"small") == b"small"
        assert harness.tiers[0].used_bytes == 0
        assert harness.tiers[1].used_bytes > 0
        assert source.most_reads_of_a_byte == 2  # read twice, as the first tier failed after the first time


@pytest.mark.parametrize("keep_whole", [False, True])
def test_a_tier_whose_directory_is_removed_goes_on(
    tmp_path: Path, source: FakeSource, keep_whole: bool, expect_log: LogCheck
) -> None:
    expect_log("is damaged or gone")
    expect_log("reads go on without it|its directory was removed", at_least=0)
    with fetching(tmp_path, source, (1 << 20,), keep_whole=keep_whole, **FAST) as (harness, reader):
        reader.read_file(b"small")
        reader.read(reader.inode(b"file"), 0, 3 * BLOCK)
        shutil.rmtree(harness.tiers[0].path)
        reader = harness.reader()  # one that has no descriptors of what was there
        for _ in range(2):
            assert reader.read_file(b"small") == b"small"
            assert reader.read_file(b"file") == DATA
        source.put("other", b"other")
        harness.now += 1000
        assert reader.read_file(b"other") == b"other"
        before = source.bytes_read
        assert reader.read_file(b"file") == DATA
        assert source.bytes_read == before, "the tier is not used any more"
        harness.check()


def test_an_index_that_cannot_grow_is_a_miss(
    tmp_path: Path, source: FakeSource, expect_log: LogCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("reads go on without caching", level=50)
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        inode = reader.inode(b"file")

        def full(*_: object) -> list[object]:
            raise flights.NoSpaceError("full")

        with monkeypatch.context() as patch:
            patch.setattr(harness.cache.store, "commit", full)
            assert reader.read(inode, 0, 1000) == DATA
        assert reader.read(inode, 0, 1000) == DATA
