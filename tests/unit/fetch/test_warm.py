"""Warm and drop: everything is cached before anybody reads it, or the reason is said."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import pytest
import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.warm_request import WarmRequest
from fusecache.fetch import flights, warm
from fusecache.fetch.warm import Progress, Warm, drop
from tests.support.fake_source import FakeSource, content
from tests.support.fetch_harness import BLOCK, FetchHarness, fetching, spec_of
from tests.support.index_check import PAGE

FAST: dict[str, Any] = {"rate": 8.0, "ttl_seconds": 1000.0}
FILES = {f"d{number % 3}/e/f{number}": content(f"{number}", number * 7) for number in range(20)}
TOTAL = sum(len(data) for data in FILES.values())


@pytest.fixture(params=["ranges", "no ranges", "inexact"])
def source(request: pytest.FixtureRequest) -> FakeSource:
    made = FakeSource(ranges=request.param != "no ranges", needs_stat=request.param == "inexact", page_size=3)
    for name, data in FILES.items():
        made.put(name, data)
    return made


def warm_up(harness: FetchHarness, *paths: str) -> Progress:
    return harness.call(Warm(harness.cache, WarmRequest(paths)).run)


def test_after_a_warm_up_nothing_is_asked_of_the_store(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        progress = warm_up(harness)
        assert (progress.files, progress.files_total, progress.bytes, progress.bytes_total) == (20, 20, TOTAL, TOTAL)
        assert (progress.failed, progress.listing) == ([], False)
        calls = dict(source.counts.calls)
        for name, data in FILES.items():
            assert reader.read_file(name.encode()) == data
        assert dict(source.counts.calls) == calls
        assert source.most_reads_of_a_byte == 1
        assert harness.cache.store.cached_bytes == TOTAL


def test_a_second_warm_up_has_nothing_to_do(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, _):
        warm_up(harness)
        calls = dict(source.counts.calls)
        progress = warm_up(harness)
        assert (progress.files, progress.bytes) == (20, TOTAL)
        assert dict(source.counts.calls) == calls


def test_only_what_was_asked_for_is_warmed(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, _):
        progress = warm_up(harness, "d1/e/f4", "d2")
        wanted = [data for name, data in FILES.items() if name == "d1/e/f4" or name.startswith("d2/")]
        assert progress.files == len(wanted)
        assert harness.cache.store.cached_bytes == sum(len(data) for data in wanted)


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, _):
        with pytest.raises(CacheError) as caught:
            warm_up(harness, "d1/nothing")
        assert caught.value.kind is ErrorKind.NOT_FOUND


def test_what_fails_is_named_with_its_reason_and_the_rest_is_there(tmp_path: Path, source: FakeSource) -> None:
    source.fail(10_000, ErrorKind.DENIED, "read", matches=lambda path: path.endswith(b"f7"))
    source.fail(10_000, ErrorKind.DENIED, "stream", matches=lambda path: path.endswith(b"f7"))
    with fetching(tmp_path, source, **FAST) as (harness, _):
        progress = warm_up(harness)
        assert [path for path, _ in progress.failed] == ["d1/e/f7"]
        assert "fault" in progress.failed[0][1]
        assert (progress.files, progress.failures, progress.files_total) == (19, 1, 20)


def test_what_fails_is_named_from_the_root_of_the_tree(tmp_path: Path) -> None:
    sources = [FakeSource(url=f"fake://{number}") for number in range(2)]
    for one in sources:
        one.put("d/f", content(one.url, 100))
        one.fail(10_000, ErrorKind.DENIED, "read")
    urls = {"": "fake://0", "deep/er": "fake://1"}
    harness = FetchHarness(spec_of(tmp_path, 1 << 20, urls=urls, ttl_seconds=1000.0), *sources, rate=8.0)
    with harness.start():
        assert sorted(path for path, _ in warm_up(harness).failed) == ["d/f", "deep/er/d/f"]


def test_a_warm_up_survives_a_bad_minute_of_the_store(
    tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flights, "MAX_BACKOFF_SECONDS", 0.1)
    with fetching(tmp_path, source, **FAST) as (harness, _):
        source.fail(8)
        assert warm_up(harness).failed == []
        assert source.counts.faults == 8


def test_what_does_not_fit_is_said_and_the_quota_is_kept(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (8 * PAGE,), **FAST) as (harness, reader):
        job = Warm(harness.cache, WarmRequest())
        progress = harness.call(job.run)
        assert progress.files + progress.failures == 20
        harness.rest()
        assert progress.failures == len(progress.failed) > 0
        assert all("larger quota" in reason for _, reason in progress.failed)
        missing = {path for path, _ in progress.failed}
        # Of an object that finds no place some blocks may land when the end was counted; so the bytes are counted again, at rest.
        counted = harness.call(Warm(harness.cache, WarmRequest(dry_run=True)).run)
        assert (counted.files, counted.bytes) == (20 - len(missing), harness.cache.store.cached_bytes)
        assert sum(len(data) for name, data in FILES.items() if name not in missing) <= progress.bytes <= counted.bytes < TOTAL
        for name, data in FILES.items():
            cached = harness.call_sync(harness.cache.store.cached_of, reader.inode(name.encode()))
            assert (cached == len(data)) == (name not in missing), name
        assert harness.tiers[0].used_bytes <= 8 * PAGE


def test_without_a_tier_everything_fails_at_once_and_says_why(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, (), **FAST) as (harness, _):
        began = time.monotonic()
        progress = warm_up(harness)
        assert progress.files == 1  # the empty one
        assert all("the cache is full" in reason for _, reason in progress.failed)
        assert time.monotonic() - began < 5


def test_little_is_asked_for_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(warm, "OUTSTANDING_FILES", 4)
    source = FakeSource()
    for number in range(50):
        source.put(f"f{number}", content(f"{number}", BLOCK))
    most = [0]
    with fetching(tmp_path, source, **FAST) as (harness, _):
        real = harness.cache.flights.start

        def start(*args: Any, **kwargs: Any) -> None:
            real(*args, **kwargs)
            most[0] = max(most[0], harness.cache.flights.count_in_flight)

        harness.cache.flights.start = start  # type: ignore[method-assign]
        assert warm_up(harness).files == 50
    assert 1 <= most[0] <= 6


def test_readers_and_a_warm_up_at_once_cost_each_byte_once(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        source.delay_seconds = 0.001
        problems: list[BaseException] = []

        def read(seed: int) -> None:
            try:
                for name, data in sorted(FILES.items(), key=lambda item: hash((seed, item[0]))):
                    assert reader.read_file(name.encode()) == data
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=read, args=(seed,)) for seed in range(4)]
        for thread in threads:
            thread.start()
        assert warm_up(harness).failed == []
        for thread in threads:
            thread.join()
        assert not problems, problems[0]
        if source.capabilities.ranges:
            assert source.most_reads_of_a_byte == 1


def test_a_warm_up_that_is_cancelled_leaves_nothing_behind(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        source.gate.clear()

        async def run_shortly() -> None:
            with trio.move_on_after(0.5):
                await Warm(harness.cache, WarmRequest()).run()

        harness.call(run_shortly)
        source.gate.set()
        harness.rest()
        assert reader.read_file(b"d1/e/f4") == FILES["d1/e/f4"]


def test_dropped_files_are_fetched_again(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        warm_up(harness)
        below = sum(len(data) for name, data in FILES.items() if name.startswith("d0/"))
        assert harness.call(drop, harness.cache, [b"d0"]) == below
        assert harness.cache.store.cached_bytes == TOTAL - below
        assert harness.call(drop, harness.cache, [b"d0"]) == 0
        assert reader.read_file(b"d0/e/f18") == FILES["d0/e/f18"]
        assert harness.call(drop, harness.cache, []) == TOTAL - below + len(FILES["d0/e/f18"])
        harness.rest()
        assert harness.tiers[0].used_bytes == 0


def test_what_is_being_read_is_not_dropped(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        warm_up(harness)
        inode = reader.inode(b"d0/e/f18")
        harness.call_sync(lambda: harness.cache.store.leases.update({(inode, 1): 1}))
        harness.call(drop, harness.cache, [])
        assert harness.cache.store.cached_bytes == BLOCK
        harness.call_sync(lambda: harness.cache.flights.unlease([(inode, 1)]))
