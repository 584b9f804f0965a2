"""The operations of `posix_tree.PosixTree` on a local directory. Holds no state but the root; any thread.

Each change is on the disk before it returns: the file by fsync, its name by fsync of the directory.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import stat
from collections.abc import Callable, Iterator

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.posix_entry import Attributes, split_path, stat_attributes, version_of
from fusecache.source.protocol import Entry
from fusecache.source.rooted import RootedDirectory
from fusecache.source.write_protocol import Body, Metadata

_NEW_FILE = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW_AGAIN = os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC
_OLD_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_USER = b"user."
_NO_XATTRS = (errno.EOPNOTSUPP, errno.EPERM, errno.EACCES)
_NO_COPY = (errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS, errno.EPERM)
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK)
_COPY_BYTES = 64 << 20
_DEFAULT_FILE_MODE = 0o644
_FOR_ALL, _DIRECTORY_FOR_ALL = 0o666, 0o777  # what is squashed


class LocalTree:
    keeps_xattrs = True
    copies_by_itself = True
    mtime_step_ns = 1

    def __init__(self, root: RootedDirectory, stat_path: Callable[[bytes], Entry], *, squashes: bool = False) -> None:
        """`squashes`: as FileSource."""
        self._squashes = squashes
        self._root = root
        self.url = root.url
        self.place = root.place
        self.stat = stat_path

    def check_writable(self) -> None:
        if not os.access(b".", os.W_OK | os.X_OK, dir_fd=self._root.fd, effective_ids=True):
            raise CacheError(
                ErrorKind.DENIED, f"{self.url} may not be written; let the user of the cache write it, or mount read-only"
            )

    def lstat(self, path: bytes) -> Attributes:
        with self._parent(path, "look up") as (parent, name):
            return stat_attributes(os.stat(name, dir_fd=parent, follow_symlinks=False))

    def version_of(self, attributes: Attributes) -> bytes:
        return version_of(attributes)

    def create(self, path: bytes) -> Attributes:
        with self._parent(path, "make") as (parent, name), _opened(name, _NEW_FILE, parent, 0o600) as fd:
            return stat_attributes(os.fstat(fd))

    def write(self, path: bytes, offset: int, body: Body) -> None:
        with self._parent(path, "write") as (parent, name), _opened(name, _NEW_AGAIN, parent) as fd:
            for piece in body.pieces():
                view = memoryview(piece).cast("B")
                while view:
                    count = os.pwrite(fd, view, offset)
                    offset, view = offset + count, view[count:]

    def copy_range(self, path: bytes, version: bytes, start: int, size: int, target: bytes, offset: int) -> None:
        with self._version(path, version) as fd, self._parent(target, "write") as (parent, name):
            with _opened(name, _NEW_AGAIN, parent) as written:
                _copy(fd, written, start, offset, size)
            self._require(fd, path, version)

    def finish(self, path: bytes, size: int, metadata: Metadata, like: Attributes | None) -> None:
        with self._parent(path, "write") as (parent, name), _opened(name, _NEW_AGAIN, parent) as fd:
            os.ftruncate(fd, size)
            uid = metadata.uid if metadata.uid is not None or like is None else like.uid
            gid = metadata.gid if metadata.gid is not None or like is None else like.gid
            mode = metadata.mode
            if mode is None:
                mode = stat.S_IMODE(like.mode) if like is not None else _DEFAULT_FILE_MODE
            _set(fd, self._kept(Metadata(mode, uid, gid, metadata.mtime_ns, metadata.xattrs), _FOR_ALL))
            os.fsync(fd)

    def read_metadata(self, path: bytes, version: bytes) -> Metadata:
        with self._version(path, version) as fd:
            found = os.fstat(fd)
            return Metadata(stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns, _xattrs(fd))

    def change_metadata(self, path: bytes, metadata: Metadata) -> None:
        with self._parent(path, "change") as (parent, name), _opened(name, _OLD_FILE, parent) as fd:
            for_all = _DIRECTORY_FOR_ALL if stat.S_ISDIR(os.fstat(fd).st_mode) else _FOR_ALL
            _set(fd, self._kept(metadata, for_all))
            os.fsync(fd)

    def _kept(self, metadata: Metadata, for_all: int) -> Metadata:
        if not self._squashes:
            return metadata
        mode = None if metadata.mode is None else for_all | metadata.mode & 0o111
        return dataclasses.replace(metadata, mode=mode, uid=None, gid=None)

    def link(self, path: bytes, target: bytes) -> None:
        with self._parent(path, "link") as (parent, name), self._parent(target, "make") as (target_parent, target_name):
            try:
                os.link(name, target_name, src_dir_fd=parent, dst_dir_fd=target_parent, follow_symlinks=False)
            except OSError as error:
                if error.errno in _NO_LINKS:
                    raise CacheError(ErrorKind.UNSUPPORTED, f"{self.url}: the file system has no hard links") from error
                raise
            os.fsync(target_parent)

    def rename(self, path: bytes, target: bytes) -> None:
        with self._parent(path, "rename") as (parent, name), self._parent(target, "replace") as (target_parent, target_name):
            os.rename(name, target_name, src_dir_fd=parent, dst_dir_fd=target_parent)
            os.fsync(target_parent)
            os.fsync(parent)

    def unlink(self, path: bytes) -> None:
        with self._parent(path, "delete") as (parent, name):
            os.unlink(name, dir_fd=parent)
            os.fsync(parent)

    def make_directory(self, path: bytes, mode: int) -> None:
        with self._parent(path, "make") as (parent, name):
            os.mkdir(name, mode, dir_fd=parent)
            if self._squashes:
                os.chmod(name, _DIRECTORY_FOR_ALL, dir_fd=parent)
            os.fsync(parent)

    def remove_directory(self, path: bytes) -> None:
        with self._parent(path, "remove") as (parent, name):
            os.rmdir(name, dir_fd=parent)
            os.fsync(parent)

    def make_symlink(self, path: bytes, target: bytes) -> None:
        with self._parent(path, "make") as (parent, name):
            os.symlink(target, name, dir_fd=parent)
            os.fsync(parent)

    @contextlib.contextmanager
    def _parent(self, path: bytes, verb: str) -> Iterator[tuple[int, bytes]]:
        """Open the directory a path lies in; errors of the system become ours."""
        components = split_path(path) or [b"."]
        try:
            parent = self._root.open_directory(components[:-1])
            try:
                yield parent, components[-1]
            finally:
                os.close(parent)
        except OSError as error:
            raise self._root.error(error, verb, path) from error

    @contextlib.contextmanager
    def _version(self, path: bytes, version: bytes) -> Iterator[int]:
        """Open a file that has this version."""
        with self._parent(path, "read") as (parent, name):
            try:
                fd = os.open(name, _OLD_FILE, dir_fd=parent)
            except OSError as error:
                if error.errno in (errno.ENOENT, errno.ELOOP):
                    raise self._stale(path) from error
                raise
            try:
                self._require(fd, path, version)
                yield fd
            finally:
                os.close(fd)

    def _require(self, fd: int, path: bytes, version: bytes) -> None:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode) or version_of(stat_attributes(found)) != version:
            raise self._stale(path)

    def _stale(self, path: bytes) -> CacheError:
        return CacheError(ErrorKind.STALE, f"{self.place(path)} was replaced, changed or deleted meanwhile")


@contextlib.contextmanager
def _opened(name: bytes, flags: int, parent: int, mode: int = 0) -> Iterator[int]:
    fd = os.open(name, flags, mode, dir_fd=parent)
    try:
        yield fd
    finally:
        os.close(fd)


def _copy(source: int, target: int, start: int, offset: int, size: int) -> None:
    """Copy within the kernel, sharing blocks where the file system can. Raises: UNAVAILABLE if the source ends before."""
    done = 0
    while done < size:
        try:
            count = os.copy_file_range(source, target, min(_COPY_BYTES, size - done), start + done, offset + done)
        except OSError as error:
            if error.errno not in _NO_COPY:
                raise
            count = os.pwrite(target, os.pread(source, min(1 << 20, size - done), start + done), offset + done)
        if count == 0:
            raise CacheError(ErrorKind.UNAVAILABLE, f"a file gave {done} of {size} bytes to copy")
        done += count


def _set(fd: int, metadata: Metadata) -> None:
    """Set what is given. The mode comes after the owner, whose change clears set-id bits."""
    now = os.fstat(fd)
    uid = -1 if metadata.uid in (None, now.st_uid) else metadata.uid
    gid = -1 if metadata.gid in (None, now.st_gid) else metadata.gid
    if (uid, gid) != (-1, -1):
        os.fchown(fd, uid, gid)
    if metadata.mode is not None:
        os.fchmod(fd, metadata.mode)
    if metadata.xattrs is not None:
        given = {_USER + name: value for name, value in metadata.xattrs.items()}
        for name in _listxattr(fd):
            if name not in given:
                os.removexattr(fd, name)
        for name, value in given.items():
            os.setxattr(fd, name, value)
    if metadata.mtime_ns is not None:
        os.utime(fd, ns=(metadata.mtime_ns, metadata.mtime_ns))


def _listxattr(fd: int) -> list[bytes]:
    try:
        names = [os.fsencode(name) for name in os.listxattr(fd)]
    except OSError as error:
        if error.errno in _NO_XATTRS:
            return []
        raise
    return [name for name in names if name.startswith(_USER)]


def _xattrs(fd: int) -> dict[bytes, bytes]:
    return {name[len(_USER) :]: os.getxattr(fd, name) for name in _listxattr(fd)}
