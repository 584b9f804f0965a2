"""Another life of an index with other sources: what goes, what comes, what readers of the same connection are told."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import Op
from fusecache.contract.mount_spec import SourceSpec
from fusecache.contract.run_files import INDEX_DIR
from fusecache.contract.warm_request import WarmRequest
from fusecache.fetch import roots, tree
from fusecache.fetch.warm import Warm
from fusecache.index.index import Index
from fusecache.index.inodes import ROOT
from fusecache.index.source_ids import source_id
from tests.support.cache_reader import CacheReader
from tests.support.fake_source import FakeSource, content
from tests.support.fetch_harness import BLOCK, FetchHarness, spec_of
from tests.support.log_check import LogCheck

SIZE = 3 * BLOCK
QUOTA = 1 << 20


def store(name: str, *paths: str, url: str = "") -> FakeSource:
    """A source whose files have the same versions as those of others, and other bytes."""
    source = FakeSource(url=url or f"fake://{name}")
    for path in paths:
        source.put(path, content(f"{name} {path}", SIZE), version=b"same")
    return source


class Lives:
    """One directory, and what is mounted in its lives."""

    def __init__(self, path: Path) -> None:
        self.harness = FetchHarness(spec_of(path, QUOTA, QUOTA))

    def begin(self, sources: dict[str, FakeSource], *, fresh: bool = True, **options: str) -> CacheReader:
        self.harness.with_sources(sources, options)
        self.harness.start(fresh_connection=fresh)
        return self.harness.reader()

    def end(self) -> None:
        self.harness.check()
        self.harness.stop()

    def cached(self, inode: int) -> int:
        return self.harness.call_sync(self.harness.cache.store.cached_of, inode)

    def warm(self) -> int:
        """Return how many files were warmed; all there are."""
        progress = self.harness.call(Warm(self.harness.cache, WarmRequest(("",))).run)
        assert not progress.failed, progress.failed
        return progress.files


@pytest.fixture
def lives(tmp_path: Path) -> Iterator[Lives]:
    made = Lives(tmp_path)
    try:
        yield made
        if made.harness._thread is not None:
            made.harness.check()
    finally:
        made.harness.close()


def told(reader: CacheReader) -> set[tuple[int, bytes]]:
    return {(answer.inode, answer.name) for answer in reader.told if answer.op is Op.INVALIDATE_ENTRY}


def told_inodes(reader: CacheReader) -> set[int]:
    return {answer.inode for answer in reader.told if answer.op is Op.INVALIDATE_INODE}


def wait_told(reader: CacheReader, entries: set[tuple[int, bytes]], directories: set[int]) -> None:
    """Wait until the kernel is told of these at least: what the writer told nobody yet comes to the first reader."""
    deadline = time.monotonic() + 5
    while not (entries <= told(reader) and directories <= told_inodes(reader)):
        assert time.monotonic() < deadline, reader.told
        time.sleep(0.01)


@pytest.mark.parametrize("fresh", [True, False])
def test_the_same_sources_keep_everything(lives: Lives, fresh: bool) -> None:
    sources = {"": store("a", "f", "d/g"), "x/y": store("b", "h")}
    reader = lives.begin(sources)
    assert lives.warm() == 3
    before = [reader.inode(path) for path in (b"f", b"d", b"d/g", b"x", b"x/y", b"x/y/h")]
    lives.end()
    for source in sources.values():
        source.fail(1000)
    reader = lives.begin(sources, fresh=fresh)
    assert [reader.inode(path) for path in (b"f", b"d", b"d/g", b"x", b"x/y", b"x/y/h")] == before
    assert reader.read_file(b"x/y/h") == content("b h", SIZE)


@pytest.mark.parametrize("place", ["", "data", "data/deep"])
@pytest.mark.parametrize("fresh", [True, False])
def test_a_place_with_another_source_has_its_names_and_bytes_alone(lives: Lives, place: str, fresh: bool) -> None:
    path = place.encode()
    prefix = path + b"/" if path else b""
    reader = lives.begin({place: store("old", "both", "d/both", "gone", "e/gone")})
    assert lives.warm() == 4
    root, old, inner = reader.inode(path), reader.inode(prefix + b"both"), reader.inode(prefix + b"d")
    lives.end()
    reader = lives.begin({place: store("new", "both", "d/both", "came")}, fresh=fresh)
    assert reader.inode(path) == root, "who has it bound, or open, goes on with what is there now"
    assert set(reader.names(root)) == {b"both", b"d", b"came"}
    assert reader.inode(prefix + b"both") != old
    assert reader.inode(prefix + b"d") != inner
    for name in ("both", "d/both", "came"):
        assert reader.read_file(prefix + name.encode()) == content(f"new {name}", SIZE)
    assert lives.warm() == 3
    if fresh:
        assert lives.cached(old) == 0, "nobody can know it any more"


def test_the_kernel_is_told_what_went_with_a_source(lives: Lives) -> None:
    reader = lives.begin({"": store("old", "a", "d/b")})
    reader.names()
    inner = reader.inode(b"d")
    reader.names(inner)
    lives.end()
    reader = lives.begin({"": store("new", "a")}, fresh=False)
    wait_told(reader, {(ROOT, b"a"), (ROOT, b"d"), (inner, b"b")}, {ROOT, inner})


def test_a_source_goes_and_another_comes_while_programs_use_a_third(lives: Lives) -> None:
    a, b, c = store("a", "f", "cold"), store("b", "f", "half", "cold"), store("c", "f")
    reader = lives.begin({"a": a, "b": b})
    assert reader.read_file(b"a/f") == content("a f", SIZE)
    of_a, cold_of_a, gone = reader.inode(b"a/f"), reader.inode(b"a/cold"), reader.inode(b"b")
    cached, half, cold = reader.inode(b"b/f"), reader.inode(b"b/half"), reader.inode(b"b/cold")
    assert reader.read(cached, 0, SIZE) == content("b f", SIZE)
    assert reader.read(half, 0, BLOCK) == content("b half", SIZE)[:BLOCK]
    assert reader.lookup(ROOT, b"c") is None
    changes = lives.harness.call_sync(lives.harness.cache.tree.directory, ROOT).changes
    lives.end()
    reader = lives.begin({"a": a, "c": c}, fresh=False)
    # A name that goes, and one of which programs know that it is not there.
    wait_told(reader, {(ROOT, b"b"), (ROOT, b"c")}, {ROOT})
    assert lives.harness.call_sync(lives.harness.cache.tree.directory, ROOT).changes > changes
    assert reader.names() == [b"a", b"c"]
    assert reader.lookup(ROOT, b"b") is None
    assert reader.read_file(b"c/f") == content("c f", SIZE)
    # What is open reads on, and that of the source that is gone as far as it is cached.
    assert reader.read(of_a, 0, SIZE) == content("a f", SIZE)
    assert reader.read(cold_of_a, 0, SIZE) == content("a cold", SIZE)
    assert reader.read(cached, 0, SIZE) == content("b f", SIZE)
    assert reader.read(half, 0, BLOCK) == content("b half", SIZE)[:BLOCK]
    for inode, offset in ((half, BLOCK), (cold, 0)):
        with pytest.raises(CacheError) as caught:
            reader.read(inode, offset, BLOCK)
        assert caught.value.kind is ErrorKind.STALE
    with pytest.raises(CacheError) as caught:
        reader.names(gone)
    assert caught.value.kind is ErrorKind.STALE
    assert lives.warm() == 3
    lives.end()
    reader = lives.begin({"a": a, "b": b, "c": c}, fresh=False)
    assert reader.inode(b"b") != gone
    assert reader.read_file(b"b/cold") == content("b cold", SIZE)
    with pytest.raises(CacheError):
        reader.read(cold, 0, BLOCK)


def test_an_open_file_never_reads_the_bytes_of_the_source_that_came(lives: Lives) -> None:
    """Path, version and size are those that it has."""
    reader = lives.begin({"": store("old", "f")})
    inode = reader.inode(b"f")
    assert reader.read(inode, 0, BLOCK) == content("old f", SIZE)[:BLOCK]
    lives.end()
    reader = lives.begin({"": store("new", "f")}, fresh=False)
    assert reader.read_file(b"f") == content("new f", SIZE)
    assert reader.read(inode, 0, BLOCK) == content("old f", SIZE)[:BLOCK]
    with pytest.raises(CacheError) as caught:
        reader.read(inode, 0, SIZE)
    assert caught.value.kind is ErrorKind.STALE


def test_a_bucket_of_that_name_at_another_endpoint_is_another_source(lives: Lives) -> None:
    reader = lives.begin({"": store("old", "f", "gone", url="s3://bucket")}, endpoint_url="https://one.example:9000")
    assert lives.warm() == 2
    inode = reader.inode(b"f")
    lives.end()
    reader = lives.begin({"": store("old", "f", "gone", url="s3://bucket")}, endpoint_url="http://ONE.example:9000/", region="x")
    assert reader.inode(b"f") == inode, "the same in another spelling"
    assert lives.cached(inode) == SIZE
    lives.end()
    reader = lives.begin({"": store("new", "f", url="s3://bucket")}, endpoint_url="https://two.example:9000")
    assert reader.names() == [b"f"]
    assert reader.read_file(b"f") == content("new f", SIZE)


OUTER = ("way/in/own", "way/file", "other")


@pytest.mark.parametrize("listed_before", [True, False])
def test_a_place_below_another_source_hides_what_that_one_has_there(lives: Lives, listed_before: bool) -> None:
    """However it came about: what one sees does not depend on what was listed before."""
    outer, inner = store("outer", *OUTER), store("inner", "f")
    if listed_before:
        lives.begin({"": outer})
        assert lives.warm() == 3
        lives.end()
    reader = lives.begin({"": outer, "way/in": inner}, fresh=False)
    assert set(reader.names()) == {b"way", b"other"}
    assert reader.names(reader.inode(b"way")) == [b"in"]
    assert reader.names(reader.inode(b"way/in")) == [b"f"]
    assert reader.read_file(b"way/in/f") == content("inner f", SIZE)
    lives.end()
    reader = lives.begin({"": outer}, fresh=False)
    assert reader.read_file(b"way/in/own") == content("outer way/in/own", SIZE), "it is asked for, and not only after a TTL"
    assert set(reader.names(reader.inode(b"way"))) == {b"in", b"file"}


def test_a_place_takes_the_place_of_a_file(lives: Lives) -> None:
    outer = store("outer", "name", "other")
    reader = lives.begin({"": outer})
    assert set(reader.names()) == {b"name", b"other"}
    lives.end()
    reader = lives.begin({"": outer, "name": store("inner", "f")}, fresh=False)
    assert reader.names(reader.inode(b"name")) == [b"f"]
    lives.harness.now += 1e6
    assert sorted(reader.names()) == [b"name", b"other"]
    lives.end()
    reader = lives.begin({"": outer}, fresh=False)
    assert reader.read_file(b"name") == content("outer name", SIZE)


def test_the_source_of_the_whole_tree_goes_and_places_remain(lives: Lives) -> None:
    whole, part = store("whole", "f", "d/e/g"), store("part", "h")
    lives.begin({"": whole, "d/e": part})
    lives.warm()
    lives.end()
    reader = lives.begin({"d/e": part}, fresh=False)
    assert reader.names() == [b"d"]
    assert reader.names(reader.inode(b"d/e")) == [b"h"]
    lives.end()
    reader = lives.begin({"": whole, "d/e": part}, fresh=False)
    assert sorted(reader.names()) == [b"d", b"f"]


@pytest.mark.parametrize("taken", [1, 2, 5, 14, 33, 60])
def test_who_dies_in_the_middle_leaves_the_rest_to_the_next(lives: Lives, taken: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if that one has the old sources again."""
    old, twin, new = store("old", *(f"d{number}/f" for number in range(20))), store("twin", "t"), store("new", "d1/f")
    lives.begin({"p/q": old, "r": twin})
    assert lives.warm() == 21
    lives.end()
    with monkeypatch.context() as patch:
        patch.setattr(tree, "STEP_REMOVALS", 1)
        patch.setattr(roots, "STEP_NAMES", 2)
        index = Index(Path(lives.harness.spec.state_dir) / INDEX_DIR, writable=True)
        of_new = source_id(SourceSpec(new.url, "p/q"))
        steps = roots.Roots(index, tree.Tree(index, lives.harness._memory)).arrange([(of_new, (b"p", b"q"))])
        assert len(list(itertools.islice(steps, taken))) == taken, "that is more than there is to do"
        steps.close()
        index.close()
    reader = lives.begin({"p/q": old, "r": twin}, fresh=False)
    assert len(reader.names(reader.inode(b"p/q"))) == 20
    assert lives.warm() == 21
    lives.end()
    reader = lives.begin({"p/q": new}, fresh=False)
    assert reader.names() == [b"p"]
    assert reader.read_file(b"p/q/d1/f") == content("new d1/f", SIZE)


