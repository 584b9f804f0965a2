"""What each FUSE request asks of the filesystem, as a table from opcode to operation.

An operation is called as `operation(request, length, unique, inode)`: the request with its header, of which `length` bytes count.
It returns the pieces of the answer's payload (memoryviews of bytes, so that len() is their size), or None if there is nothing to
answer or it was answered already; it raises CacheError, `Refused`, or Miss. No state, any thread.

ENOSYS tells the kernel never to ask again and to do the default itself; here it always means that.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable, Sequence

from fusecache.contract.shared_memory import Counter
from fusecache.fuse.filesystem_protocol import Buffer, Filesystem
from fusecache.fuse.native.protocol import (
    DIRENT,
    ENTRY_OUT,
    GETXATTR_IN,
    GETXATTR_OUT,
    IN_HEADER_BYTES,
    OPCODE_LIMIT,
    OPEN_IN,
    OPEN_OUT,
    READ_IN_START,
    UNIQUE_RESEND,
    InitFlag,
    Opcode,
    OpenFlag,
)
from fusecache.fuse.native.replies import pack_attributes, pack_directory, pack_entry, pack_statfs, pack_xattr_names
from fusecache.fuse.native.session import Session
from fusecache.fuse.native.settings import Favours

_log = logging.getLogger(__name__)

Operation = Callable[[Buffer, int, int, int], Sequence[Buffer] | None]

_EMPTY: Sequence[Buffer] = (b"",)
_NAME_BYTES_GUESS = 24  # mean length of a name, to ask for about as many entries as fit: a guess
_OPENED_CACHED = (OPEN_OUT.pack(0, OpenFlag.KEEP_CACHE, 0),)
# Handle of every open that the kernel reads by itself. It still asks for what posix_fadvise(WILLNEED) announces (pyarrow
# announces all that it is about to read), and would keep it in pages of its own that nobody looks at.
PASSTHROUGH_HANDLE = 1
_DIRECTORY_KEPT = (OPEN_OUT.pack(0, OpenFlag.CACHE_DIR | OpenFlag.KEEP_CACHE, 0),)
_DIRECTORY_DROPPED = (OPEN_OUT.pack(0, OpenFlag.CACHE_DIR, 0),)  # the kernel forgets its listing and fills a new one

_MUTATIONS = (
    Opcode.SETATTR,
    Opcode.SYMLINK,
    Opcode.MKNOD,
    Opcode.MKDIR,
    Opcode.UNLINK,
    Opcode.RMDIR,
    Opcode.RENAME,
    Opcode.RENAME2,
    Opcode.LINK,
    Opcode.WRITE,
    Opcode.SETXATTR,
    Opcode.REMOVEXATTR,
    Opcode.CREATE,
    Opcode.TMPFILE,
    Opcode.FALLOCATE,
    Opcode.COPY_FILE_RANGE,
    Opcode.COPY_FILE_RANGE_64,
)
_NO_ANSWER = (Opcode.FORGET, Opcode.BATCH_FORGET, Opcode.NOTIFY_REPLY)
_ANSWER_EMPTY = (Opcode.RELEASEDIR, Opcode.DESTROY)


class Refused(Exception):
    """The answer is this errno, on purpose."""

    def __init__(self, error_number: int) -> None:
        super().__init__(error_number)
        self.errno = error_number


class Operations:
    """The table `rows` and the operations behind it."""

    def __init__(
        self,
        filesystem: Filesystem,
        session: Session,
        favours: Favours | None,
        counters: memoryview,
        before_waiting: Callable[[], None],
    ) -> None:
        """`before_waiting` is called by a thread that is about to wait for custody."""
        self._counters = counters
        self._filesystem = filesystem
        self._session = session
        self._favours = favours
        self._before_waiting = before_waiting
        # ENOSYS for all others: ACCESS (default_permissions checks), FLUSH and FSYNC (nothing to write), LSEEK (the kernel's own
        # SEEK_DATA and SEEK_HOLE), POLL, BMAP, STATX, SYNCFS, locks (local ones), mappings, and whatever a newer kernel knows.
        rows: list[Operation] = [_refuse(errno.ENOSYS)] * OPCODE_LIMIT
        for opcode in _MUTATIONS:
            rows[opcode] = _refuse(errno.EROFS)
        for opcode in _NO_ANSWER:
            rows[opcode] = _ignore
        for opcode in _ANSWER_EMPTY:
            rows[opcode] = _answer_empty
        rows[Opcode.IOCTL] = _refuse(errno.ENOTTY)
        rows[Opcode.INIT] = session.initialize
        rows[Opcode.LOOKUP] = self._lookup
        rows[Opcode.GETATTR] = self._getattr
        rows[Opcode.READLINK] = self._readlink
        rows[Opcode.OPEN] = self._open
        rows[Opcode.READ] = self._read
        rows[Opcode.RELEASE] = self._release
        rows[Opcode.OPENDIR] = self._opendir
        rows[Opcode.READDIR] = self._readdir
        rows[Opcode.READDIRPLUS] = self._readdirplus
        rows[Opcode.STATFS] = self._statfs
        rows[Opcode.GETXATTR] = self._getxattr
        rows[Opcode.LISTXATTR] = self._listxattr
        self.rows = rows

    def _lookup(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        return (pack_entry(self._filesystem.lookup(inode, bytes(request[IN_HEADER_BYTES : length - 1]))),)

    def _getattr(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        return (pack_attributes(*self._filesystem.getattr(inode)),)

    def _readlink(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        return (self._filesystem.readlink(inode),)

    def _read(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        handle, offset, size = READ_IN_START.unpack_from(request, IN_HEADER_BYTES)
        if handle == PASSTHROUGH_HANDLE:
            raise Refused(errno.EIO)  # of an advice; no program sees it
        return self._filesystem.read(inode, offset, size)

    def _open(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        flags, _ = OPEN_IN.unpack_from(request, IN_HEADER_BYTES)
        if flags & os.O_ACCMODE != os.O_RDONLY:
            raise Refused(errno.EROFS)
        if not self._session.opens_files:
            raise Refused(errno.ENOSYS)
        container_fd = self._filesystem.open(inode, flags).container_fd
        try:
            backing_id = self._ask_for_passthrough(inode, unique, container_fd)
        finally:
            if container_fd >= 0:
                os.close(container_fd)
        if backing_id is None:
            return _OPENED_CACHED
        self._counters[Counter.PASSTHROUGH_OPENS] += 1
        return (OPEN_OUT.pack(PASSTHROUGH_HANDLE, OpenFlag.PASSTHROUGH, backing_id),)

    def _ask_for_passthrough(self, inode: int, unique: int, container_fd: int) -> int | None:
        """Asked for every open, container or not, so that the supervisor knows each inode's opens and never mixes its modes."""
        if self._favours is None or not self._session.flags & InitFlag.PASSTHROUGH:
            return None
        self._before_waiting()
        try:
            return self._favours.open_file(inode, unique & ~UNIQUE_RESEND, container_fd)
        except OSError as error:
            _log.warning("the supervisor does not answer about opens (%s); reading without passthrough", error)
            return None

    def _release(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        if self._favours is not None and self._session.flags & InitFlag.PASSTHROUGH:
            self._before_waiting()
            try:
                self._favours.release_file(inode, unique & ~UNIQUE_RESEND)
            except OSError as error:
                _log.warning("the supervisor cannot be told of the end of an open: %s", error)
        return _EMPTY

    def _opendir(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        return _DIRECTORY_KEPT if self._filesystem.opendir(inode) else _DIRECTORY_DROPPED

    def _readdir(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        return self._list(request, inode, plus=False)

    def _readdirplus(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        return self._list(request, inode, plus=True)

    def _list(self, request: Buffer, inode: int, plus: bool) -> Sequence[Buffer]:
        _, offset, size = READ_IN_START.unpack_from(request, IN_HEADER_BYTES)
        one_entry = DIRENT.size + _NAME_BYTES_GUESS + (ENTRY_OUT.size if plus else 0)
        part = self._filesystem.readdir(inode, offset, max(size // one_entry, 1), plus)
        return (pack_directory(part, size, plus),)

    def _statfs(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        return (pack_statfs(self._filesystem.statfs()),)

    def _getxattr(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        size, _ = GETXATTR_IN.unpack_from(request, IN_HEADER_BYTES)
        name = bytes(request[IN_HEADER_BYTES + GETXATTR_IN.size : length - 1])
        return _sized(self._filesystem.getxattr(inode, name), size)

    def _listxattr(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        size, _ = GETXATTR_IN.unpack_from(request, IN_HEADER_BYTES)
        return _sized(pack_xattr_names(self._filesystem.listxattr(inode)), size)


def _sized(value: bytes, size: int) -> Sequence[Buffer]:
    """Answer an xattr request: size 0 asks how long the value is."""
    if size == 0:
        return (GETXATTR_OUT.pack(len(value), 0),)
    if len(value) > size:
        raise Refused(errno.ERANGE)
    return (value,)


def _refuse(error_number: int) -> Operation:
    def refuse(request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
        raise Refused(error_number)

    return refuse


def _ignore(request: Buffer, length: int, unique: int, inode: int) -> None:
    return None


def _answer_empty(request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer]:
    return _EMPTY
