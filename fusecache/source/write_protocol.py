"""What a source that can be written offers besides `protocol.Source`, with the types that cross it.

Every method blocks, may be called from any thread of fetch at the same time, and is one step that its caller has written down
before: after a lost answer, or the death of fetch, the same step is asked for again with the same operation id, and takes
effect once.

An object comes about as a whole or not at all: nobody who looks at the store ever sees a part of one. What is replaced is named
by its version, so that nothing is overwritten that nobody has looked at. Paths are those of `protocol`.
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, runtime_checkable

from fusecache.source.protocol import Buffer, Entry

MAX_OPERATION_BYTES = 32  # of an operation id: letters, digits and "-"


class Kept(enum.Flag):
    """Which attributes a source keeps with an object or directory."""

    NOTHING = 0
    MODE = enum.auto()
    OWNER = enum.auto()
    MTIME = enum.auto()
    XATTRS = enum.auto()


class Guard(enum.Enum):
    """How sure it is that nothing else than what was expected is replaced."""

    STORE = "store"  # the store compares, in the moment of the change
    LATE_CHECK = "late check"  # we compare as late as possible: who writes in between loses


@dataclass(frozen=True, slots=True)
class WriteCapabilities:
    """What fetch may rely on; constant for the life of the source.

    Attributes:
        create: how a path where nothing is expected is guarded.
        replace: how an expected version is guarded.
        kept: which attributes come back from `stat` of the source.
        mtime_step_ns: how exactly times are kept.
        least_part_bytes, most_part_bytes, most_parts: of an upload; the last part may be shorter. Parts may be sent at the same
            time and in any order.
        most_put_bytes: the largest body of `put`.
        recognizes_repeats: `put` and `copy` know their own work when they are asked for again. False: use an upload where that
            matters, which always does.
        keeps_the_rest: a copy of an object to itself changes only the metadata that are given.
        copies_parts: `copy_part` moves no bytes over the network.
        renames: `rename` is one step of the source; else an object is copied and deleted, and a directory is object by object.
        has_symlinks: see Writer.make_symlink.
        has_directories: directories are there without a file in them; else a marker object keeps an empty one.
    """

    create: Guard
    replace: Guard
    kept: Kept
    mtime_step_ns: int = 1
    least_part_bytes: int = 1
    most_part_bytes: int = 1 << 40
    most_parts: int = 1 << 30
    most_put_bytes: int = 1 << 40
    recognizes_repeats: bool = True
    keeps_the_rest: bool = False
    copies_parts: bool = False
    renames: bool = False
    has_symlinks: bool = False
    has_directories: bool = False


@dataclass(frozen=True, slots=True)
class Metadata:
    """Attributes to keep with an object, as far as the source can. None: left as they are where an object keeps its bytes
    (`copy` to itself, directories); else what the source gives new objects.

    Attributes:
        mode: permission bits.
        xattrs: names without "user."; all there are.
    """

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    mtime_ns: int | None = None
    xattrs: Mapping[bytes, bytes] | None = None


class Upload(NamedTuple):
    """An object in the making. Can be written down; what the source needs to go on with it, now or in another process."""

    path: bytes
    id: str
    operation: str
    metadata: Metadata


class Part(NamedTuple):
    """A part that has arrived. `number` from 1 on; `tag`: what the store calls it."""

    number: int
    tag: str
    size: int


class Body(Protocol):
    """Bytes to send, in pieces, so that they need not be in memory at the same time."""

    @property
    def size(self) -> int: ...

    def pieces(self) -> Iterator[Buffer]:
        """Yield all of it, in order. May be called again, and yields the same bytes, or the upload is refused by its checksum."""


class Writer(Protocol):
    """Changes one source. Errors are those of `Source`, and

    EXISTS: nothing was expected, and something is there; STALE: another version than the expected one, or none, is there;
    NO_SPACE, READ_ONLY, UNSUPPORTED. The store is as it was before after each of these. After UNAVAILABLE and TIMEOUT nobody
    knows: ask again with the same operation id.

    `expected`: the version that is replaced; None: nothing may be there.
    """

    @property
    def capabilities(self) -> WriteCapabilities: ...

    def check(self) -> int:
        """Prove that the source may be written, if that can be found out without leaving anything behind. Return what was found
        out about it, for `restore`."""

    def restore(self, found: int) -> None:
        """Know what an earlier `check` of the same source returned."""

    def read_metadata(self, path: bytes, version: bytes) -> Metadata:
        """Return what is kept with a version of an object: nothing is None that `kept` names. Raises: STALE."""

    def own_version(self, path: bytes, operations: Sequence[str], upload_id: str) -> Entry | None:
        """Return what is at a path if we made it ourselves and were never told: by a step whose operation id begins with one of
        `operations`, or by completing the upload `upload_id` ("" for none). Else None."""

    def put(self, path: bytes, body: Body, metadata: Metadata, expected: bytes | None, operation: str) -> Entry:
        """Store a whole object of at most `most_put_bytes`; return it as `Source.stat` would now."""

    def begin_upload(self, path: bytes, metadata: Metadata, expected: bytes | None, operation: str) -> Upload:
        """Begin an object that is sent in parts. `expected` as it is now: for an early refusal; `complete` decides."""

    def put_part(self, upload: Upload, number: int, offset: int, body: Body) -> Part:
        """Send one part, which stands at `offset` of the object. One that was sent before is replaced."""

    def copy_part(self, upload: Upload, number: int, offset: int, size: int, path: bytes, version: bytes, start: int) -> Part:
        """As `put_part`, with bytes [start, start + size) of an object of the source. Raises: STALE."""

    def complete(self, upload: Upload, parts: Sequence[Part], expected: bytes | None) -> Entry:
        """Make an object of the parts (in the order of their numbers) and end the upload."""

    def abort(self, upload: Upload) -> None:
        """End an upload without an object. One that is not there any more is no error."""

    def copy(
        self,
        path: bytes,
        version: bytes,
        target: bytes,
        metadata: Metadata | None,
        expected: bytes | None,
        operation: str,
        *,
        is_repeat: bool = False,
    ) -> Entry:
        """Store a version of one object under another path. `metadata` None: that of the original. Where the target is the
        object itself, this changes its metadata; `is_repeat`: it may have done so already, so that the version is another one."""

    def delete(self, path: bytes, expected: bytes | None) -> None:
        """Remove an object (or symbolic link); None: of whatever version. Nothing there: no error, as it may have been this step
        that removed it."""

    def rename(self, path: bytes, target: bytes, expected: bytes | None) -> Entry:
        """Where `renames`: move a file or directory, replacing a file of the expected version, or an empty directory."""

    def make_directory(self, path: bytes, metadata: Metadata) -> Entry:
        """Make a directory (a marker object). Raises: EXISTS where the source itself knows directories."""

    def remove_directory(self, path: bytes) -> None:
        """Remove an empty directory (its marker). Raises: NOT_EMPTY. Nothing there: no error."""

    def make_symlink(self, path: bytes, target: bytes) -> Entry:
        """Where `has_symlinks`. Raises: EXISTS."""

    def set_directory_metadata(self, path: bytes, metadata: Metadata) -> Entry:
        """Change what is kept of a directory, as far as the source can."""


@runtime_checkable
class Writable(Protocol):
    """An optional ability of a source: ask with isinstance."""

    def open_writer(self) -> Writer:
        """Return what changes this source. Raises: READ_ONLY, UNSUPPORTED, with the reason. The writer ends with the source."""
