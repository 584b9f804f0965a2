"""The protocol every source implements, with the types that cross it.

A source shows one remote place (bucket prefix, export, directory, site) as a tree. Every method blocks and may be
called from any thread of fetch at the same time; a source never touches the index, the tiers or an event loop of ours.

Paths are bytes, relative to the source's root, components joined by b"/", no leading or trailing slash; the root is
b"". For an object store the key is prefix + path, so a path names one key and the other way round. What cannot be such a
path (empty component, ".", "..", NUL, "/", more than 255 bytes in a component) is not listed: it is counted in
`Page.hidden`. A directory shadows a file of the same name; the file is then counted as hidden.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

from fusecache.contract.errors import CacheError

Buffer = bytes | bytearray | memoryview  # every value is C-contiguous; obstore's Bytes is wrapped in a memoryview

MAX_NAME_BYTES = 255  # NAME_MAX of Linux: FUSE refuses longer names
MAX_VERSION_BYTES = 96  # fits a row of the index beside the path; longer ETags are replaced by their hash


class EntryKind(enum.IntEnum):
    """Values are stored in the index: never renumber."""

    FILE = 1
    DIRECTORY = 2
    SYMLINK = 3


class Entry(NamedTuple):
    """One name in a directory as the source knows it now.

    Attributes:
        name: the last path component (b"" for the root).
        size: bytes; exact for a FILE or the entry says `needs_stat`; length of the target for a SYMLINK; 0 for a DIRECTORY.
        mtime_ns: nanoseconds since the epoch; 0 if the source does not say.
        version: opaque, at most MAX_VERSION_BYTES, equal if and only if the bytes are equal as far as the store can
            tell: a strong ETag, or inode+size+mtime+ctime. Empty for directories and where `needs_stat`.
        mode: permission bits (0o7777) if the source has them, else None.
        target: of a SYMLINK, else b"".
        file_id: equal for two names of one file (hard links), else b"".
        needs_stat: size or version are missing or inexact (an HTML listing with rounded sizes): `stat` before use.
    """

    name: bytes
    kind: EntryKind
    size: int = 0
    mtime_ns: int = 0
    version: bytes = b""
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    nlink: int = 1
    target: bytes = b""
    file_id: bytes = b""
    needs_stat: bool = False


@dataclass(frozen=True, slots=True)
class Hidden:
    """An object that cannot be shown: `name` is what the store calls it, `reason` a short phrase for the log."""

    name: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class Page:
    """A part of a directory. `next_token` None means the listing is complete.

    No name comes twice within one listing. Where `is_sorted` of the source, names ascend bytewise over all pages.
    """

    entries: list[Entry]
    next_token: str | None = None
    hidden: list[Hidden] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What fetch may rely on; constant for the life of the source.

    Attributes:
        ranges: `read` of a part costs about that part. False: a part costs the whole object, so fetch streams it whole.
        is_sorted: see Page.
        strong_versions: a read at a version can never return other bytes (conditional requests); False means checked
            before and after only (files, NFS, weak ETags): best effort, and docs/sources.md says so.
        paged_listing: list_page returns early pages before the listing is complete.
        parallel_requests: where concurrency starts to stop paying; fetch adapts below it.
        request_latency_is_local: no network (files): read-ahead of siblings pays little.
    """

    ranges: bool = True
    is_sorted: bool = False
    strong_versions: bool = True
    paged_listing: bool = False
    parallel_requests: int = 16
    request_latency_is_local: bool = False


