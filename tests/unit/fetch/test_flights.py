"""One flight a block: what readers get, what the store is asked for, and what stays behind when something fails."""

from __future__ import annotations

import errno
import gc
import os
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import Counter
from fusecache.fetch import block_jobs, flights
from fusecache.fetch.flights import Waiter, split_runs
from fusecache.fetch.workers import Priority
from tests.support.cache_reader import CacheReader
from tests.support.fake_source import FakeSource, StreamedSource, Way, content, make_source
from tests.support.fetch_harness import BLOCK, FetchHarness, fetching
from tests.support.garbage import no_collection
from tests.support.index_check import PAGE
from tests.support.log_check import LogCheck

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


def together(count: int, work: Callable[[int], None]) -> None:
    """Run `work(number)` in so many threads; raise what one of them raised."""
    problems: list[BaseException] = []

    def run(number: int) -> None:
        try:
            work(number)
        except BaseException as error:
            problems.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


def kind_of(call: Callable[[], object]) -> ErrorKind:
    with pytest.raises(CacheError) as caught:
        call()
    return caught.value.kind


# -- once


@pytest.mark.parametrize("way", Way)
def test_two_hundred_readers_cost_the_store_each_byte_once(tmp_path: Path, way: Way) -> None:
    source = make_source(way)
    source.put("file", DATA)
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        inode = reader.inode(b"file")
        source.gate.clear()

        def read(number: int) -> None:
            offset = number % len(DATA)
            assert reader.read(inode, offset, 1000) == DATA[offset:]

        opener = threading.Timer(0.1, source.gate.set)
        opener.start()
        together(200, read)
        opener.join()
        assert source.most_reads_of_a_byte == 1
        assert source.bytes_read == len(DATA)
        assert harness.counter(Counter.REMOTE_BYTES) == len(DATA)


