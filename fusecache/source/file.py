"""The `file://` source: a local directory (or a mounted claim) as it is, symbolic links unfollowed.

Owns the descriptors of listings under way; fetch calls it from any thread. Nothing outside the root can be reached: see
rooted.py, and ".." is refused. What is being written (posix_write.py) has a name of its own until it is complete, and is not
shown.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Mapping
from urllib.parse import unquote_to_bytes, urlsplit

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.directory_stream import DirectoryStreams
from fusecache.source.options import OptionReader
from fusecache.source.posix_entry import entry_of, hidden_reason, split_path, stat_attributes, version_of
from fusecache.source.posix_tree import UPLOAD_PREFIX
from fusecache.source.protocol import Buffer, Capabilities, Entry, Hidden, Page
from fusecache.source.rooted import RootedDirectory
from fusecache.source.write_protocol import Writer

PIECE_BYTES = 4 << 20  # of `stream`; large enough that the two fstat calls around each piece cost nothing
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC

# strong_versions False: a writer in place within the resolution of the file system's clock is not seen.
_CAPABILITIES = Capabilities(strong_versions=False, paged_listing=True, parallel_requests=8, request_latency_is_local=True)


def open_source(url: str, options: Mapping[str, str], env: Mapping[str, str]) -> FileSource:
    """Open `file:///path` (also `local:///path` or a plain absolute path). Raises: INVALID, NOT_FOUND, DENIED."""
    reader = OptionReader("file", options)
    squashes = reader.boolean("all_squash", False)
    reader.reject_unknown()
    return FileSource(path_of(url), squashes=squashes)


def path_of(url: str) -> bytes:
    """Return the absolute path a file URL names; percent escapes stand for bytes."""
    if url.startswith("/"):
        return os.fsencode(url)
    parts = urlsplit(url)
    if parts.netloc not in ("", "localhost") or parts.query or parts.fragment or not parts.path.startswith("/"):
        message = f"{url!r} is not a local directory; write file:///absolute/path (as %3F and %23 where the path has ? and #)"
        raise CacheError(ErrorKind.INVALID, message)
    return unquote_to_bytes(parts.path.encode("utf-8", "surrogateescape"))


class FileSource:
    """A local directory. `squashes`: owners and modes are neither told nor kept, as the daemon cannot be who it writes for: what
    is new belongs to the daemon's user, and everybody may read and write it."""

    def __init__(self, root: bytes, *, squashes: bool = False) -> None:
        self._squashes = squashes
        self._root = RootedDirectory(root)
        self.url = self._root.url
        self._streams = DirectoryStreams()

    @property
    def capabilities(self) -> Capabilities:
        return _CAPABILITIES

    def check(self) -> None:
        self.list_page(b"", None, 1)

    def list_page(self, path: bytes, token: str | None = None, limit: int = 1000) -> Page:
        components = split_path(path)
        try:
            names, fd, next_token = self._streams.read_page(lambda: self._root.open_directory(components), token, limit)
        except OSError as error:
            raise self._root.error(error, "list", path) from error
        page = Page(entries=[], next_token=next_token)
        try:
            for name in names:
                found = self._entry_at(fd, name)
                if isinstance(found, Entry):
                    page.entries.append(found)
                elif found is not None:
                    page.hidden.append(found)
        finally:
            os.close(fd)
        return page

    def stat(self, path: bytes) -> Entry:
        components = split_path(path)
        try:
            if not components:
                return self._told(entry_of(b"", stat_attributes(os.fstat(self._root.fd))))
            parent = self._root.open_directory(components[:-1])
            try:
                found = self._entry_at(parent, components[-1], must_exist=True)
            finally:
                os.close(parent)
        except OSError as error:
            raise self._root.error(error, "look up", path) from error
        if not isinstance(found, Entry):
            reason = found.reason if found is not None else "gone"
            raise CacheError(ErrorKind.NOT_FOUND, f"{self._root.place(path)} cannot be shown: {reason}")
        return found

    def read(self, path: bytes, version: bytes, offset: int, length: int) -> Buffer:
        fd = self._open_file(path, version)
        try:
            return self._read_piece(fd, path, version, offset, length)
        finally:
            os.close(fd)

    def stream(self, path: bytes, version: bytes, offset: int, length: int) -> Iterator[Buffer]:
        fd = self._open_file(path, version)
        try:
            end = offset + length
            while offset < end:
                piece = self._read_piece(fd, path, version, offset, min(PIECE_BYTES, end - offset))
                offset += len(piece)
                yield piece
        finally:
            os.close(fd)

    def open_writer(self) -> Writer:
        from fusecache.source.local_tree import LocalTree  # readers need none of it
        from fusecache.source.posix_write import PosixWriter

        return PosixWriter(LocalTree(self._root, self.stat, squashes=self._squashes))

    def close(self) -> None:
        self._streams.close()
        self._root.close()

    def _open_file(self, path: bytes, version: bytes) -> int:
        """Open a regular file that has this version now."""
        components = split_path(path)
        if not components:
            raise CacheError(ErrorKind.IS_A_DIRECTORY, f"{self.url} is a directory")
        try:
            parent = self._root.open_directory(components[:-1])
            try:
                # Looked at before it is opened: opening a device or a fifo has effects.
                before = os.stat(components[-1], dir_fd=parent, follow_symlinks=False)
                if not stat.S_ISREG(before.st_mode):
                    raise self._stale(path)
                fd = os.open(components[-1], _FILE, dir_fd=parent)
            finally:
                os.close(parent)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                raise self._stale(path) from None
            raise self._root.error(error, "open", path) from error
        try:
            self._require_version(fd, path, version)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _read_piece(self, fd: int, path: bytes, version: bytes, offset: int, length: int) -> Buffer:
        """Return exactly `length` bytes of a file that had its version before and has it after."""
        try:
            data: bytes | bytearray = os.pread(fd, length, offset)
            if len(data) < length:  # the kernel returns at most 2 GiB at once, network file systems may return less
                data = bytearray(data)
                while len(data) < length:
                    more = os.pread(fd, length - len(data), offset + len(data))
                    if not more:
                        break
                    data += more
        except OSError as error:
            raise self._root.error(error, "read", path) from error
        self._require_version(fd, path, version)
        if len(data) < length:
            raise CacheError(ErrorKind.UNAVAILABLE, f"{self._root.place(path)} gave {len(data)} of {length} bytes at {offset}")
        return data

    def _require_version(self, fd: int, path: bytes, version: bytes) -> None:
        now = os.fstat(fd)
        if not stat.S_ISREG(now.st_mode) or version_of(stat_attributes(now)) != version:
            raise self._stale(path)

    def _entry_at(self, parent: int, name: bytes, must_exist: bool = False) -> Entry | Hidden | None:
        """Return the entry of a name, why it is hidden, or None if it vanished since it was listed."""
        if name.startswith(UPLOAD_PREFIX):
            if must_exist:
                raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
            return None
        try:
            found = os.stat(name, dir_fd=parent, follow_symlinks=False)
            reason = hidden_reason(found.st_mode)
            if reason is not None:
                return Hidden(name, reason)
            target = os.readlink(name, dir_fd=parent) if stat.S_ISLNK(found.st_mode) else b""
        except FileNotFoundError:
            if must_exist:
                raise
            return None
        except OSError as error:
            if must_exist:
                raise
            return Hidden(name, f"cannot be looked at: {error.strerror}")
        return self._told(entry_of(name, stat_attributes(found), target))

    def _told(self, entry: Entry) -> Entry:
        return entry._replace(mode=None, uid=None, gid=None) if self._squashes else entry

    def _stale(self, path: bytes) -> CacheError:
        return CacheError(ErrorKind.STALE, f"{self._root.place(path)} was replaced, changed or deleted; open it again")
