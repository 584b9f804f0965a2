"""The behaviours every writer must show, as a class to inherit: each source's test gives it a `world` that may be written.

As in source_suite.py, nothing here knows a particular store: what it can do is what its `capabilities` say.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.body import BufferBody, FileBody
from fusecache.source.protocol import Buffer, Entry, EntryKind, Source
from fusecache.source.write_protocol import Guard, Kept, Metadata, Part, Writable, Writer
from tests.contract.source_suite import SourceWorld, content, fails, list_all

_counter = itertools.count()
_operations = itertools.count()
NONE = Metadata()


def operation() -> str:
    return f"op-{os.getpid()}-{next(_operations)}"


def body_of(source: Source, path: bytes, entry: Entry) -> bytes:
    return bytes(source.read(path, entry.version, 0, entry.size)) if entry.size else b""


def names_in(source: Source, path: bytes) -> set[bytes]:
    return {entry.name for entry in list_all(source, path)[0]}


class _Changing:
    """A body whose bytes are others each time they are asked for, as those of a file that is being written."""

    def __init__(self, size: int) -> None:
        self.size = size

    def pieces(self) -> Iterator[Buffer]:
        yield os.urandom(self.size)


class WriterSuite:
    """Inherit and provide the fixture `world`: its `open` gives a source that may write."""

    @pytest.fixture
    def source(self, world: SourceWorld) -> Iterable[Source]:
        source = world.open()
        yield source
        source.close()

    @pytest.fixture
    def writer(self, source: Source) -> Writer:
        assert isinstance(source, Writable)
        writer = source.open_writer()
        writer.check()
        return writer

    @pytest.fixture
    def directory(self, writer: Writer) -> bytes:
        name = b"writer-%d-%s" % (next(_counter), os.urandom(3).hex().encode())
        writer.make_directory(name, NONE)
        return name

    def put(self, writer: Writer, path: bytes, body: bytes, expected: bytes | None = None, **metadata: object) -> Entry:
        return writer.put(path, BufferBody(body), Metadata(**metadata), expected, operation())  # type: ignore[arg-type]

    def test_a_check_leaves_nothing_behind(self, source: Source, writer: Writer) -> None:
        before = names_in(source, b"")
        writer.check()
        assert names_in(source, b"") == before

    @pytest.mark.parametrize("size", [0, 1, 100_000, 9 << 20])
    def test_what_was_put_is_there(self, source: Source, writer: Writer, directory: bytes, size: int) -> None:
        path, body = directory + b"/file", content(size, size)
        entry = self.put(writer, path, body)
        assert (entry.name, entry.kind, entry.size) == (b"file", EntryKind.FILE, size)
        found = source.stat(path)
        assert (found.size, found.version) == (size, entry.version)
        assert body_of(source, path, entry) == body
        assert [one.version for one in list_all(source, directory)[0]] == [entry.version]

    def test_a_file_is_a_body(self, source: Source, writer: Writer, directory: bytes, tmp_path: object) -> None:
        data = content(3_000_000, "file body")
        path = directory + b"/from-a-file"
        with open(f"{tmp_path}/data", "wb+") as file:
            file.write(data)
            file.flush()
            entry = writer.put(path, FileBody(file.fileno(), 1000, 2_500_000), NONE, None, operation())
        assert body_of(source, path, entry) == data[1000:2_501_000]

    def test_nothing_is_overwritten_that_was_not_expected(self, source: Source, writer: Writer, directory: bytes) -> None:
        path = directory + b"/file"
        first = self.put(writer, path, b"first")
        fails(ErrorKind.EXISTS, lambda: self.put(writer, path, b"second"))
        second = self.put(writer, path, b"the second", first.version)
        assert second.version != first.version
        fails(ErrorKind.STALE, lambda: self.put(writer, path, b"third", first.version))
        assert body_of(source, path, source.stat(path)) == b"the second"
        fails(ErrorKind.STALE, lambda: source.read(path, first.version, 0, 5))
        fails(ErrorKind.STALE, lambda: self.put(writer, directory + b"/missing", b"x", first.version))
        fails(ErrorKind.NOT_FOUND, lambda: source.stat(directory + b"/missing"))

    def test_a_step_that_is_repeated_takes_effect_once(self, source: Source, writer: Writer, directory: bytes) -> None:
        if not writer.capabilities.recognizes_repeats:
            pytest.skip("only uploads know their work again")
        path = directory + b"/file"
        step = operation()
        first = writer.put(path, BufferBody(b"made"), NONE, None, step)
        assert writer.put(path, BufferBody(b"made"), NONE, None, step).version == first.version
        step = operation()
        second = writer.put(path, BufferBody(b"replaced"), NONE, first.version, step)
        assert writer.put(path, BufferBody(b"replaced"), NONE, first.version, step).version == second.version
        assert body_of(source, path, source.stat(path)) == b"replaced"

    def test_what_was_made_without_an_answer_is_known_again(self, source: Source, writer: Writer, directory: bytes) -> None:
        """By the beginning of its operation id, or by the upload that made it; not what somebody else made since."""
        path = directory + b"/file"
        base = operation()
        assert writer.own_version(path, [base], "") is None
        if writer.capabilities.recognizes_repeats:
            made = writer.put(path, BufferBody(b"made"), NONE, None, f"{base}.1")
            upload_id = ""
        else:
            upload = writer.begin_upload(path, NONE, None, f"{base}.1")
            made = writer.complete(upload, [writer.put_part(upload, 1, 0, BufferBody(b"made"))], None)
            upload_id = upload.id
        own = writer.own_version(path, ["other", base], upload_id)
        assert own is not None
        assert (own.version, own.size) == (made.version, 4)
        self.put(writer, path, b"somebody else's", made.version)
        assert writer.own_version(path, [base], upload_id) is None

    def test_a_body_that_changes_is_never_stored_unnoticed(self, source: Source, writer: Writer, directory: bytes) -> None:
        if not writer.capabilities.recognizes_repeats:
            pytest.skip("no checksum goes with the bytes: a file system has none")
        with pytest.raises(CacheError) as caught:
            writer.put(directory + b"/file", _Changing(1000), NONE, None, operation())
        assert caught.value.kind in (ErrorKind.UNAVAILABLE, ErrorKind.INVALID)

    def parts(self, writer: Writer, count: int) -> tuple[bytes, list[tuple[int, int, bytes]]]:
        size = max(writer.capabilities.least_part_bytes, 100_001)
        data = content(size * (count - 1) + 12_345, count)
        return data, [(number + 1, number * size, data[number * size : (number + 1) * size]) for number in range(count)]

    def test_an_upload_in_parts(self, source: Source, writer: Writer, directory: bytes) -> None:
        path = directory + b"/large"
        data, pieces = self.parts(writer, 4)
        upload = writer.begin_upload(path, NONE, None, operation())
        with ThreadPoolExecutor(4) as pool:
            parts = list(
                pool.map(lambda piece: writer.put_part(upload, piece[0], piece[1], BufferBody(piece[2])), reversed(pieces))
            )
        fails(ErrorKind.NOT_FOUND, lambda: source.stat(path))
        assert names_in(source, directory) == set()
        entry = writer.complete(upload, parts, None)
        assert entry.size == len(data)
        assert source.stat(path).version == entry.version
        assert body_of(source, path, entry) == data
        assert names_in(source, directory) == {b"large"}
        assert writer.complete(upload, parts, None).version == entry.version, "a lost answer is asked for again"

    def test_a_part_can_be_sent_again(self, source: Source, writer: Writer, directory: bytes) -> None:
        path = directory + b"/large"
        data, pieces = self.parts(writer, 2)
        upload = writer.begin_upload(path, NONE, None, operation())
        writer.put_part(upload, 1, 0, BufferBody(content(len(pieces[0][2]), "older")))
        parts = [writer.put_part(upload, number, offset, BufferBody(piece)) for number, offset, piece in pieces]
        assert body_of(source, path, writer.complete(upload, parts, None)) == data

    def test_an_upload_that_ends_early_leaves_nothing(self, source: Source, writer: Writer, directory: bytes) -> None:
        path = directory + b"/large"
        _, pieces = self.parts(writer, 2)
        upload = writer.begin_upload(path, NONE, None, operation())
        part = writer.put_part(upload, 1, 0, BufferBody(pieces[0][2]))
        writer.abort(upload)
        writer.abort(upload)
        assert names_in(source, directory) == set()
        with pytest.raises(CacheError):
            writer.complete(upload, [part], None)
        fails(ErrorKind.NOT_FOUND, lambda: source.stat(path))

    def test_an_upload_does_not_overwrite_what_came_meanwhile(self, source: Source, writer: Writer, directory: bytes) -> None:
        path = directory + b"/large"
        _, pieces = self.parts(writer, 2)
        upload = writer.begin_upload(path, NONE, None, operation())
        parts = [writer.put_part(upload, number, offset, BufferBody(piece)) for number, offset, piece in pieces]
        other = self.put(writer, path, b"somebody else's")
        fails(ErrorKind.EXISTS, lambda: writer.complete(upload, parts, None))
        assert body_of(source, path, other) == b"somebody else's"
        writer.abort(upload)

    def test_parts_are_copied_from_another_version(
        self, source: Source, writer: Writer, world: SourceWorld, directory: bytes
    ) -> None:
        path = directory + b"/large"
        data, pieces = self.parts(writer, 3)
        old = self.put(writer, path, data)
        step = operation()
        upload = writer.begin_upload(path, NONE, old.version, step)
        size = len(pieces[0][2])
        changed = content(size, "changed")
        parts = [
            writer.copy_part(upload, 1, 0, size, path, old.version, 0),
            writer.put_part(upload, 2, size, BufferBody(changed)),
            writer.copy_part(upload, 3, 2 * size, len(data) - 2 * size, path, old.version, 2 * size),
        ]
        entry = writer.complete(upload, parts, old.version)
        assert body_of(source, path, entry) == data[:size] + changed + data[2 * size :]
        upload = writer.begin_upload(path, NONE, entry.version, operation())
        if world.compares_copied_versions:
            fails(ErrorKind.STALE, lambda: writer.copy_part(upload, 1, 0, size, path, old.version, 0))
        else:  # then the condition of `complete` has to do
            part = writer.copy_part(upload, 1, 0, size, path, old.version, 0)
            fails(ErrorKind.STALE, lambda: writer.complete(upload, [part], old.version))
        writer.abort(upload)

    def test_copies(self, source: Source, writer: Writer, directory: bytes) -> None:
        path, target = directory + b"/from", directory + b"/to"
        body = content(200_000, "copy")
        entry = self.put(writer, path, body)
        copied = writer.copy(path, entry.version, target, None, None, operation())
        assert source.stat(target).version == copied.version
        assert body_of(source, target, copied) == body
        fails(ErrorKind.EXISTS, lambda: writer.copy(path, entry.version, target, None, None, operation()))
        fails(ErrorKind.STALE, lambda: writer.copy(path, b"other-version", directory + b"/new", None, None, operation()))
        assert names_in(source, directory) == {b"from", b"to"}
        other = self.put(writer, path, b"newer", entry.version)
        again = writer.copy(path, other.version, target, None, copied.version, operation())
        assert body_of(source, target, again) == b"newer"

    def test_a_copy_that_is_repeated_takes_effect_once(self, source: Source, writer: Writer, directory: bytes) -> None:
        if not writer.capabilities.recognizes_repeats:
            pytest.skip("only uploads know their work again")
        path, target = directory + b"/from", directory + b"/to"
        entry = self.put(writer, path, b"bytes")
        step = operation()
        first = writer.copy(path, entry.version, target, None, None, step)
        assert writer.copy(path, entry.version, target, None, None, step).version == first.version

    def test_deletes(self, source: Source, writer: Writer, directory: bytes) -> None:
        path = directory + b"/file"
        entry = self.put(writer, path, b"one")
        newer = self.put(writer, path, b"another", entry.version)
        fails(ErrorKind.STALE, lambda: writer.delete(path, entry.version))
        assert source.stat(path).version == newer.version
        writer.delete(path, newer.version)
        fails(ErrorKind.NOT_FOUND, lambda: source.stat(path))
        writer.delete(path, newer.version)
        writer.delete(path, None)
        self.put(writer, path, b"three")
        writer.delete(path, None)
        fails(ErrorKind.NOT_FOUND, lambda: source.stat(path))

    def test_empty_directories_stay(self, source: Source, writer: Writer, directory: bytes) -> None:
        path = directory + b"/sub"
        writer.make_directory(path, NONE)
        assert source.stat(path).kind is EntryKind.DIRECTORY
        assert list_all(source, path)[0] == []
        assert names_in(source, directory) == {b"sub"}
        self.put(writer, path + b"/file", b"x")
        fails(ErrorKind.NOT_EMPTY, lambda: writer.remove_directory(path))
        writer.delete(path + b"/file", None)
        assert source.stat(path).kind is EntryKind.DIRECTORY
        writer.remove_directory(path)
        writer.remove_directory(path)
        fails(ErrorKind.NOT_FOUND, lambda: source.stat(path))

    def test_metadata_come_back(self, writer: Writer, directory: bytes) -> None:
        kept, step = writer.capabilities.kept, writer.capabilities.mtime_step_ns
        path = directory + b"/file"
        metadata = Metadata(
            mode=0o751 if Kept.MODE in kept else None,
            uid=12345 if Kept.OWNER in kept and os.geteuid() == 0 else None,
            gid=54321 if Kept.OWNER in kept and os.geteuid() == 0 else None,
            mtime_ns=1_234_567_890_123_456_789 // step * step if Kept.MTIME in kept else None,
            xattrs={b"one": b"1", b"two.three": bytes(range(256)), "ümläut".encode(): b""} if Kept.XATTRS in kept else None,
        )
        entry = writer.put(path, BufferBody(b"x"), metadata, None, operation())
        found = writer.read_metadata(path, entry.version)
        for name in ("mode", "uid", "gid", "mtime_ns", "xattrs"):
            if getattr(metadata, name) is not None:
                assert getattr(found, name) == getattr(metadata, name), name
        copied = writer.copy(path, entry.version, directory + b"/copy", None, None, operation())
        assert writer.read_metadata(directory + b"/copy", copied.version) == found

    def test_metadata_change_without_the_bytes(self, source: Source, writer: Writer, directory: bytes) -> None:
        path = directory + b"/file"
        body = content(70_000, "meta")
        entry = writer.put(path, BufferBody(body), Metadata(mode=0o600), None, operation())
        changed = writer.copy(path, entry.version, path, Metadata(mode=0o444, mtime_ns=10**18), entry.version, operation())
        found = writer.read_metadata(path, changed.version)
        if Kept.MODE in writer.capabilities.kept:
            assert found.mode == 0o444
        if Kept.MTIME in writer.capabilities.kept:
            assert found.mtime_ns == 10**18
        assert source.stat(path).version == changed.version
        assert body_of(source, path, changed) == body

    def test_metadata_that_change_again_are_no_other_version(self, source: Source, writer: Writer, directory: bytes) -> None:
        """The answer of a change was lost: whoever asks again still expects the version before it."""
        path = directory + b"/file"
        entry = self.put(writer, path, b"bytes")
        given = Metadata(mode=0o640, mtime_ns=1_600_000_000_000_000_000)
        step = operation()
        writer.copy(path, entry.version, path, given, entry.version, step)
        again = writer.copy(path, entry.version, path, given, entry.version, step, is_repeat=True)
        assert again.version == source.stat(path).version
        assert body_of(source, path, again) == b"bytes"
        other = self.put(writer, path, b"other", again.version)
        fails(ErrorKind.STALE, lambda: writer.copy(path, entry.version, path, given, entry.version, operation(), is_repeat=True))
        assert source.stat(path).version == other.version

    def test_odd_names(self, source: Source, writer: Writer, world: SourceWorld, directory: bytes) -> None:
        for name in world.odd_names:
            entry = self.put(writer, directory + b"/" + name, name)
            assert body_of(source, directory + b"/" + name, entry) == name
        assert names_in(source, directory) == set(world.odd_names)

    def test_renames(self, source: Source, writer: Writer, directory: bytes) -> None:
        path, target = directory + b"/from", directory + b"/to"
        entry = self.put(writer, path, b"moved")
        if not writer.capabilities.renames:
            fails(ErrorKind.UNSUPPORTED, lambda: writer.rename(path, target, None))
            return
        moved = writer.rename(path, target, None)
        assert body_of(source, target, moved) == b"moved"
        assert names_in(source, directory) == {b"to"}
        other = self.put(writer, path, b"other")
        fails(ErrorKind.EXISTS, lambda: writer.rename(path, target, None))
        fails(ErrorKind.STALE, lambda: writer.rename(path, target, entry.version + b"x"))
        replaced = writer.rename(path, target, moved.version)
        assert body_of(source, target, replaced) == b"other"
        assert other.size == replaced.size
        writer.make_directory(directory + b"/sub", NONE)
        self.put(writer, directory + b"/sub/file", b"below")
        writer.rename(directory + b"/sub", directory + b"/moved", None)
        assert names_in(source, directory + b"/moved") == {b"file"}

    def test_symbolic_links(self, source: Source, writer: Writer, directory: bytes) -> None:
        path = directory + b"/link"
        if not writer.capabilities.has_symlinks:
            fails(ErrorKind.UNSUPPORTED, lambda: writer.make_symlink(path, b"target"))
            return
        entry = writer.make_symlink(path, b"../some/target")
        assert (entry.kind, entry.target) == (EntryKind.SYMLINK, b"../some/target")
        assert source.stat(path).target == b"../some/target"
        fails(ErrorKind.EXISTS, lambda: writer.make_symlink(path, b"x"))
        writer.delete(path, None)
        fails(ErrorKind.NOT_FOUND, lambda: source.stat(path))

    def test_one_of_many_wins_whole(self, source: Source, writer: Writer, directory: bytes) -> None:
        path = directory + b"/contended"
        barrier = threading.Barrier(8)

        def write(number: int) -> bool:
            barrier.wait()
            try:
                self.put(writer, path, bytes([number]) * 50_000)
            except CacheError as error:
                if error.kind not in (ErrorKind.EXISTS, ErrorKind.UNAVAILABLE):
                    raise
                return False
            return True

        with ThreadPoolExecutor(8) as pool:
            won = [number for number, is_won in enumerate(pool.map(write, range(8))) if is_won]
        stored = body_of(source, path, source.stat(path))
        assert len(stored) == 50_000
        assert len(set(stored)) == 1
        assert stored[0] in won
        if writer.capabilities.create is Guard.STORE:
            assert len(won) == 1

    def test_no_part_is_needed_twice(self, writer: Writer, directory: bytes) -> None:
        """An upload can be written down, and gone on with by another writer of the same source."""
        path = directory + b"/large"
        data, pieces = self.parts(writer, 2)
        upload = writer.begin_upload(path, NONE, None, operation())
        parts = [writer.put_part(upload, number, offset, BufferBody(piece)) for number, offset, piece in pieces]
        again = [Part(*tuple(part)) for part in parts]
        assert writer.complete(type(upload)(*tuple(upload)), again, None).size == len(data)
