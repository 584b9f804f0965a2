"""What a directory tree with the operations of POSIX offers to `posix_write.PosixWriter`. Paths as in `protocol`; any thread.

Errors are CacheError: NOT_FOUND, EXISTS, NOT_EMPTY, NOT_A_DIRECTORY, IS_A_DIRECTORY, DENIED, NO_SPACE, READ_ONLY, NAME_TOO_LONG,
UNAVAILABLE, TIMEOUT, and NOT_PERMITTED or UNSUPPORTED for what the file system cannot do.
"""

from __future__ import annotations

from typing import Protocol

from fusecache.source.posix_entry import Attributes
from fusecache.source.protocol import Entry
from fusecache.source.write_protocol import Body, Metadata

UPLOAD_PREFIX = b".fusecache-upload-"  # of files in the making, beside their target: a rename stays in one file system


class PosixTree(Protocol):
    url: str
    keeps_xattrs: bool
    copies_by_itself: bool
    mtime_step_ns: int

    def check_writable(self) -> None:
        """Raises: DENIED, READ_ONLY."""

    def stat(self, path: bytes) -> Entry:
        """As Source.stat."""

    def lstat(self, path: bytes) -> Attributes: ...

    def version_of(self, attributes: Attributes) -> bytes:
        """Return the version that `Source.stat` gives a file with these attributes."""

    def create(self, path: bytes) -> Attributes:
        """Make a file that only its owner may open, or find it made."""

    def write(self, path: bytes, offset: int, body: Body) -> None: ...

    def copy_range(self, path: bytes, version: bytes, start: int, size: int, target: bytes, offset: int) -> None:
        """Copy bytes of a file that has this version before and after. Raises: STALE."""

    def finish(self, path: bytes, size: int, metadata: Metadata, like: Attributes | None) -> None:
        """Set size and attributes of a file that is complete, and write it to the disk. What `metadata` leaves open is as in
        `like`."""

    def read_metadata(self, path: bytes, version: bytes) -> Metadata:
        """Raises: STALE."""

    def change_metadata(self, path: bytes, metadata: Metadata) -> None:
        """Of a file or directory."""

    def link(self, path: bytes, target: bytes) -> None: ...

    def rename(self, path: bytes, target: bytes) -> None: ...

    def unlink(self, path: bytes) -> None: ...

    def make_directory(self, path: bytes, mode: int) -> None: ...

    def remove_directory(self, path: bytes) -> None: ...

    def make_symlink(self, path: bytes, target: bytes) -> None: ...

    def place(self, path: bytes) -> str:
        """Return the path for a message."""
