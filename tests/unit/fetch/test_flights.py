"""One flight a block: what readers get, what the store is asked for, and what stays behind when something fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import Counter
from fusecache.fetch import flights
from fusecache.fetch.flights import Waiter, split_runs
from fusecache.fetch.workers import Priority
from tests.support.fake_source import FakeSource, StreamedSource, Way, content, make_source
from tests.support.fetch_harness import BLOCK, FetchHarness, fetching
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