def test_a_source_that_is_away_when_it_comes_shows_nothing_of_the_one_before(lives: Lives, expect_log: LogCheck) -> None:
    expect_log("answered to a reader: UNAVAILABLE", level=50)
    lives.begin({"": store("old", "f")})
    lives.warm()
    lives.end()
    new = store("new", "f")
    new.fail(1000)
    lives.harness.with_spec(deadline_seconds=0.2)
    reader = lives.begin({"": new}, fresh=False)
    with pytest.raises(CacheError) as caught:
        reader.names()
    assert caught.value.kind is ErrorKind.UNAVAILABLE
    new.mend()
    assert reader.read_file(b"f") == content("new f", SIZE)


SOURCES = [(name, (*OUTER[:number], "f")) for number, name in enumerate("abc")]
LIFE = st.dictionaries(st.sampled_from(["", "way", "way/in", "f"]), st.sampled_from(SOURCES), min_size=1, max_size=3)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(LIFE, min_size=2, max_size=4))
def test_a_tree_does_not_tell_what_was_mounted_before(
    tmp_path_factory: pytest.TempPathFactory, mounts: list[dict[str, tuple[str, tuple[str, ...]]]]
) -> None:
    """After any lives the tree is that of a cache that never saw but the last one's sources."""

    def made(life: dict[str, tuple[str, tuple[str, ...]]]) -> dict[str, FakeSource]:
        known = {name: store(name, *paths) for name, paths in life.values()}
        return {place: known[name] for place, (name, _) in life.items()}

    def tree_of(reader: CacheReader, inode: int = ROOT, path: bytes = b"") -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        for name in reader.names(inode):
            child = reader.lookup(inode, name)
            assert child is not None
            whole = path + b"/" + name
            found |= tree_of(reader, child.inode, whole) if child.mode & 0o40000 else {whole: reader.read(child.inode, 0, SIZE)}
        return found | {path + b"/": b""}

    lives, alone = Lives(tmp_path_factory.mktemp("lives")), Lives(tmp_path_factory.mktemp("alone"))
    try:
        for life in mounts:
            reader = lives.begin(made(life), fresh=False)
            seen = tree_of(reader)
            lives.warm()
            lives.end()
        assert seen == tree_of(alone.begin(made(mounts[-1])))
    finally:
        lives.harness.close()
        alone.harness.close()