def test_blocks_side_by_side_are_one_request(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (_, reader):
        assert reader.read_file(b"file") == DATA
        assert source.counts.calls["read"] == 1


def test_what_is_cached_in_the_middle_is_not_read_again(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        reader.read(inode, 2 * BLOCK, BLOCK)
        assert reader.read_file(b"file") == DATA
        assert source.most_reads_of_a_byte == 1
        assert source.counts.calls["read"] == 3


def test_a_second_reader_in_another_process_finds_the_first_ones_blocks(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        reader.read_file(b"file")
        other = harness.reader()
        assert other.read_file(b"file") == DATA
        assert other.misses_met == 0


# -- a waiter that knows less than the index


def _want(harness: FetchHarness, inode: int, blocks: list[int], *, leases: bool, priority: Priority) -> list[CacheError | None]:
    outcome: list[CacheError | None] = []

    async def want() -> None:
        row = harness.cache.tree.inode(inode)
        assert row is not None
        done = trio.Event()

        def finish(_: Waiter | None, error: CacheError | None) -> None:
            outcome.append(error)
            done.set()

        waiter = Waiter(inode, blocks, time.monotonic() + 5, finish, lambda: finish(None, None), leases=leases)
        harness.cache.flights.want(waiter, row, priority)
        await done.wait()
        harness.cache.flights.unlease(waiter.leased)

    harness.call(want)
    return outcome


@pytest.mark.parametrize("cached", [[0], [2], [6], [1, 2, 5], list(range(7))])
@pytest.mark.parametrize("keep_whole", [False, True])
def test_blocks_that_came_meanwhile_are_neither_waited_for_nor_fetched_again(
    tmp_path: Path, source: FakeSource, cached: list[int], keep_whole: bool
) -> None:
    """A warm-up looks which blocks are missing, pauses, and asks. A gap in its range was read as from the object's start."""
    with fetching(tmp_path, source, keep_whole=keep_whole, **FAST) as (harness, reader):
        inode = reader.inode(b"file")
        for block in cached:
            reader.read(inode, block * BLOCK, 1)
        assert _want(harness, inode, list(range(7)), leases=True, priority=Priority.WARM) == [None]
        harness.check()
        assert reader.read_file(b"file") == DATA
        assert source.most_reads_of_a_byte == 1
        assert reader.checksum_failures == 0


# -- failing


@pytest.mark.parametrize("kind", [ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT])
@pytest.mark.parametrize("way", Way)
def test_what_is_worth_a_retry_is_not_seen_by_readers(tmp_path: Path, kind: ErrorKind, way: Way) -> None:
    source = make_source(way)
    source.put("file", DATA)
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        inode = reader.inode(b"file")
        source.fail(2, kind, "read")
        source.fail(2, kind, "piece")
        assert reader.read(inode, 0, 1000) == DATA
        assert source.counts.faults == 2
        assert harness.counter(Counter.REMOTE_RETRIES) == 2


def test_a_stream_that_breaks_goes_on_where_it_broke(tmp_path: Path) -> None:
    """What came before the break is read by those who wait for it, and not fetched again."""
    source = StreamedSource()
    source.put("file", DATA)
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        inode = reader.inode(b"file")
        asked: list[bytes] = []
        source.fail(1, ErrorKind.UNAVAILABLE, "piece", matches=lambda path: asked.append(path) or len(asked) == 2)
        assert reader.read(inode, 0, 1000) == DATA
        assert source.counts.faults == 1
        assert source.counts.calls["stream"] == 2
        assert harness.counter(Counter.REMOTE_RETRIES) == 1
        assert source.most_reads_of_a_byte == 1  # it broke after two pieces, which are three whole blocks
        assert harness.counter(Counter.REMOTE_BYTES) == len(DATA)


def test_a_stream_that_breaks_again_and_again_but_goes_on_is_read_to_the_end(tmp_path: Path) -> None:
    source = StreamedSource()
    source.put("file", DATA)
    with fetching(tmp_path, source, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        asked: list[bytes] = []
        source.fail(100, ErrorKind.UNAVAILABLE, "piece", matches=lambda path: asked.append(path) or len(asked) % 2 == 0)
        assert reader.read(inode, 0, 1000) == DATA
        assert source.counts.faults > 1
        assert max(source.counts.reads.values()) <= 2


def test_pauses_between_retries_grow_and_obey_the_store(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **{**FAST, "rate": 1.0}) as (_, reader):
        inode = reader.inode(b"file")
        source.fail(1, method="read", retry_after_seconds=0.4)
        began = time.monotonic()
        assert reader.read(inode, 0, BLOCK) == DATA[:BLOCK]
        assert time.monotonic() - began >= 0.4


def test_a_store_that_stays_away_is_an_error_within_the_deadline(
    tmp_path: Path, source: FakeSource, expect_log: LogCheck
) -> None:
    expect_log("answered to a reader: UNAVAILABLE: the store did not answer in time", level=50)
    with fetching(tmp_path, source, deadline_seconds=0.4, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        source.fail(100_000)
        began = time.monotonic()
        assert kind_of(lambda: reader.read(inode, 0, BLOCK)) is ErrorKind.UNAVAILABLE
        assert 0.3 < time.monotonic() - began < 5
        source.mend()
        time.sleep(flights.FAIL_AGAIN_SECONDS)
        assert reader.read(inode, 0, 1000) == DATA


def test_a_store_that_hangs_is_an_error_within_the_deadline_and_cached_blocks_are_read(
    tmp_path: Path, source: FakeSource, expect_log: LogCheck
) -> None:
    expect_log("answered to a reader: UNAVAILABLE: the store did not answer in time", level=50)
    with fetching(tmp_path, source, deadline_seconds=0.4, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        reader.read(inode, 0, BLOCK)
        source.gate.clear()
        assert kind_of(lambda: reader.read(inode, 2 * BLOCK, BLOCK)) is ErrorKind.UNAVAILABLE
        assert reader.read(inode, 0, BLOCK) == DATA[:BLOCK]
        source.mend()


@pytest.mark.parametrize("kind", [ErrorKind.DENIED, ErrorKind.INVALID])
def test_what_no_retry_mends_is_told_at_once(tmp_path: Path, source: FakeSource, kind: ErrorKind, expect_log: LogCheck) -> None:
    expect_log(f"answered to a reader: {kind.name}", level=50)
    with fetching(tmp_path, source, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        source.fail(1, kind, "read")
        assert kind_of(lambda: reader.read(inode, 0, BLOCK)) is kind
        assert source.counts.calls["read"] == 1
        assert reader.read(inode, 0, 1000) == DATA


@pytest.mark.parametrize("times", [1, 2])
def test_what_should_not_happen_is_tried_once_more(tmp_path: Path, source: FakeSource, times: int, expect_log: LogCheck) -> None:
    expect_log("answered to a reader: CORRUPT", level=50, at_least=times - 1)
    with fetching(tmp_path, source, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        source.fail(times, ErrorKind.CORRUPT, "read")
        if times == 1:
            assert reader.read(inode, 0, 1000) == DATA
        else:
            assert kind_of(lambda: reader.read(inode, 0, BLOCK)) is ErrorKind.CORRUPT


def test_an_exception_of_a_library_is_our_bug_and_no_end(tmp_path: Path, source: FakeSource, expect_log: LogCheck) -> None:
    expect_log("unexpected error in a store call", level=50)

    def explode(method: str, path: bytes) -> None:
        if method == "read":
            source.before = None
            raise ZeroDivisionError

    with fetching(tmp_path, source, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        source.before = explode
        assert reader.read(inode, 0, 1000) == DATA


def test_a_short_answer_is_asked_for_again(tmp_path: Path, source: FakeSource) -> None:
    real = source.read
    answers = [b"", DATA[:BLOCK] + b"more than asked", DATA[: BLOCK - 1]]
    source.read = lambda *args: answers.pop() if answers else real(*args)  # type: ignore[method-assign]
    with fetching(tmp_path, source, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        assert reader.read(inode, 0, BLOCK) == DATA[:BLOCK]
        assert not answers


# -- versions


@pytest.mark.parametrize("way", Way)
@pytest.mark.parametrize("quotas", [(1 << 20,), ()])
def test_a_replaced_object_is_stale_and_the_next_lookup_sees_the_new_one(
    tmp_path: Path, way: Way, quotas: tuple[int, ...], expect_log: LogCheck
) -> None:
    expect_log("answered to a reader: STALE", level=50)
    source = make_source(way)
    source.put("file", DATA)
    with fetching(tmp_path, source, quotas, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        source.put("file", b"another one")
        assert kind_of(lambda: reader.read(inode, 0, 10)) is ErrorKind.STALE
        assert reader.inode(b"file") != inode
        assert reader.read_file(b"file") == b"another one"
        assert kind_of(lambda: reader.read(inode, 0, 10)) is ErrorKind.STALE
        asked = source.counts.calls["read"] + source.counts.calls["stream"]
        assert kind_of(lambda: reader.read(inode, 50, 10)) is ErrorKind.STALE  # without asking again
        assert source.counts.calls["read"] + source.counts.calls["stream"] == asked


@pytest.mark.parametrize("quotas", [(1 << 20,), ()])
def test_a_deleted_object_is_stale_for_those_who_hold_it(
    tmp_path: Path, source: FakeSource, quotas: tuple[int, ...], expect_log: LogCheck
) -> None:
    expect_log("answered to a reader: STALE", level=50)
    with fetching(tmp_path, source, quotas, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        source.remove("file")
        assert kind_of(lambda: reader.read(inode, 0, 10)) is ErrorKind.STALE
        assert reader.find(b"file") is None


def test_an_old_version_that_is_cached_can_be_read_to_the_end(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **{**FAST, "ttl_seconds": 0.0}) as (_, reader):
        inode = reader.inode(b"file")
        reader.read(inode, 0, 1000)
        source.put("file", b"new")
        assert reader.read_file(b"file") == b"new"
        assert reader.read(inode, 0, 1000) == DATA


# -- room


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
        assert kind_of(lambda: reader.read(inode, 1, 10)) is ErrorKind.UNAVAILABLE
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


def test_an_index_that_cannot_grow_is_a_miss(tmp_path: Path, source: FakeSource, expect_log: LogCheck) -> None:
    expect_log("reads go on without caching", level=50)
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        inode = reader.inode(b"file")
        store = harness.cache.store
        real = store.commit

        def full(*_: object) -> list[object]:
            raise flights.NoSpaceError("full")

        store.commit = full  # type: ignore[method-assign,assignment]
        assert reader.read(inode, 0, 1000) == DATA
        store.commit = real  # type: ignore[method-assign]
        assert reader.read(inode, 0, 1000) == DATA


# -- giving up


def test_a_cancelled_reader_does_not_stop_the_others(tmp_path: Path, source: FakeSource) -> None:
    from fusecache.contract.messages import Op, Request

    with fetching(tmp_path, source, **FAST) as (_, reader):
        inode = reader.inode(b"file")
        source.gate.clear()
        called: list[object] = []
        token = reader.misses.submit(Request(Op.READ, 0, inode, 0, BLOCK), called.append)
        opener = threading.Timer(0.1, source.gate.set)
        opener.start()
        reader.misses.cancel(token)
        assert reader.read(inode, 0, BLOCK) == DATA[:BLOCK]
        opener.join()
        assert called == []
        assert source.most_reads_of_a_byte == 1


def test_a_flight_that_nobody_waits_for_is_not_tried_for_ever(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        inode = reader.inode(b"file")
        source.fail(1000, method="read")

        def start() -> None:
            row = harness.cache.tree.inode(inode)
            assert row is not None
            harness.cache.flights.start(inode, row, 0, 2, Priority.PREFETCH)

        harness.call_sync(start)
        harness.rest()
        assert source.counts.calls["read"] == flights.UNWANTED_ATTEMPTS


@pytest.mark.parametrize(
    ("blocks", "longest", "runs"),
    [
        ([], 4, []),
        ([3], 4, [(3, 1)]),
        ([1, 2, 3, 5, 6, 9], 4, [(1, 3), (5, 2), (9, 1)]),
        ([0, 1, 2, 3, 4], 2, [(0, 2), (2, 2), (4, 1)]),
        ([0, 1], 0, [(0, 1), (1, 1)]),
    ],
)
def test_runs(blocks: list[int], longest: int, runs: list[tuple[int, int]]) -> None:
    assert split_runs(blocks, longest) == runs
