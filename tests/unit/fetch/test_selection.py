"""What a warm is about: patterns, filters and lists; each file once, and nothing beside them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.warm_request import WarmRequest
from fusecache.fetch.selection import PathPattern, Selection
from fusecache.fetch.warm import Progress, Warm
from tests.support.fake_source import FakeSource, content
from tests.support.fetch_harness import FetchHarness, fetching

FAST: dict[str, Any] = {"rate": 8.0, "ttl_seconds": 1000.0}
NAMES = ("a/1.bin", "a/2.txt", "a/b/1.bin", "a/b/c/3.bin", "d/1.bin", "d/[x].bin", "d/x.bin", "top.bin")


@pytest.fixture
def source() -> FakeSource:
    made = FakeSource(page_size=3)
    for number, name in enumerate(NAMES):
        made.put(name, content(name, 10 + number))
    return made


def selected(harness: FetchHarness, request: WarmRequest) -> list[str]:
    """Return the paths that come, in order, and fail where one comes twice."""

    async def collect() -> list[str]:
        selection = Selection(harness.cache, request)
        await selection.look(lambda path, error: None)
        found = selection.files(lambda row, error: None)
        return [selection.path_of(row).decode() async for _, row in found]

    paths = harness.call(collect)
    assert len(set(paths)) == len(paths), paths
    return paths


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (("a/*.bin",), {"a/1.bin"}),
        (("*/1.bin",), {"a/1.bin", "d/1.bin"}),
        (("**/1.bin",), {"a/1.bin", "a/b/1.bin", "d/1.bin"}),
        (("a/**/3.bin",), {"a/b/c/3.bin"}),
        (("a/**",), {"a/1.bin", "a/2.txt", "a/b/1.bin", "a/b/c/3.bin"}),
        (("a/?",), {"a/b/1.bin", "a/b/c/3.bin"}),
        (("?/*.txt", "a/*"), {"a/1.bin", "a/2.txt", "a/b/1.bin", "a/b/c/3.bin"}),
        (("d/[x].*",), {"d/[x].bin"}),
        (("**",), set(NAMES)),
    ],
)
def test_patterns(tmp_path: Path, source: FakeSource, patterns: tuple[str, ...], expected: set[str]) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, _):
        assert set(selected(harness, WarmRequest(patterns=patterns))) == expected


def test_what_is_named_twice_comes_once(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, _):
        request = WarmRequest(("d/x.bin", "a", "a/b"), ("**/*.bin", "d/*"))
        paths = selected(harness, request)
        assert paths[0] == "d/x.bin", "in the order in which it is named"
        assert set(paths) == set(NAMES)
        progress = harness.call(Warm(harness.cache, request).run)
        assert (progress.files, progress.files_total, progress.failures) == (len(NAMES), len(NAMES), 0)


def test_a_pattern_lists_no_directory_that_it_cannot_match_in(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, _):
        source.fail(1000, ErrorKind.DENIED, "list_page", matches=lambda path: path in (b"d", b"a/b/c"))
        assert selected(harness, WarmRequest(patterns=("a/b/*.bin",))) == ["a/b/1.bin"]


@pytest.mark.parametrize(
    "request_", [WarmRequest(patterns=("a/*.none",)), WarmRequest(patterns=("none/*",)), WarmRequest(("no",))]
)
def test_what_names_nothing_is_an_error(tmp_path: Path, source: FakeSource, request_: WarmRequest) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, _):
        with pytest.raises(CacheError) as failed:
            harness.call(Warm(harness.cache, request_).run)
        assert failed.value.kind is ErrorKind.NOT_FOUND


def test_names_are_filtered(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, _):
        assert selected(harness, WarmRequest(name_filter="*.txt")) == ["a/2.txt"]
        assert set(selected(harness, WarmRequest(("a",), name_filter="[12].*"))) == {"a/1.bin", "a/2.txt", "a/b/1.bin"}
        warm = Warm(harness.cache, WarmRequest(name_filter="*.txt"))
        assert harness.call(warm.run).bytes == 11
        assert not warm.listed_everything


def warmed(harness: FetchHarness, **request: Any) -> Progress:
    return harness.call(Warm(harness.cache, WarmRequest(**request)).run)


def test_a_list_names_what_is_loaded(tmp_path: Path, source: FakeSource) -> None:
    source.put("lists/two", b"/b/1.bin\n")
    source.put("lists/one", b"/a/b\r\n\n d/x.bin \nnone/1\ntop.bin")
    with fetching(tmp_path, source, **FAST) as (harness, _):
        request = {"file_list": "lists/one"}
        assert selected(harness, WarmRequest(**request)) == ["a/b/1.bin", "a/b/c/3.bin", "d/x.bin", "top.bin"]
        progress = warmed(harness, **request)
        assert (progress.files, progress.failures, progress.failed[0][0]) == (4, 1, "none/1")
        assert selected(harness, WarmRequest(("a",), ("top*",), **request)) == ["a/b/1.bin", "a/b/c/3.bin", "top.bin"]
        assert selected(harness, WarmRequest(("a",), file_list="lists/two", list_root="a")) == ["a/b/1.bin"]


@pytest.mark.parametrize("text", [b"a/../../x\n", b"./a\n"])
def test_a_list_leads_nowhere_else(tmp_path: Path, source: FakeSource, text: bytes) -> None:
    source.put("list", text)
    with fetching(tmp_path, source, **FAST) as (harness, _), pytest.raises(CacheError, match="in it"):
        warmed(harness, file_list="list")


def test_names_alone(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        progress = warmed(harness, metadata_only=True)
        assert (progress.files, progress.files_total, progress.bytes, progress.bytes_total) == (len(NAMES), len(NAMES), 0, 0)
        assert harness.cache.store.cached_bytes == 0
        calls = source.counts.calls["list_page"]
        assert reader.read_file(b"a/b/c/3.bin") == content("a/b/c/3.bin", 13)
        assert source.counts.calls["list_page"] == calls


def test_a_dry_run_counts_and_fetches_nothing(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, _):
        warmed(harness, paths=("top.bin",))
        progress = warmed(harness, dry_run=True)
        total = sum(10 + number for number in range(len(NAMES)))
        assert (progress.files, progress.files_total) == (1, len(NAMES))
        assert (progress.bytes, progress.bytes_total) == (17, total)
        assert harness.cache.store.cached_bytes == 17


def test_one_file_at_a_time(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, _):
        warm = Warm(harness.cache, WarmRequest(parallel=1))
        assert harness.call(warm.run).files == len(NAMES)


def test_a_small_cache_is_filled_in_order(tmp_path: Path) -> None:
    made = FakeSource()
    sizes = {"a": 100_000, "b": 100_000, "c": 300_000, "d": 10}
    for name, size in sizes.items():
        made.put(name, content(name, size))
    with fetching(tmp_path, made, (400_000,), block_size_bytes=16384, granule_size_bytes=4096, **FAST) as (harness, _):
        progress = warmed(harness, until_full=True)
        assert (progress.full, progress.failures, progress.files) == (True, 0, 2)
        assert (progress.files_total, progress.bytes_total) == (4, sum(sizes.values()))
        assert progress.bytes == harness.cache.store.cached_bytes
        assert 200_000 < progress.bytes <= 380_000, "the third file in part"


def test_the_positions_of_a_pattern() -> None:
    pattern = PathPattern("a/b/**/c*")
    assert pattern.fixed == [b"a", b"b"]
    assert pattern.covers(b"a/b/cd")
    assert pattern.covers(b"a/b/x/y/c/below")
    assert not pattern.covers(b"a/b/x/d")
    assert not pattern.covers(b"a")
