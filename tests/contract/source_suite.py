"""The behaviours every source must show, as a class to inherit: each source's test gives it a `world`.

A world is a real remote place that the test can write into, and a way to open the source over it. Run the suite with
`class TestMySource(SourceSuite)` in a module of tests/contract/ and a fixture `world` (directories are fresh per
test). Nothing here knows a particular store; what a store cannot do is said by the flags of the world.
"""

from __future__ import annotations

import hashlib
import itertools
import os
import random
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.protocol import BeginRead, Entry, EntryKind, Hidden, ReadInto, ReadState, Source
from tests.support.started_reads import begin_buffer, finish

_counter = itertools.count()

ODD_NAMES = (
    b"with space", b"plus+sign", b"percent%20", b"question?", b"hash#", b"amp&and=is", b"quote'\"", b"semi;colon:",
    b"[brackets]{}",
    b"back\\slash", b"tilde~", b"caret^`|", b"<angle>", b"*star*", b"new\nline", b"tab\tand\x01", "ümläut".encode(),
    "日本語".encode(), "emoji \U0001f600".encode(), b"-dash", b".hidden", b"...", b"x" * 255, b"@at$dollar,comma",
)  # fmt: skip


@dataclass
class SourceWorld:
    """Attributes:
    open: returns the source whose root is this place; the suite closes it.
    put: creates or replaces a file of that path, parents included; two different bodies never get one version.
    delete: removes a file.
    put_odd: stores a name no directory can show; None where the store cannot hold one.
    odd_names: names of ODD_NAMES the store can hold.
    compares_copied_versions: whether the store keeps the condition of a part that is copied.
    begins_reads: whether reads can be begun without waiting: the store keeps connections, and the source uses that.
    """

    open: Callable[[], Source]
    put: Callable[[bytes, bytes], None]
    delete: Callable[[bytes], None]
    put_odd: Callable[[bytes, bytes], None] | None = None
    odd_names: tuple[bytes, ...] = ODD_NAMES
    hidden_keys: tuple[bytes, ...] = ()
    begins_reads: bool = False
    compares_copied_versions: bool = True
    sources: list[Source] = field(default_factory=list)


def list_all(source: Source, path: bytes, limit: int = 1000) -> tuple[list[Entry], list[Hidden], int]:
    """Return entries, hidden names and the number of pages of a directory."""
    entries: list[Entry] = []
    hidden: list[Hidden] = []
    token = None
    for pages in range(1, 10_000):
        page = source.list_page(path, token, limit)
        entries += page.entries
        hidden += page.hidden
        token = page.next_token
        if token is None:
            return entries, hidden, pages
    raise AssertionError("the listing does not end")


def stat_exact(source: Source, path: bytes, entry: Entry) -> Entry:
    return source.stat(path) if entry.needs_stat else entry


def fails(kind: ErrorKind, call: Callable[[], object]) -> CacheError:
    """Assert that a call raises this kind, with a message that a person can act on; return the error."""
    with pytest.raises(CacheError) as caught:
        call()
    assert caught.value.kind is kind, f"{caught.value.kind.name}: {caught.value}"
    assert len(str(caught.value)) > 10
    return caught.value


def content(size: int, seed: object) -> bytes:
    return random.Random(repr(seed)).randbytes(size)


