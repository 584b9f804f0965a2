"""What an engine needs from the filesystem, and what the filesystem may answer.

`serve.filesystem.CacheFilesystem` implements it; both engines and the model tests drive it. Every method is called from any
thread, never blocks on fetch, and either returns, raises CacheError (the engine answers its errno), or raises Miss: the engine
sends the miss to fetch, and calls the same method again with the same arguments when the answer says OK. A second or third Miss
in a row is normal (a LIST that found an empty page).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from fusecache.contract.messages import Answer, Op, Request

Buffer = bytes | bytearray | memoryview

ROOT_INODE = 1


class Miss(Exception):
    """The answer needs fetch. `op` is READ, LOOKUP, LIST or ATTRIBUTES, or on mounts that may be written CHANGE or SYNC; the
    fields are those of contract.messages.Request."""

    def __init__(self, op: Op, inode: int, offset: int = 0, size: int = 0, name: bytes = b"", is_part: bool = False) -> None:
        """`is_part`: of a READ whose answer has other bytes, too."""
        super().__init__(op.name, inode, offset, size)
        self.op = op
        self.inode = inode
        self.offset = offset
        self.size = size
        self.name = name
        self.is_part = is_part


class Attributes(NamedTuple):
    """stat(2) fields of one inode. `mode` includes the file type; times in nanoseconds; `blocks` in 512-byte units."""

    inode: int
    mode: int
    size: int
    nlink: int
    uid: int
    gid: int
    mtime_ns: int
    ctime_ns: int
    blocks: int


class EntryAnswer(NamedTuple):
    """Answer to a lookup. `attributes` None is a negative answer: the name does not exist; the kernel may remember it for
    `entry_ttl_seconds`."""

    attributes: Attributes | None
    entry_ttl_seconds: float
    attributes_ttl_seconds: float


class DirectoryEntry(NamedTuple):
    """`offset` is what the kernel passes to continue after this entry. `attributes` None: not known exactly yet (the kernel
    will look up)."""

    name: bytes
    inode: int
    kind_mode: int  # S_IFREG, S_IFDIR, S_IFLNK
    offset: int
    attributes: Attributes | None


class DirectoryPart(NamedTuple):
    """Entries from an offset on. An empty part is the end of the directory."""

    entries: Sequence[DirectoryEntry]
    entry_ttl_seconds: float
    attributes_ttl_seconds: float


@dataclass(frozen=True, slots=True)
class OpenAnswer:
    """`container_fd` >= 0: a complete, verified container that the engine may hand to custody for passthrough; the engine
    closes it."""

    container_fd: int = -1


@dataclass(frozen=True, slots=True)
class Statfs:
    """statvfs(3): sizes in blocks of `block_size`."""

    block_size: int
    blocks: int
    blocks_free: int
    files: int
    files_free: int
    name_max: int = 255


class Filesystem(Protocol):
    def on_wait(self, callback: Callable[[], None]) -> None:
        """Register what is called before a thread waits for a disk, by that thread."""

    def lookup(self, parent: int, name: bytes) -> EntryAnswer:
        """Raises: NOT_FOUND never (negative EntryAnswer instead); NAME_TOO_LONG; STALE for inodes of an older epoch."""

    def getattr(self, inode: int) -> tuple[Attributes, float]:
        """Return attributes and how many seconds the kernel may keep them."""

    def readlink(self, inode: int) -> bytes: ...

    def opendir(self, inode: int) -> bool:
        """Return whether the kernel's cached listing of this directory is still right (FOPEN_KEEP_CACHE | FOPEN_CACHE_DIR)."""

    def readdir(self, inode: int, offset: int, count: int, plus: bool) -> DirectoryPart:
        """Return up to `count` entries after `offset` (0 = start; "." and ".." included). Offsets are stable while the listing
        grows."""

    def open(self, inode: int, flags: int) -> OpenAnswer:
        """Raises READ_ONLY for any writing flag, IS_A_DIRECTORY."""

    def read(self, inode: int, offset: int, size: int) -> Sequence[Buffer]:
        """Return the bytes as pieces whose lengths sum to min(size, file size - offset), or to 0 past the end.

        The pieces are verified and private: they stay right whatever happens to the cache afterwards, but only until the same
        thread calls `read` again, as they may lie in a buffer of that thread. The engine is done with them by then: it writes
        its reply at once."""

    def read_bounced(self, answer: Answer) -> Sequence[Buffer]:
        """Return the bytes that a BOUNCE answer names; the engine sends DONE after its reply.

        Raises: Miss(READ) if fetch died meanwhile, as its successor may have put other bytes there: the engine sends that
        miss."""

    def keep_bounced(self, miss: Miss, answer: Answer) -> None:
        """As `read_bounced`, for a miss that is a part: keep the bytes until the operation comes again. Raises: Miss(READ)."""

    def end_miss(self, miss: Miss) -> None:
        """Take note that nobody comes back with this miss: its request was answered, whatever with, or its reader left. Every
        miss that is not followed by another one ends so."""

    def statfs(self) -> Statfs: ...

    def getxattr(self, inode: int, name: bytes) -> bytes:
        """Raises NO_ATTRIBUTE."""

    def listxattr(self, inode: int) -> Sequence[bytes]: ...


class WritableFilesystem(Filesystem, Protocol):
    """What a mount that may be written offers besides. Changes of names, opens and attributes are not here: the engine sends
    them to fetch itself, as Miss(CHANGE)."""

    def write(self, inode: int, offset: int, data: Buffer) -> int:
        """Write into a file that is open for writing; return how much. Raises: Miss(READ) for bytes that it covers in part."""

    def truncate(self, inode: int, size: int) -> None:
        """Cut off or lengthen a file that is open for writing."""

    def allocate(self, inode: int, offset: int, size: int) -> None:
        """As fallocate(2) with mode 0."""

    def is_written(self, inode: int) -> bool:
        """Whether the file is open for writing, or has what is not uploaded yet."""

    def made(self, inode: int) -> EntryAnswer:
        """Return the entry of what a change has made."""


class MissClient(Protocol):
    """The way to fetch (serve/miss_client.py). Thread-safe; nothing blocks."""

    def submit(self, request: Request, on_answer: Callable[[Answer], None]) -> int:
        """Send a miss (token ignored) and return its token. `on_answer` is called once, from the client's answer thread; after
        the death of fetch the request is sent again by itself. `on_answer` must not block."""

    def done(self, token: int) -> None:
        """Release what the answer to the token leased."""

    def settled(self, token: int) -> None:
        """The kernel has the answer to a CHANGE: fetch need not remember its outcome."""

    def cancel(self, token: int) -> None:
        """Forget the request: `on_answer` will not be called any more."""

    def tell(self, request: Request) -> None:
        """Send a message that has no answer (HINT, OPENED, DAMAGED). It may be lost."""

    def on_invalidate(self, callback: Callable[[Answer], None]) -> None:
        """Register who gets INVALIDATE_* messages."""