@runtime_checkable
class Source(Protocol):
    """One remote place. All methods raise CacheError only:

    NOT_FOUND, DENIED (wrong or missing credentials), STALE (another version), UNAVAILABLE (network, 5xx, throttling,
    truncated or malformed answer: worth a retry), TIMEOUT, INVALID (bad option or URL), UNSUPPORTED, BUG.
    A message names the place without credentials, says the cause and what the user can do.
    """

    url: str  # without credentials, for people

    @property
    def capabilities(self) -> Capabilities: ...

    def check(self) -> None:
        """Reach the store and prove that it may be read: one cheap request. Raises as above, with a cure in the message."""

    def list_page(self, path: bytes, token: str | None = None, limit: int = 1000) -> Page:
        """Return the next part of a directory. An unknown path is NOT_FOUND (an empty prefix of a flat store too,
        unless it is the root or has a marker object); a file is NOT_A_DIRECTORY. `limit` is a wish."""

    def stat(self, path: bytes) -> Entry:
        """Return the entry at a path, exact in size and version. Never `needs_stat`."""

    def read(self, path: bytes, version: bytes, offset: int, length: int) -> Buffer:
        """Return exactly `length` bytes of that version; the caller never asks past the end and length > 0.

        Raises: STALE if the store holds another version (or none) now; UNAVAILABLE if fewer or other bytes than asked
            for arrived (status, Content-Range and length are checked on every answer)."""

    def stream(self, path: bytes, version: bytes, offset: int, length: int) -> Iterator[Buffer]:
        """Yield the same bytes in pieces as they arrive, each at most 8 MiB; closing the iterator ends the request."""

    def close(self) -> None:
        """End threads, sockets and files. The source is not used afterwards."""


@runtime_checkable
class StatMany(Protocol):
    """An optional ability of a source whose listings say `needs_stat`: ask with isinstance, before a burst of `stat`."""

    def stat_many(self, paths: Sequence[bytes]) -> list[Entry | CacheError]:
        """Stat many paths with parallel requests, bounded by the source; the results stand in the order of the paths."""


@runtime_checkable
class ReadInto(Protocol):
    """An optional ability of a source: ask with isinstance. A fresh buffer for every range costs page faults and zeroing."""

    def read_into(self, path: bytes, version: bytes, offset: int, target: memoryview) -> None:
        """As `Source.read`, into memory of the caller: `len(target)` bytes. After an error the target may hold anything."""

    def read_through(
        self, path: bytes, version: bytes, offset: int, length: int, buffer: memoryview, take: Callable[[memoryview], None]
    ) -> None:
        """As `Source.read`, with a buffer that is smaller than the range: it is filled and given to `take`, piece after piece in
        order, the last one short. What came before an error was right. Errors of `take` end the request and pass."""


BEGIN_ROOM_BYTES = 8 << 10  # what a buffer for `begin_read` is longer than the object: room for what the store sends before it


class ReadState(enum.Enum):
    WAITING = enum.auto()  # for more bytes
    COMPLETE = enum.auto()  # `take` checks and returns them, without waiting
    ODD = enum.auto()  # `take` has to wait, or raises: for a thread that may wait


class StartedRead(Protocol):
    """A read that was sent and is not waited for. Used by one thread at a time."""

    deadline: float  # of time.monotonic(): by then its answer should be complete

    def fileno(self) -> int:
        """The descriptor that becomes readable when `advance` has something to do."""

    def advance(self) -> ReadState:
        """Take what has arrived, without waiting. Raises nothing."""

    def take(self) -> Buffer:
        """Return the bytes, checked; they may lie in the buffer that `begin_read` got. Called once; waits if the state is not
        COMPLETE. Raises as `Source.read`."""


@runtime_checkable
class BeginRead(Protocol):
    """An optional ability of a source: ask with isinstance. One thread can have many small reads under way."""

    @property
    def begins_reads(self) -> bool:
        """Whether there is any point in `begin_read`; may change."""

    def begin_read(self, path: bytes, version: bytes, length: int, buffer: memoryview) -> StartedRead | None:
        """Send a read of a whole object. None: it would have to wait (for a connection, say); `read` does. Raises nothing.

        `buffer` is the read's until it has ended; it has BEGIN_ROOM_BYTES more than `length`, at least."""
