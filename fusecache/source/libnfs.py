"""The part of libnfs's synchronous interface that is needed here, through ctypes (so that nothing has to be compiled).

Owns the loaded library. A context belongs to one thread at a time; foreign calls release the GIL, so contexts work in parallel.
Structures and signatures as in nfsc/libnfs.h of libnfs 4.0 and 5.0.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import itertools
import os
import secrets
import stat
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.posix_entry import Attributes

LIBRARIES = (
    "libnfs.so.13",
    "libnfs.so.14",
)  # 4.0 and 5.0 agree in all that is used here; 6.0 turned the arguments of nfs_pread round
MAX_OPEN_FILES = 16  # per context: enough for the files that are being read in pieces; a guess
_MAX_TARGET_BYTES = 4096
_MAX_READ_BYTES = 1 << 20
_MIN_WRITE_BYTES = 512
_TYPES = {  # ftype3 of RFC 1813
    1: stat.S_IFREG, 2: stat.S_IFDIR, 3: stat.S_IFBLK, 4: stat.S_IFCHR, 5: stat.S_IFLNK, 6: stat.S_IFSOCK, 7: stat.S_IFIFO,
}  # fmt: skip
_TRANSPORT = frozenset({errno.EIO, errno.ETIMEDOUT, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN,
                        errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EFAULT, errno.EINTR, errno.ERANGE, errno.ENOMEM,
                        errno.EBADF})  # fmt: skip
_numbers = itertools.count(1)


_STAT_FIELDS = """
    dev ino mode nlink uid gid rdev size blksize blocks atime mtime ctime atime_nsec mtime_nsec ctime_nsec used