class SourceSuite:
    """Inherit and provide the fixture `world`."""

    @pytest.fixture
    def source(self, world: SourceWorld) -> Iterable[Source]:
        source = world.open()
        yield source
        source.close()

    @pytest.fixture
    def directory(self, world: SourceWorld) -> bytes:
        """A name no other test uses; it exists once something was put below it."""
        return b"suite-%d-%s" % (next(_counter), os.urandom(3).hex().encode())

    def test_it_is_a_source_and_can_be_checked(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        world.put(directory + b"/file", b"x")
        assert isinstance(source, Source)
        assert "://" in source.url
        assert source.capabilities.parallel_requests > 0
        source.check()

    def test_lists_files_and_directories(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        world.put(directory + b"/one", b"1")
        world.put(directory + b"/two", b"22")
        world.put(directory + b"/sub/three", b"333")
        world.put(directory + b"/sub/deeper/four", b"4444")
        entries, hidden, _ = list_all(source, directory)
        assert {(entry.name, entry.kind) for entry in entries} == {
            (b"one", EntryKind.FILE),
            (b"two", EntryKind.FILE),
            (b"sub", EntryKind.DIRECTORY),
        }
        assert hidden == []
        sizes = {entry.name: stat_exact(source, directory + b"/" + entry.name, entry).size for entry in entries}
        assert sizes == {b"one": 1, b"two": 2, b"sub": 0}
        assert [entry.name for entry in list_all(source, directory + b"/sub/deeper")[0]] == [b"four"]
        assert directory in {entry.name for entry in list_all(source, b"")[0]}

    @pytest.mark.parametrize("limit", [1, 2, 7, 1000])
    def test_pages_hold_every_name_once(self, source: Source, world: SourceWorld, directory: bytes, limit: int) -> None:
        names = {b"file-%02d" % number for number in range(9)} | {b"f", b"file", b"file-03x", b"a-b"}
        for name in names:
            world.put(directory + b"/" + name, name)
        for name in (b"a", b"sub-1", b"sub"):
            world.put(directory + b"/" + name + b"/inside", name)
        entries, hidden, pages = list_all(source, directory, limit)
        assert sorted(entry.name for entry in entries) == sorted(names | {b"a", b"sub-1", b"sub"})
        assert hidden == []
        if source.capabilities.is_sorted:
            assert [entry.name for entry in entries] == sorted(entry.name for entry in entries)
        if source.capabilities.paged_listing and limit < 10:
            assert pages > 1

    def test_stat_agrees_with_the_listing(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        world.put(directory + b"/file", content(1234, 1))
        world.put(directory + b"/sub/file", b"x")
        for entry in list_all(source, directory)[0]:
            found = source.stat(directory + b"/" + entry.name)
            assert not found.needs_stat
            assert (found.name, found.kind) == (entry.name, entry.kind)
            if not entry.needs_stat:
                assert (found.size, found.version, found.mtime_ns) == (entry.size, entry.version, entry.mtime_ns)
            if found.kind is EntryKind.FILE:
                assert found.size == 1234
                assert 0 < len(found.version) <= 96
                assert found.mtime_ns > 1_600_000_000_000_000_000
        assert source.stat(b"").kind is EntryKind.DIRECTORY
        assert source.stat(directory).kind is EntryKind.DIRECTORY

    def test_what_is_not_there(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        world.put(directory + b"/file", b"x")
        for path in (b"/missing", b"/missing/below", b"/fil", b"/file2", b"-no"):
            fails(ErrorKind.NOT_FOUND, partial(source.stat, directory + path))
        fails(ErrorKind.NOT_FOUND, lambda: source.list_page(directory + b"/missing"))
        fails(ErrorKind.NOT_A_DIRECTORY, lambda: source.list_page(directory + b"/file"))

    def test_every_range_is_exact(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        size = 300_001
        body = content(size, "ranges")
        path = directory + b"/file"
        world.put(path, body)
        version = source.stat(path).version
        rng = random.Random(7)
        ranges = [(0, size), (0, 1), (size - 1, 1), (1, size - 1), (131_071, 2)]
        ranges += [(start, rng.randint(1, size - start)) for start in (rng.randrange(size) for _ in range(40))]
        for offset, length in ranges:
            found = source.read(path, version, offset, length)
            assert len(found) == length
            assert found == body[offset : offset + length], (offset, length)
            assert memoryview(found).c_contiguous

    @pytest.mark.parametrize("size", [1, 1 << 20, (9 << 20) + 5])
    def test_a_stream_is_exact(self, source: Source, world: SourceWorld, directory: bytes, size: int) -> None:
        body = content(size, "stream")
        path = directory + b"/file"
        world.put(path, body)
        version = source.stat(path).version
        for offset in {0, size // 3}:
            digest = hashlib.sha256()
            for piece in source.stream(path, version, offset, size - offset):
                assert 0 < len(piece) <= 8 << 20
                digest.update(piece)
            assert digest.digest() == hashlib.sha256(body[offset:]).digest()

    @pytest.mark.parametrize("size", [5, 3 << 20, (9 << 20) + 5])
    def test_reading_through_a_small_buffer_is_exact(
        self, source: Source, world: SourceWorld, directory: bytes, size: int
    ) -> None:
        if not isinstance(source, ReadInto):
            pytest.skip("reads into memory of its own only")
        body = content(size, "through")
        path = directory + b"/file"
        world.put(path, body)
        version = source.stat(path).version
        buffer = memoryview(bytearray(1 << 20))
        for offset in {0, size // 3}:
            pieces: list[bytes] = []

            def keep(piece: memoryview, to: list[bytes] = pieces) -> None:
                to.append(bytes(piece))

            source.read_through(path, version, offset, size - offset, buffer, keep)
            assert all(len(piece) == 1 << 20 for piece in pieces[:-1])
            assert b"".join(pieces) == body[offset:]

        def refuse(piece: memoryview) -> None:
            raise CacheError(ErrorKind.NO_SPACE, "the disk is full")

        fails(ErrorKind.NO_SPACE, lambda: source.read_through(path, version, 0, size, buffer, refuse))
        fails(ErrorKind.STALE, lambda: source.read_through(path, version + b"x", 0, size, buffer, refuse))

    @pytest.mark.parametrize("size", [1, 100_000, 1 << 20])
    def test_reads_that_are_begun_and_taken_later_are_exact(
        self, source: Source, world: SourceWorld, directory: bytes, size: int
    ) -> None:
        if not isinstance(source, BeginRead) or not world.begins_reads:
            pytest.skip("has only reads that wait")
        bodies = {directory + b"/%d" % number: content(size, f"begun {number}") for number in range(8)}
        for path, body in bodies.items():
            world.put(path, body)
        versions = {path: source.stat(path).version for path in bodies}
        with ThreadPoolExecutor(4) as pool:  # opens connections
            list(pool.map(lambda path: source.read(path, versions[path], 0, size), bodies))
        begun = 0
        for _ in range(3):
            reads = [(path, source.begin_read(path, versions[path], size, begin_buffer(size))) for path in bodies]
            for path, read in reads:
                if read is not None:
                    begun += 1
                    assert finish(read) is ReadState.COMPLETE
                    assert read.take() == bodies[path]
        assert begun >= 3, "no connection was free"
        stale = source.begin_read(path, versions[path] + b"x", size, begin_buffer(size))
        assert stale is not None
        assert finish(stale) is ReadState.ODD
        fails(ErrorKind.STALE, stale.take)

    def test_a_stream_can_be_left_early(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        size = (9 << 20) + 1
        path = directory + b"/file"
        world.put(path, content(size, "early"))
        version = source.stat(path).version
        for _ in range(5):
            stream = source.stream(path, version, 0, size)
            assert len(next(iter(stream))) > 0
            getattr(stream, "close")()  # noqa: B009 (generators have it, Iterator does not)
        assert source.read(path, version, 17, 5) == content(size, "early")[17:22]

    def test_an_empty_file(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        world.put(directory + b"/empty", b"")
        found = source.stat(directory + b"/empty")
        assert (found.kind, found.size) == (EntryKind.FILE, 0)

    def test_a_replaced_file_is_stale(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        path = directory + b"/file"
        world.put(path, content(5000, "old"))
        old = source.stat(path).version
        world.put(path, content(5000, "new"))
        new = source.stat(path).version
        assert old != new
        fails(ErrorKind.STALE, lambda: source.read(path, old, 0, 5000))
        fails(ErrorKind.STALE, lambda: source.read(path, old, 10, 20))
        fails(ErrorKind.STALE, lambda: list(source.stream(path, old, 0, 5000)))
        assert source.read(path, new, 0, 5000) == content(5000, "new")

    def test_a_shrunk_or_deleted_file_is_stale(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        path = directory + b"/file"
        world.put(path, content(5000, "old"))
        world.put(directory + b"/other", b"keeps the directory")
        old = source.stat(path).version
        world.put(path, b"short")
        fails(ErrorKind.STALE, lambda: source.read(path, old, 4000, 1000))
        short = source.stat(path).version
        world.delete(path)
        fails(ErrorKind.STALE, lambda: source.read(path, short, 0, 5))
        fails(ErrorKind.STALE, lambda: list(source.stream(path, short, 0, 5)))
        fails(ErrorKind.NOT_FOUND, lambda: source.stat(path))
        assert [entry.name for entry in list_all(source, directory)[0]] == [b"other"]

    def test_odd_names_are_shown_exactly(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        for name in world.odd_names:
            world.put(directory + b"/" + name, b"in " + name)
            world.put(directory + b"/d/" + name[:254] + b"d/file", b"below " + name)
        assert sorted(entry.name for entry in list_all(source, directory, 5)[0]) == sorted({*world.odd_names, b"d"})
        for name in world.odd_names:
            for path, body in (
                (directory + b"/" + name, b"in " + name),
                (directory + b"/d/" + name[:254] + b"d/file", b"below " + name),
            ):
                found = source.stat(path)
                assert found.name == path.rpartition(b"/")[2]
                assert source.read(path, found.version, 0, found.size) == body, path

    def test_names_that_cannot_be_shown_are_hidden(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        if world.put_odd is None:
            pytest.skip("this store cannot hold such names")
        shown = [b"a", b"middle", b"zz"]
        for name in shown:
            world.put(directory + b"/" + name, name)
        for name in world.hidden_keys:
            world.put_odd(directory + b"/" + name, b"odd")
        for limit in (1, 2, 1000):  # with 1, whole pages are hidden
            entries, hidden, _ = list_all(source, directory, limit)
            assert sorted(entry.name for entry in entries) == shown
            assert len(hidden) == len({name.split(b"/")[0] + b"/"[: name.count(b"/")] for name in world.hidden_keys})
            assert all(one.reason for one in hidden)

    def test_sixteen_threads(self, source: Source, world: SourceWorld, directory: bytes) -> None:
        bodies = {directory + b"/f%02d" % number: content(20_000 + number * 7001, number) for number in range(24)}
        for path, body in bodies.items():
            world.put(path, body)
        versions = {path: source.stat(path).version for path in bodies}

        def work(seed: int) -> int:
            rng = random.Random(seed)
            for _ in range(30):
                path = rng.choice(list(bodies))
                size = len(bodies[path])
                offset = rng.randrange(size)
                length = rng.randint(1, size - offset)
                if source.read(path, versions[path], offset, length) != bodies[path][offset : offset + length]:
                    return 1
                if rng.random() < 0.1 and len(list_all(source, directory, 10)[0]) != len(bodies):
                    return 1
            return 0

        with ThreadPoolExecutor(16) as pool:
            assert sum(pool.map(work, range(16))) == 0
