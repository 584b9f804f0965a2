"""A source in memory with faults on demand: a dictionary of path -> (version, bytes) behind `fusecache.source.protocol.Source`.

Faults happen at the interface, as a store's would: the next calls fail, answers come late, objects are replaced between two
calls. It counts what was asked for, byte by byte. Thread-safe: worker threads read while the test changes what there is.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import hashlib
import threading
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.pieces import take_pieces
from fusecache.source.protocol import Buffer, Capabilities, Entry, EntryKind, Hidden, Page

PIECE_BYTES = 24  # of a stream: no multiple of a test's block size, so that blocks are put together from pieces


def content(name: str, size: int) -> bytes:
    """Bytes that differ at every offset and for every name."""
    return hashlib.shake_128(name.encode()).digest(size)


@dataclass(frozen=True, slots=True)
class Object:
    version: bytes
    data: bytes
    kind: EntryKind = EntryKind.FILE
    target: bytes = b""
    file_id: bytes = b""
    mode: int | None = None


@dataclass(slots=True)
class Fault:
    """What happens to the next `times` calls of `method` ("" for any) on paths that `matches`."""

    error: Callable[[], CacheError]
    times: int
    method: str = ""
    matches: Callable[[bytes], bool] = lambda path: True


@dataclass(slots=True)
class Counts:
    calls: collections.Counter[str] = field(default_factory=collections.Counter)
    reads: collections.Counter[tuple[bytes, int]] = field(default_factory=collections.Counter)  # (path, offset of a byte)
    listed: collections.Counter[bytes] = field(default_factory=collections.Counter)  # pages, by directory
    faults: int = 0
    at_once: int = 0
    most_at_once: int = 0


class FakeSource:
    """Attributes:
    page_size: entries of one page of a listing.
    needs_stat: listings are inexact, as those of a web server.
    delay_seconds: every call takes so long.
    gate: while cleared, calls wait (a store that hangs).
    before: called with (method, path) at the start of each call, outside the lock: the moment to replace an object.
    after: the same before list_page returns what it found.
    """

    def __init__(
        self,
        *,
        url: str = "fake://store",
        ranges: bool = True,
        page_size: int = 1000,
        needs_stat: bool = False,
        parallel_requests: int = 8,
    ) -> None:
        self.url = url
        self.page_size = page_size
        self.needs_stat = needs_stat
        self.delay_seconds = 0.0
        self.gate = threading.Event()
        self.gate.set()
        self.before: Callable[[str, bytes], None] | None = None
        self.after: Callable[[str, bytes], None] | None = None
        self.hidden: dict[bytes, list[Hidden]] = {}  # by directory
        self.counts = Counts()
        self.closed = False
        self._capabilities = Capabilities(ranges=ranges, is_sorted=True, paged_listing=True, parallel_requests=parallel_requests)
        self._objects: dict[bytes, Object] = {}
        self._faults: list[Fault] = []
        self._lock = threading.RLock()
        self._versions = 0

    # -- what a test does

    def put(self, path: bytes | str, data: bytes, *, version: bytes = b"", **fields: object) -> bytes:
        """Store an object, replacing what is there; return its version (a new one unless given)."""
        with self._lock:
            self._versions += 1
            version = version or b"v%d" % self._versions
            made = replace(Object(version, data), **fields)  # type: ignore[arg-type]
            self._objects[_bytes(path)] = made
            return version

    def make_directory(self, path: bytes | str) -> None:
        """An empty directory, as a marker object makes one."""
        self.put(path, b"", kind=EntryKind.DIRECTORY, version=b"-")

    def remove(self, path: bytes | str) -> None:
        """Remove an object, or a directory with all that is in it."""
        with self._lock:
            wanted = _bytes(path)
            for known in [key for key in self._objects if key == wanted or key.startswith(wanted + b"/")]:
                del self._objects[known]

    def rename(self, old: bytes | str, new: bytes | str) -> None:
        with self._lock:
            self._objects[_bytes(new)] = self._objects.pop(_bytes(old))

    def fail(
        self,
        times: int,
        kind: ErrorKind = ErrorKind.UNAVAILABLE,
        method: str = "",
        *,
        matches: Callable[[bytes], bool] = lambda path: True,
        retry_after_seconds: float | None = None,
    ) -> None:
        def error() -> CacheError:
            return CacheError(kind, f"{self.url}: a fault that was asked for", retry_after_seconds=retry_after_seconds)

        with self._lock:
            self._faults.append(Fault(error, times, method, matches))

    def mend(self) -> None:
        with self._lock:
            self._faults.clear()
        self.gate.set()
        self.delay_seconds = 0.0

    @property
    def objects(self) -> Mapping[bytes, Object]:
        with self._lock:
            return dict(self._objects)

    @property
    def bytes_read(self) -> int:
        return sum(self.counts.reads.values())

    @property
    def most_reads_of_a_byte(self) -> int:
        return max(self.counts.reads.values(), default=0)

    # -- the protocol

    @property
    def capabilities(self) -> Capabilities:
        return self._capabilities

    def check(self) -> None:
        self._enter("check", b"")
        self._leave()

    def list_page(self, path: bytes, token: str | None = None, limit: int = 1000) -> Page:
        self._enter("list_page", path)
        try:
            with self._lock:
                self._must_be_directory(path)
                names = sorted(self._names(path))
                start = bytes.fromhex(token) if token else b""
                names = [name for name in names if name > start] if token else names
                size = min(limit, self.page_size)
                entries = [self._listed(path, name) for name in names[:size]]
                hidden = list(self.hidden.get(path, [])) if token is None else []
                page = Page(entries, names[size - 1].hex() if len(names) > size else None, hidden)
            if self.after is not None:
                self.after("list_page", path)
            return page
        finally:
            self._leave()

    def stat(self, path: bytes) -> Entry:
        self._enter("stat", path)
        try:
            with self._lock:
                return self._entry(path)
        finally:
            self._leave()

    def read(self, path: bytes, version: bytes, offset: int, length: int) -> Buffer:
        self._enter("read", path)
        try:
            return self._bytes_of(path, version, offset, length)
        finally:
            self._leave()

    def stream(self, path: bytes, version: bytes, offset: int, length: int) -> Generator[Buffer, None, None]:
        self._enter("stream", path)
        try:
            for start in range(offset, offset + length, PIECE_BYTES):
                if start != offset:
                    self._fault("piece", path)
                yield self._bytes_of(path, version, start, min(PIECE_BYTES, offset + length - start))
        finally:
            self._leave()

    def close(self) -> None:
        self.closed = True

    # -- inside

    def _enter(self, method: str, path: bytes) -> None:
        if self.before is not None:
            self.before(method, path)
        with self._lock:
            counts = self.counts
            counts.calls[method] += 1
            counts.listed[path] += method == "list_page"
            counts.at_once += 1
            counts.most_at_once = max(counts.most_at_once, counts.at_once)
        try:
            self.gate.wait()
            if self.delay_seconds:
                time.sleep(self.delay_seconds)
            self._fault(method, path)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        with self._lock:
            self.counts.at_once -= 1

    def _fault(self, method: str, path: bytes) -> None:
        with self._lock:
            for fault in self._faults:
                if fault.times and fault.method in ("", method) and fault.matches(path):
                    fault.times -= 1
                    self.counts.faults += 1
                    raise fault.error()

    def _names(self, path: bytes) -> set[bytes]:
        prefix = path + b"/" if path else b""
        return {key[len(prefix) :].partition(b"/")[0] for key in self._objects if key.startswith(prefix)} - {b""}

    def _is_directory(self, path: bytes) -> bool:
        found = self._objects.get(path)
        return path == b"" or bool(self._names(path)) or (found is not None and found.kind is EntryKind.DIRECTORY)

    def _must_be_directory(self, path: bytes) -> None:
        if self._is_directory(path):
            return
        if path in self._objects:
            raise CacheError(ErrorKind.NOT_A_DIRECTORY, f"{path!r} is a file")
        raise CacheError(ErrorKind.NOT_FOUND, f"{path!r} does not exist")

    def _entry(self, path: bytes) -> Entry:
        name = path.rpartition(b"/")[2]
        if self._is_directory(path):
            return Entry(name, EntryKind.DIRECTORY)
        found = self._objects.get(path)
        if found is None:
            raise CacheError(ErrorKind.NOT_FOUND, f"{path!r} does not exist")
        size = len(found.target) if found.kind is EntryKind.SYMLINK else len(found.data)
        return Entry(
            name,
            found.kind,
            size,
            version=found.version,
            target=found.target,
            file_id=found.file_id,
            mode=found.mode,
        )

    def _listed(self, path: bytes, name: bytes) -> Entry:
        entry = self._entry(path + b"/" + name if path else name)
        if self.needs_stat and entry.kind is EntryKind.FILE:
            return Entry(name, EntryKind.FILE, size=entry.size // 10 * 10, needs_stat=True)
        return entry

    def _bytes_of(self, path: bytes, version: bytes, offset: int, length: int) -> bytes:
        with self._lock:
            found = self._objects.get(path)
            if found is None or found.kind is not EntryKind.FILE:
                raise CacheError(ErrorKind.NOT_FOUND, f"{path!r} does not exist")
            if found.version != version:
                raise CacheError(ErrorKind.STALE, f"{path!r} was replaced")
            assert length > 0, "nobody asks for nothing"
            assert offset + length <= len(found.data), "nobody asks past the end"
            self.counts.reads.update((path, position) for position in range(offset, offset + length))
            return found.data[offset : offset + length]


class StreamedSource(FakeSource):
    """The same with `fusecache.source.protocol.ReadInto`."""

    def read_into(self, path: bytes, version: bytes, offset: int, target: memoryview) -> None:
        target[:] = self.read(path, version, offset, len(target))

    def read_through(
        self, path: bytes, version: bytes, offset: int, length: int, buffer: memoryview, take: Callable[[memoryview], None]
    ) -> None:
        with contextlib.closing(self.stream(path, version, offset, length)) as pieces:
            take_pieces(pieces, length, buffer, take, self.url)


class Way(enum.Enum):
    """How a source gives the bytes of its objects."""

    RANGES = enum.auto()
    STREAMED_RANGES = enum.auto()
    WHOLE = enum.auto()


def make_source(way: Way, **fields: Any) -> FakeSource:
    """A FakeSource of that kind."""
    return (StreamedSource if way is Way.STREAMED_RANGES else FakeSource)(ranges=way is not Way.WHOLE, **fields)


def _bytes(path: bytes | str) -> bytes:
    return path if isinstance(path, bytes) else path.encode()
