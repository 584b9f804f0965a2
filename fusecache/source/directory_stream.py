"""Reads a directory in pages whose position can be written down, so that a huge directory needs memory for one page only.

Owns the descriptors of listings under way, at most `MAX_OPEN`; `file.FileSource` calls it from any thread (one lock around the
table, none around the system calls: a cursor in use is out of the table).

A token is `inode:position:cursor`. While the cursor is kept, the listing goes on at its descriptor; if it was dropped
(more than `MAX_OPEN` listings at once, or a repeated request), the directory is opened again and the position is set with lseek,
which is what telldir/seekdir and every NFS server rely on.
"""

from __future__ import annotations

import ctypes
import itertools
import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable

from fusecache.contract.errors import CacheError, ErrorKind

MAX_OPEN = 64  # descriptors; a guess: listings run at once are bounded by fetch far below it
_BUFFER_BYTES = 32 << 10  # what glibc's readdir uses: about 1,000 short names
_HEADER = struct.Struct("=QqHB")  # struct linux_dirent64 without its name: d_ino, d_off, d_reclen, d_type

_libc = ctypes.CDLL(None, use_errno=True)
_getdents64 = _libc.getdents64 if hasattr(_libc, "getdents64") else _libc.getdents  # musl has only the latter, 64 bits wide
_getdents64.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_size_t)
_getdents64.restype = ctypes.c_ssize_t


class DirectoryStreams:
    """The listings under way of one source."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: OrderedDict[str, int] = OrderedDict()  # token -> descriptor standing at the token's position
        self._cursor = itertools.count(1)

    def read_page(self, open_directory: Callable[[], int], token: str | None, limit: int) -> tuple[list[bytes], int, str | None]:
        """Return the next names, a descriptor of their directory that the caller closes, and the next token.

        Raises: OSError from `open_directory` or the kernel; CacheError(STALE) if the directory was replaced meanwhile.
        """
        fd = self._take(open_directory, token)
        try:
            names: list[bytes] = []
            position = 0
            complete = False
            while len(names) < limit:
                found, position = _read_names(fd, position)
                if found is None:
                    complete = True
                    break
                names.extend(found)
            if complete:
                return names, fd, None
            next_token = f"{os.fstat(fd).st_ino}:{position}:{next(self._cursor)}"
            self._keep(next_token, os.dup(fd))
            return names, fd, next_token
        except BaseException:
            os.close(fd)
            raise

    def close(self) -> None:
        """Close every kept descriptor."""
        with self._lock:
            while self._open:
                os.close(self._open.popitem()[1])

    def _take(self, open_directory: Callable[[], int], token: str | None) -> int:
        if token is None:
            return open_directory()
        with self._lock:
            kept = self._open.pop(token, None)
        if kept is not None:
            return kept
        try:
            inode, position = (int(part) for part in token.split(":")[:2])
        except ValueError:
            raise CacheError(ErrorKind.INVALID, f"{token!r} is not a token of this listing") from None
        fd = open_directory()
        if os.fstat(fd).st_ino != inode:
            os.close(fd)
            raise CacheError(ErrorKind.STALE, "the directory was replaced while it was being listed; list it again")
        os.lseek(fd, position, os.SEEK_SET)
        return fd

    def _keep(self, token: str, fd: int) -> None:
        with self._lock:
            self._open[token] = fd
            if len(self._open) > MAX_OPEN:
                os.close(self._open.popitem(last=False)[1])


def _read_names(fd: int, position: int) -> tuple[list[bytes] | None, int]:
    """Return the names of one getdents64 call (None at the end) and the position after them."""
    buffer = ctypes.create_string_buffer(_BUFFER_BYTES)
    size = _getdents64(fd, buffer, _BUFFER_BYTES)
    if size < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    if size == 0:
        return None, position
    data = buffer.raw[:size]
    names = []
    at = 0
    while at < size:
        _inode, position, record_bytes, _kind = _HEADER.unpack_from(data, at)
        start = at + _HEADER.size
        name = data[start : data.index(b"\0", start)]
        if name not in (b".", b".."):
            names.append(name)
        at += record_bytes
    return names, position
