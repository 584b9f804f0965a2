"""Directories as readers see them: how old an answer may be, what happens while a listing is under way, and in outages."""

from __future__ import annotations

import functools
import threading
import time
from pathlib import Path

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import Op
from fusecache.fetch import listing, outages
from fusecache.fetch.tree_walk import find
from fusecache.fetch.warm import refresh
from fusecache.index.environment import NoSpaceError
from fusecache.source.protocol import Hidden, Page
from tests.support.fake_source import FakeSource
from tests.support.fetch_harness import FetchHarness, fetching, spec_of
from tests.support.log_check import LogCheck
from tests.support.mounted import wait_until

TTL = 100.0
FAST = {"rate": 8.0, "ttl_seconds": TTL}


@pytest.fixture
def source() -> FakeSource:
    made = FakeSource(page_size=3)
    for name in ("a", "b", "c", "d", "e", "dir/x", "dir/y"):
        made.put(name, name.encode())
    return made


def lists(source: FakeSource) -> int:
    """Pages of the root: directories below may be listed ahead of their readers."""
    return source.counts.listed[b""]


def test_within_the_ttl_nothing_is_asked_twice(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        assert reader.names() == [b"a", b"b", b"c", b"d", b"dir", b"e"]
        asked = lists(source)
        assert reader.names() == [b"a", b"b", b"c", b"d", b"dir", b"e"]
        assert reader.lookup(1, b"a") is not None
        assert reader.lookup(1, b"nothing") is None
        assert lists(source) == asked
        assert source.counts.calls["stat"] == 0
        harness.now += TTL + 1
        source.put("f", b"new")
        assert reader.lookup(1, b"f") is not None
        harness.rest()  # f was asked for alone; its listing goes on
        assert lists(source) == asked + 3


def test_every_name_is_told_once_while_the_listing_grows_and_changes(tmp_path: Path, source: FakeSource) -> None:
    for number in range(20):
        source.put(f"n{number:02}", b"x")
    with fetching(tmp_path, source, **FAST) as (_, reader):
        first = reader.ask(lambda: reader.fs.readdir(1, 0, 5, False))
        source.remove("n03")
        source.put("n055", b"x")
        names, offset = [entry.name for entry in first.entries], first.entries[-1].offset
        while part := reader.ask(lambda offset=offset: reader.fs.readdir(1, offset, 5, False)).entries:  # type: ignore[misc]
            names += [entry.name for entry in part]
            offset = part[-1].offset
        assert len(names) == len(set(names))
        assert {b"a", b"e", b"n00", b"n19"} <= set(names)


def test_the_first_page_is_shown_before_the_listing_is_complete(tmp_path: Path, source: FakeSource) -> None:
    reached, go_on = threading.Event(), threading.Event()

    def stall(method: str, path: bytes) -> None:
        if (method, path) == ("list_page", b"") and lists(source) == 1:
            reached.set()
            go_on.wait(20)

    source.before = stall
    with fetching(tmp_path, source, **FAST) as (_, reader):
        part = reader.ask(lambda: reader.fs.readdir(1, 0, 4, False))
        assert [entry.name for entry in part.entries] == [b".", b"..", b"a", b"b"]
        assert reached.wait(10)
        assert reader.lookup(1, b"c") is not None  # of the first page
        assert reader.lookup(1, b"e") is not None  # asked for alone
        assert source.counts.calls["stat"] == 1
        go_on.set()
        assert sorted(reader.names()) == [b"a", b"b", b"c", b"d", b"dir", b"e"]


def test_the_directory_that_is_read_comes_before_those_ahead(tmp_path: Path) -> None:
    source = FakeSource(page_size=100)
    for number in range(20):
        source.put(f"d{number:02}/x", b"x")
    listed: list[bytes] = []
    source.before = lambda method, path: listed.append(path) if method == "list_page" else None
    with fetching(tmp_path, source, **FAST, prefetch=True) as (_, reader):
        assert len(reader.names()) == 20
        row = reader.lookup(1, b"d10")
        assert row is not None
        assert reader.names(row.inode) == [b"x"]
        assert wait_until(lambda: len(listed) == 6, 20, 0.005)
    assert listed[:2] == [b"", b"d10"]
    assert sorted(listed[2:]) == [b"d11", b"d12", b"d13", b"d14"]


def test_many_who_want_the_same_directory_cost_one_listing(tmp_path: Path, source: FakeSource) -> None:
    source.page_size = 100
    source.gate.clear()
    with fetching(tmp_path, source, **FAST) as (_, reader):
        threads = [threading.Thread(target=reader.names) for _ in range(20)]
        threads += [threading.Thread(target=reader.lookup, args=(1, b"a")) for _ in range(20)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        source.gate.set()
        for thread in threads:
            thread.join()
        assert lists(source) == 1


def test_names_and_data_outlive_an_outage_and_come_back_after(
    tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outages, "ASK_AGAIN_SECONDS", 0.1)
    monkeypatch.setattr(listing, "STALE_GRACE_SECONDS", 0.1)
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        assert reader.read_file(b"a") == b"a"
        assert len(reader.names()) == 6
        source.fail(10_000)
        harness.now += TTL + 1
        assert len(reader.names()) == 6
        assert reader.read_file(b"a") == b"a"
        source.mend()
        source.put("new", b"n")
        harness.now += TTL + 1
        deadline = time.monotonic() + 20
        while reader.lookup(1, b"new") is None:
            harness.now += TTL + 1
            assert time.monotonic() < deadline, "the outage never ends for readers"
            time.sleep(0.05)


@pytest.mark.slow
@pytest.mark.parametrize("hangs", [False, True])
def test_name_and_read_of_a_store_that_is_gone_end_within_one_deadline(
    tmp_path: Path, source: FakeSource, expect_log: LogCheck, hangs: bool
) -> None:
    """They took the deadline and up to 5 s: each name out of date was asked for first."""
    expect_log("answered to a reader: UNAVAILABLE: the store did not answer in time", level=50)
    with fetching(tmp_path, source, ttl_seconds=TTL, deadline_seconds=1.5) as (harness, reader):
        assert len(reader.names()) == 6
        assert reader.read_file(b"dir/x") == b"dir/x"
        reader.names(reader.inode(b"dir"))
        harness.now += TTL + 1
        if hangs:
            source.gate.clear()
        else:
            source.fail(100_000)
        began = time.monotonic()
        with pytest.raises(CacheError):
            reader.read_file(b"dir/y")
        assert 0.8 * 1.5 < time.monotonic() - began < 3.5  # stress tests measure it; a busy machine must not fail this one
        harness.now += TTL + 1
        began, asked = time.monotonic(), source.counts.calls["list_page"]
        for _ in range(20):
            assert reader.read_file(b"dir/x") == b"dir/x"
            assert len(reader.names()) == 6
            harness.now += listing.STALE_GRACE_SECONDS + 1
        assert time.monotonic() - began < 4, "a source that is known not to answer is waited for"
        assert source.counts.calls["list_page"] - asked <= 1, "a source that is known not to answer is asked again and again"
        source.mend()
        source.gate.set()


@pytest.mark.slow
def test_an_answer_that_nobody_waited_for_is_taken_and_told(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, ttl_seconds=TTL, deadline_seconds=2.0) as (harness, reader):
        reader.names()
        harness.now += TTL + 1
        source.put("a", b"replaced")
        source.gate.clear()
        assert len(reader.names()) == 6  # silent: what is known is told
        assert reader.inode(b"a")
        assert not reader.told
        source.gate.set()
        assert wait_until(
            lambda: (Op.INVALIDATE_ENTRY, 1, b"a") in {(answer.op, answer.inode, answer.name) for answer in reader.told}, 5.0
        )
        assert reader.read_file(b"a") == b"replaced"
        harness.now += TTL + 1
        source.put("a", b"replaced again")
        assert reader.read_file(b"a") == b"replaced again", "the outage is over, and the source is waited for again"


@pytest.mark.slow
def test_a_store_that_always_takes_its_time_is_waited_for(
    tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Silence is measured by what the source took lately: a replaced object is seen after the TTL if the store is there."""
    monkeypatch.setattr(outages, "SILENCE_SECONDS", 0.1)
    source.delay_seconds = 0.15
    source.page_size = 100
    with fetching(tmp_path, source, ttl_seconds=TTL) as (harness, reader):
        assert reader.read_file(b"a") == b"a"
        harness.now += TTL + 1
        source.put("a", b"replaced")
        assert reader.read_file(b"a") == b"replaced"


def test_a_first_listing_that_fails_is_an_error_within_the_deadline(
    tmp_path: Path, source: FakeSource, expect_log: LogCheck
) -> None:
    expect_log("answered to a reader: UNAVAILABLE", level=50)
    source.fail(10_000)
    with fetching(tmp_path, source, **{**FAST, "deadline_seconds": 0.3}) as (_, reader):
        began = time.monotonic()
        with pytest.raises(CacheError) as caught:
            reader.names()
        assert caught.value.kind is ErrorKind.UNAVAILABLE
        assert time.monotonic() - began < 5
        source.mend()
        assert len(reader.names()) == 6


class CirclingSource(FakeSource):
    """Its listing leads from token to token in a circle, as those of stores do that take a token for a page number."""

    circle: tuple[str, ...] = ()

    def list_page(self, path: bytes, token: str | None = None, limit: int = 1000) -> Page:
        self._enter("list_page", path)
        self._leave()
        entries = [self._listed(path, b"a")] if token is None else []
        here = self.circle.index(token) if token is not None else -1
        return Page(entries, self.circle[(here + 1) % len(self.circle)], [])


@pytest.mark.parametrize("circle", [("a",), ("a", "b"), ("a", "b", "c", "d", "e")])
def test_a_listing_that_goes_round_in_circles_ends_with_an_error(
    tmp_path: Path, circle: tuple[str, ...], expect_log: LogCheck
) -> None:
    expect_log("answered to a reader: UNAVAILABLE: .*its continuation tokens lead nowhere", level=50)
    source = CirclingSource()
    source.circle = circle
    source.put("a", b"a")
    with fetching(tmp_path, source, **FAST) as (_, reader):
        with pytest.raises(CacheError) as caught:
            reader.names()
        assert caught.value.kind is ErrorKind.UNAVAILABLE
        assert lists(source) <= 20


def test_a_wrong_key_is_told_at_once(tmp_path: Path, source: FakeSource, expect_log: LogCheck) -> None:
    expect_log("answered to a reader: DENIED", level=50)
    source.fail(1, ErrorKind.DENIED)
    with fetching(tmp_path, source, **FAST) as (_, reader):
        with pytest.raises(CacheError) as caught:
            reader.names()
        assert caught.value.kind is ErrorKind.DENIED
        assert lists(source) == 1


def test_a_directory_that_went_is_gone_for_those_inside_too(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        inode = reader.inode(b"dir")
        assert reader.names(inode) == [b"x", b"y"]
        source.remove("dir")
        harness.now += TTL + 1
        with pytest.raises(CacheError) as caught:
            reader.names(inode)
        assert caught.value.kind in (ErrorKind.NOT_FOUND, ErrorKind.STALE)
        assert reader.lookup(1, b"dir") is None
        with pytest.raises(CacheError) as caught:
            reader.names(inode)
        assert caught.value.kind is ErrorKind.STALE


def test_the_kernel_is_told_what_changed(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        reader.names()
        source.put("a", b"new version")
        source.remove("b")
        harness.call(refresh, harness.cache, [b""])
        deadline = time.monotonic() + 5
        while len(reader.told) < 3 and time.monotonic() < deadline:
            time.sleep(0.01)
        told = {(answer.op, answer.inode, answer.name) for answer in reader.told}
        entries = {(Op.INVALIDATE_ENTRY, 1, b"a"), (Op.INVALIDATE_ENTRY, 1, b"b")}
        assert entries | {(Op.INVALIDATE_INODE, 1, b"")} <= told


def test_a_large_directory_is_not_listed_for_one_stale_name(
    tmp_path: Path, source: FakeSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LARGE_DIRECTORY", 4)
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        reader.names()
        harness.now += TTL + 1
        source.put("a", b"longer than before")
        source.gate.clear()  # the listing in the background hangs, and the name has to wait for the stat alone

        def let_stats_pass(method: str, path: bytes) -> None:
            source.gate.set() if method == "stat" else None

        source.before = let_stats_pass
        found = reader.lookup(1, b"a")
        assert found is not None
        assert found.size == 18
        assert source.counts.calls["stat"] == 1
        source.before = None
        source.gate.set()


def test_hidden_names_are_counted_and_named_once(tmp_path: Path, source: FakeSource, expect_log: LogCheck) -> None:
    expect_log(r"b'a//b' is not shown: an empty component")
    source.hidden[b""] = [Hidden(b"a//b", "an empty component")]
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        for _ in range(3):
            reader.names()
            harness.now += TTL + 1
        assert harness.cache.tree.hidden == 1
        assert len([record for record in expect_log.records if "is not shown" in record.getMessage()]) == 1


def test_a_listing_that_repeats_itself_ends(tmp_path: Path, source: FakeSource, expect_log: LogCheck) -> None:
    expect_log("answered to a reader", level=50)

    class Repeating(FakeSource):
        def list_page(self, path: bytes, token: str | None = None, limit: int = 1000):  # type: ignore[no-untyped-def]
            page = super().list_page(path, None, limit)
            return type(page)(page.entries, "again")

    repeating = Repeating(page_size=1)
    repeating.put("a", b"x")
    repeating.put("b", b"x")
    with fetching(tmp_path, repeating, **FAST) as (_, reader), pytest.raises(CacheError):
        reader.names(count=1)


def test_an_index_that_cannot_grow_is_an_error_for_new_names_only(
    tmp_path: Path, source: FakeSource, expect_log: LogCheck, monkeypatch: pytest.MonkeyPatch
) -> None:
    expect_log("answered to a reader: NO_SPACE", level=50)
    expect_log("gave up the ballast")
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        known = reader.inode(b"a")
        assert reader.read(known, 0, 9) == b"a"
        source.put("new", b"new")
        source.put("b", b"replaced")

        def full(*_: object) -> None:
            raise NoSpaceError("full")

        with monkeypatch.context() as patch:
            patch.setattr(harness.index.dirs, "put", full)
            harness.now += TTL + 1
            with pytest.raises(CacheError) as caught:
                reader.lookup(1, b"new")
            assert caught.value.kind is ErrorKind.NO_SPACE
            with pytest.raises(CacheError):
                reader.names(reader.inode(b"dir"))
            assert reader.read(known, 0, 9) == b"a"
        assert reader.read_file(b"new") == b"new"
        assert reader.read_file(b"b") == b"replaced"


# -- refresh


def test_refresh_sees_what_changed_after_a_pass_had_begun(tmp_path: Path, source: FakeSource) -> None:
    """A pass under way may have read its pages before the change that somebody wants to see."""
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        reader.names()
        harness.now += TTL + 1
        reached, go_on = threading.Event(), threading.Event()

        def stall(method: str, path: bytes) -> None:
            if (method, path) == ("list_page", b"") and not reached.is_set():
                reached.set()
                go_on.wait(20)

        source.after = stall
        looking = threading.Thread(target=reader.names)
        looking.start()
        assert reached.wait(10)
        source.put("0", b"first in the listing")
        refreshing = threading.Thread(target=lambda: harness.call(refresh, harness.cache, [b""]))
        refreshing.start()
        time.sleep(0.02)
        go_on.set()
        refreshing.join()
        looking.join()
        assert b"0" in reader.names()


def test_a_directory_whose_place_a_file_took_is_gone_for_those_inside(tmp_path: Path, source: FakeSource) -> None:
    """Found by the model: they got ENOTDIR for a directory they had open."""
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        inode = reader.inode(b"dir")
        assert reader.names(inode) == [b"x", b"y"]
        source.remove("dir")
        source.put("dir", b"a file now")
        harness.now += TTL + 1
        with pytest.raises(CacheError) as caught:
            reader.names(inode)
        assert caught.value.kind in (ErrorKind.NOT_FOUND, ErrorKind.STALE)
        assert reader.read_file(b"dir") == b"a file now"


def test_refresh_goes_on_when_a_directory_is_gone(tmp_path: Path, source: FakeSource) -> None:
    source.put("zz/file", b"1")
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        reader.names()
        reader.names(reader.inode(b"dir"))
        reader.names(reader.inode(b"zz"))

        def vanish(method: str, path: bytes) -> None:
            if (method, path) == ("list_page", b"zz"):
                source.remove("zz")

        source.before = vanish
        source.put("dir/z", b"2")
        assert harness.call(refresh, harness.cache, [b""]) > 0
        assert reader.lookup(1, b"zz") is None
        assert reader.names(reader.inode(b"dir")) == [b"x", b"y", b"z"]


def test_refresh_reports_an_outage(tmp_path: Path, source: FakeSource) -> None:
    with fetching(tmp_path, source, **FAST) as (harness, reader):
        reader.names()
        source.fail(10_000, ErrorKind.DENIED)
        with pytest.raises(CacheError):
            harness.call(refresh, harness.cache, [b""])


# -- several sources


def test_places_of_sources_are_there_without_a_question(tmp_path: Path) -> None:
    inner, other = FakeSource(url="fake://inner"), FakeSource(url="fake://other")
    inner.put("dir/file", b"inner")
    spec = spec_of(tmp_path, 1 << 20, urls={"mm/nn": "fake://inner", "mm": "fake://other"})
    with FetchHarness(spec, inner, other).start() as harness:
        other.fail(1000)
        for path in (b"mm", b"mm/nn", b"mm/nn/dir", b"mm/nn/dir/file"):
            assert harness.call(find, harness.cache, path) == harness.reader().inode(path)
            assert harness.call(functools.partial(find, harness.cache, path, anew=True)) == harness.reader().inode(path)
        with pytest.raises(CacheError) as caught:
            harness.call(functools.partial(find, harness.cache, b"nothing", anew=True))
        assert caught.value.kind is ErrorKind.NOT_FOUND


def test_a_source_below_another_survives_the_others_listings(tmp_path: Path) -> None:
    outer, inner = FakeSource(url="fake://outer", page_size=1), FakeSource(url="fake://inner")
    for name in ("a", "b", "z"):
        outer.put(name, b"outer")
    inner.put("file", b"inner")
    spec = spec_of(tmp_path, 1 << 20, urls={"": "fake://outer", "mm/nn": "fake://inner"}, ttl_seconds=0.0)
    with FetchHarness(spec, outer, inner, rate=8.0).start() as harness:
        reader = harness.reader()
        for _ in range(3):
            assert reader.read_file(b"mm/nn/file") == b"inner"
            assert set(reader.names()) == {b"a", b"b", b"z", b"mm"}
            assert reader.read_file(b"a") == b"outer"