"""


class _Stat(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in _STAT_FIELDS.split()]


class _Timeval(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("microseconds", ctypes.c_long)]


class _Dirent(ctypes.Structure):
    _fields_ = [
        ("next", ctypes.c_void_p),
        ("name", ctypes.c_char_p),
        ("inode", ctypes.c_uint64),
        ("type", ctypes.c_uint32),
        ("mode", ctypes.c_uint32),
        ("size", ctypes.c_uint64),
        ("atime", _Timeval),
        ("mtime", _Timeval),
        ("ctime", _Timeval),
        ("uid", ctypes.c_uint32),
        ("gid", ctypes.c_uint32),
        ("nlink", ctypes.c_uint32),
        ("dev", ctypes.c_uint64),
        ("rdev", ctypes.c_uint64),
        ("blksize", ctypes.c_uint64),
        ("blocks", ctypes.c_uint64),
        ("used", ctypes.c_uint64),
        ("atime_nsec", ctypes.c_uint32),
        ("mtime_nsec", ctypes.c_uint32),
        ("ctime_nsec", ctypes.c_uint32),
    ]


_POINTER = ctypes.c_void_p
_SIGNATURES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "nfs_init_context": (_POINTER, ()),
    "nfs_destroy_context": (None, (_POINTER,)),
    "nfs_get_error": (ctypes.c_char_p, (_POINTER,)),
    "nfs_parse_url_incomplete": (_POINTER, (_POINTER, ctypes.c_char_p)),
    "nfs_destroy_url": (None, (_POINTER,)),
    "nfs_set_version": (ctypes.c_int, (_POINTER, ctypes.c_int)),
    "nfs_set_timeout": (None, (_POINTER, ctypes.c_int)),
    "nfs_set_tcp_syncnt": (None, (_POINTER, ctypes.c_int)),
    "nfs_set_autoreconnect": (None, (_POINTER, ctypes.c_int)),
    "nfs_set_dircache": (None, (_POINTER, ctypes.c_int)),
    "nfs_set_uid": (None, (_POINTER, ctypes.c_int)),
    "nfs_set_gid": (None, (_POINTER, ctypes.c_int)),
    "nfs4_set_client_name": (None, (_POINTER, ctypes.c_char_p)),
    "nfs_get_readmax": (ctypes.c_uint64, (_POINTER,)),
    "nfs_mount": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_char_p)),
    "nfs_lstat64": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.POINTER(_Stat))),
    "nfs_fstat64": (ctypes.c_int, (_POINTER, _POINTER, ctypes.POINTER(_Stat))),
    "nfs_open": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(_POINTER))),
    "nfs_close": (ctypes.c_int, (_POINTER, _POINTER)),
    "nfs_pread": (ctypes.c_int, (_POINTER, _POINTER, ctypes.c_uint64, ctypes.c_uint64, _POINTER)),
    "nfs_readlink": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)),
    "nfs_opendir": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.POINTER(_POINTER))),
    "nfs_readdir": (ctypes.POINTER(_Dirent), (_POINTER, _POINTER)),
    "nfs_closedir": (None, (_POINTER, _POINTER)),
    "nfs_get_writemax": (ctypes.c_uint64, (_POINTER,)),
    "nfs_creat": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_int, ctypes.POINTER(_POINTER))),
    "nfs_pwrite": (ctypes.c_int, (_POINTER, _POINTER, ctypes.c_uint64, ctypes.c_uint64, _POINTER)),
    "nfs_fsync": (ctypes.c_int, (_POINTER, _POINTER)),
    "nfs_truncate": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_uint64)),
    "nfs_unlink": (ctypes.c_int, (_POINTER, ctypes.c_char_p)),
    "nfs_rename": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_char_p)),
    "nfs_link": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_char_p)),
    "nfs_mkdir2": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_int)),
    "nfs_rmdir": (ctypes.c_int, (_POINTER, ctypes.c_char_p)),
    "nfs_symlink": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_char_p)),
    "nfs_chmod": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_int)),
    "nfs_lchown": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.c_int, ctypes.c_int)),
    "nfs_lutimes": (ctypes.c_int, (_POINTER, ctypes.c_char_p, ctypes.POINTER(_Timeval))),
}


@cache
def load() -> Any:
    """Return the library. Raises: INVALID if it is not installed."""
    library = None
    for name in LIBRARIES:
        with contextlib.suppress(OSError):
            library = ctypes.CDLL(name)
            break
    if library is None:
        message = f"nfs:// needs the library {' or '.join(LIBRARIES)}, which is not installed; apt install libnfs13 (or libnfs14)"
        raise CacheError(ErrorKind.INVALID, message)
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


class NfsError(Exception):
    """A call failed. `is_transport`: the context may be beyond use, the server unreachable."""

    def __init__(self, number: int, text: str) -> None:
        super().__init__(f"{errno.errorcode.get(number, number)}: {text}")
        self.is_timeout = number == errno.ETIMEDOUT or "timeout" in text.lower() or "timed out" in text.lower()
        self.number = errno.ETIMEDOUT if self.is_timeout else number
        self.is_transport = self.is_timeout or number in _TRANSPORT
        self.text = text


@dataclass(frozen=True, slots=True)
class NfsSettings:
    """Attributes:
    server: host name or address. export: absolute path.
    version: 3 or 4 (spoken as 4.0). port, mount_port: 0 to ask the portmapper (version 3) or take 2049 (version 4).
    timeout_seconds: of one call; libnfs counts whole seconds.
    read_bytes: of one READ at most; the server may want less.
    uid, gid: sent with AUTH_SYS; None for those of this process.
    """

    server: str
    export: str
    version: int
    port: int = 0
    mount_port: int = 0
    timeout_seconds: int = 30
    read_bytes: int = 1 << 20
    uid: int | None = None
    gid: int | None = None


class NfsDirectory:
    """A directory that libnfs has read whole into its own memory, and how far it was taken from there."""

    def __init__(self, library: Any, context: int, handle: int) -> None:
        self._library = library
        self._context = context
        self._handle = handle
        self.position = 0

    def entries(self) -> Iterator[tuple[bytes, Attributes]]:
        """Yield the rest. No network is involved."""
        while entry := self._library.nfs_readdir(self._context, self._handle):
            self.position += 1
            name = bytes(entry.contents.name)
            if name not in (b".", b".."):
                yield name, _attributes_of_dirent(entry.contents)


class NfsContext:
    """One connection with one mounted export, and the files last read over it.

    Invariant: one thread at a time. After an NfsError with `is_transport` only `destroy` may follow.
    """

    def __init__(self, settings: NfsSettings) -> None:
        """Connect and mount. Raises: NfsError."""
        self._library = library = load()
        self._context = library.nfs_init_context()
        self._files: OrderedDict[tuple[bytes, bytes], int] = OrderedDict()  # (path, version) -> open file
        try:
            self._configure(settings)
            server, export = settings.server.encode(), settings.export.encode("utf-8", "surrogateescape")
            self._check(library.nfs_mount(self._context, server, export))
        except BaseException:
            library.nfs_destroy_context(self._context)
            raise
        # 0 over version 4, where servers shorten what they find too long. libnfs refuses answers beyond 1 MiB.
        server_bytes = int(library.nfs_get_readmax(self._context)) or _MAX_READ_BYTES
        self._piece_bytes = min(server_bytes, settings.read_bytes, _MAX_READ_BYTES)
        self._written_bytes = min(int(library.nfs_get_writemax(self._context)) or _MAX_READ_BYTES, _MAX_READ_BYTES)

    def lstat(self, path: bytes) -> Attributes:
        found = _Stat()
        self._check(self._library.nfs_lstat64(self._context, b"/" + path, ctypes.byref(found)))
        return _attributes_of_stat(found)

    def readlink(self, path: bytes) -> bytes:
        buffer = ctypes.create_string_buffer(_MAX_TARGET_BYTES + 1)
        self._check(self._library.nfs_readlink(self._context, b"/" + path, buffer, _MAX_TARGET_BYTES))
        return buffer.value

    def read(self, path: bytes, version: bytes, offset: int, target: memoryview) -> tuple[int, Attributes]:
        """Fill `target` from a file; return how much there was, and the file's attributes afterwards.

        The file stays open under (path, version): a name that leads to another file by now must not be read by an old handle.
        """
        handle = self._open(path, version)
        address = ctypes.addressof(ctypes.c_char.from_buffer(target))
        done = 0
        while done < len(target):
            want = min(self._piece_bytes, len(target) - done)
            count = self._check(self._library.nfs_pread(self._context, handle, offset + done, want, address + done))
            if count == 0:
                break
            done += count
        found = _Stat()
        self._check(self._library.nfs_fstat64(self._context, handle, ctypes.byref(found)))
        return done, _attributes_of_stat(found)

    def create(self, path: bytes, mode: int) -> None:
        """Make an empty file, or make one empty."""
        opened = ctypes.c_void_p()
        self._check(self._library.nfs_creat(self._context, b"/" + path, mode, ctypes.byref(opened)))
        self._library.nfs_close(self._context, opened)

    def write(self, path: bytes, offset: int, pieces: Iterable[bytes | bytearray | memoryview]) -> None:
        """Write into a file that is there. Each WRITE is on the server's disk before it returns: libnfs would not notice that a
        server had lost what it had only in memory."""
        opened = ctypes.c_void_p()
        flags = os.O_RDWR | os.O_NOFOLLOW | os.O_SYNC
        self._check(self._library.nfs_open(self._context, b"/" + path, flags, ctypes.byref(opened)))
        try:
            for piece in pieces:
                data = bytes(piece)
                address = ctypes.cast(ctypes.c_char_p(data), ctypes.c_void_p).value or 0
                done = 0
                while done < len(data):
                    done += self._write(opened, offset + done, address + done, len(data) - done)
                offset += len(data)
        finally:
            self._library.nfs_close(self._context, opened)

    def _write(self, opened: ctypes.c_void_p, offset: int, address: int, size: int) -> int:
        """Write as much as one WRITE takes. libnfs 4.0 has some 2 KiB for those of version 4, and says so only now."""
        while True:
            want = min(self._written_bytes, size)
            try:
                return self._check(self._library.nfs_pwrite(self._context, opened, offset, want, address))
            except NfsError as error:
                if "encode" not in error.text or want <= _MIN_WRITE_BYTES:
                    raise
                self._written_bytes = want // 2

    def change(self, function: str, *arguments: Any) -> None:
        """Call a function of the library whose result says only whether it worked."""
        self._check(getattr(self._library, function)(self._context, *arguments))

    def set_mtime(self, path: bytes, mtime_ns: int) -> None:
        """Microseconds are what libnfs passes on."""
        seconds, rest = divmod(mtime_ns, 1_000_000_000)
        times = (_Timeval * 2)(_Timeval(seconds, rest // 1000), _Timeval(seconds, rest // 1000))
        self._check(self._library.nfs_lutimes(self._context, b"/" + path, times))

    def forget(self, path: bytes, version: bytes) -> None:
        """Close a file kept open, if it is."""
        handle = self._files.pop((path, version), None)
        if handle is not None:
            self._library.nfs_close(self._context, handle)

    def open_directory(self, path: bytes, keeper: int) -> NfsDirectory:
        """Read a whole directory. `keeper` is the context to take its entries with: see `DirectoryKeeper`."""
        handle = ctypes.c_void_p()
        self._check(self._library.nfs_opendir(self._context, b"/" + path, ctypes.byref(handle)))
        assert handle.value is not None
        return NfsDirectory(self._library, keeper, handle.value)

    def destroy(self, is_broken: bool = False) -> None:
        """End the connection. Where it is broken the open files are not closed: that would wait for the server."""
        for handle in [] if is_broken else self._files.values():
            self._library.nfs_close(self._context, handle)
        self._files.clear()
        self._library.nfs_destroy_context(self._context)

    def _open(self, path: bytes, version: bytes) -> int:
        key = (path, version)
        handle = self._files.get(key)
        if handle is None:
            opened = ctypes.c_void_p()
            flags = os.O_RDONLY | os.O_NOFOLLOW
            self._check(self._library.nfs_open(self._context, b"/" + path, flags, ctypes.byref(opened)))
            assert opened.value is not None
            handle = self._files[key] = opened.value
            if len(self._files) > MAX_OPEN_FILES:
                self._library.nfs_close(self._context, self._files.popitem(last=False)[1])
        self._files.move_to_end(key)
        return handle

    def _configure(self, settings: NfsSettings) -> None:
        library, context = self._library, self._context
        library.nfs_set_timeout(context, settings.timeout_seconds * 1000)
        library.nfs_set_tcp_syncnt(context, 3)  # 7 s until a host that drops packets is given up
        library.nfs_set_autoreconnect(context, 0)  # a broken context is replaced by us, once
        library.nfs_set_dircache(context, 0)
        self._check(library.nfs_set_version(context, settings.version))
        # Contexts made in the same second would share libnfs's default name, and the server would drop the older one's files.
        name = f"fusecache-{os.getpid()}-{next(_numbers)}-{secrets.token_hex(8)}"
        library.nfs4_set_client_name(context, name.encode())
        if settings.uid is not None:
            library.nfs_set_uid(context, settings.uid)
        if settings.gid is not None:
            library.nfs_set_gid(context, settings.gid)
        arguments = [f"version={settings.version}"]
        arguments += [f"nfsport={settings.port}"] if settings.port else []
        arguments += [f"mountport={settings.mount_port}"] if settings.mount_port else []
        url = library.nfs_parse_url_incomplete(context, f"nfs://host/?{'&'.join(arguments)}".encode())  # ports: only this way
        if url:
            library.nfs_destroy_url(url)

    def _check(self, result: int) -> int:
        if result < 0:
            text = self._library.nfs_get_error(self._context) or b""
            raise NfsError(-result, text.decode("utf-8", "replace")[:200])
        return result


class DirectoryKeeper:
    """A context that is never connected: directories are taken apart and freed through it, whatever became of theirs."""

    def __init__(self) -> None:
        self._library = load()
        self.context: int = self._library.nfs_init_context()
        self._library.nfs_set_dircache(self.context, 0)

    def free(self, directory: NfsDirectory) -> None:
        self._library.nfs_closedir(self.context, directory._handle)

    def close(self) -> None:
        self._library.nfs_destroy_context(self.context)


def _attributes_of_stat(found: _Stat) -> Attributes:
    return Attributes(
        device=found.dev, inode=found.ino, mode=found.mode, nlink=found.nlink, uid=found.uid, gid=found.gid, size=found.size,
        mtime_ns=found.mtime * 1_000_000_000 + found.mtime_nsec, ctime_ns=found.ctime * 1_000_000_000 + found.ctime_nsec,
    )  # fmt: skip


def _attributes_of_dirent(entry: Any) -> Attributes:
    """`device` and `inode` are missing (0): libnfs leaves them as they were in memory when it lists over version 4."""
    return Attributes(
        device=0, inode=0, mode=stat.S_IMODE(entry.mode) | _TYPES.get(entry.type, stat.S_IFMT(entry.mode)),
        nlink=entry.nlink, uid=entry.uid, gid=entry.gid, size=entry.size,
        mtime_ns=entry.mtime.seconds * 1_000_000_000 + entry.mtime_nsec,
        ctime_ns=entry.ctime.seconds * 1_000_000_000 + entry.ctime_nsec,
    )  # fmt: skip
