"""The operations of `posix_tree.PosixTree` on an NFS export, each a call of libnfs. Holds no state; any thread.

Extended attributes and copies within the server need version 4.2, which libnfs does not speak.
"""

from __future__ import annotations

import stat
from collections.abc import Callable
from typing import Protocol, TypeVar

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.libnfs import NfsContext
from fusecache.source.posix_entry import Attributes
from fusecache.source.protocol import Buffer, Entry
from fusecache.source.write_protocol import Body, Metadata

_T = TypeVar("_T")
_COPY_BYTES = 4 << 20
_DEFAULT_FILE_MODE = 0o644


class NfsExport(Protocol):
    """What the tree needs of `nfs.NfsSource`."""

    url: str

    def stat(self, path: bytes) -> Entry: ...

    def read(self, path: bytes, version: bytes, offset: int, length: int) -> Buffer: ...

    def run(self, verb: str, path: bytes, call: Callable[[NfsContext], _T]) -> _T: ...

    def version_of(self, attributes: Attributes) -> bytes: ...

    def place(self, path: bytes) -> str: ...


class NfsTree:
    keeps_xattrs = False
    copies_by_itself = False
    mtime_step_ns = 1000

    def __init__(self, export: NfsExport) -> None:
        self._export = export
        self._run = export.run
        self.url = export.url
        self.stat = export.stat
        self.version_of = export.version_of
        self.place = export.place

    def check_writable(self) -> None:
        """Only trying tells: the server decides, by more than the mode."""
        path = b".fusecache-upload-check"
        self._run("write", path, lambda context: context.create(path, 0o600))
        self._run("delete", path, lambda context: context.change("nfs_unlink", b"/" + path))

    def lstat(self, path: bytes) -> Attributes:
        return self._run("look up", path, lambda context: context.lstat(path))

    def create(self, path: bytes) -> Attributes:
        self._run("make", path, lambda context: context.create(path, 0o600))
        return self.lstat(path)

    def write(self, path: bytes, offset: int, body: Body) -> None:
        self._run("write", path, lambda context: context.write(path, offset, body.pieces()))

    def copy_range(self, path: bytes, version: bytes, start: int, size: int, target: bytes, offset: int) -> None:
        for at in range(0, size, _COPY_BYTES):
            piece = self._export.read(path, version, start + at, min(_COPY_BYTES, size - at))
            self._write_piece(target, offset + at, piece)

    def finish(self, path: bytes, size: int, metadata: Metadata, like: Attributes | None) -> None:
        def change(context: NfsContext) -> None:
            name = b"/" + path
            context.change("nfs_truncate", name, size)
            uid = metadata.uid if metadata.uid is not None or like is None else like.uid
            gid = metadata.gid if metadata.gid is not None or like is None else like.gid
            mode = metadata.mode
            if mode is None:
                mode = stat.S_IMODE(like.mode) if like is not None else _DEFAULT_FILE_MODE
            _set(context, path, Metadata(mode, uid, gid, metadata.mtime_ns))

        self._run("write", path, change)

    def read_metadata(self, path: bytes, version: bytes) -> Metadata:
        found = self.lstat(path)
        if self.version_of(found) != version:
            raise CacheError(ErrorKind.STALE, f"{self.place(path)} was replaced, changed or deleted meanwhile")
        return Metadata(stat.S_IMODE(found.mode), found.uid, found.gid, found.mtime_ns, {})

    def change_metadata(self, path: bytes, metadata: Metadata) -> None:
        """Of a directory nothing is changed: over version 4, libnfs can only of files."""
        if not stat.S_ISDIR(self.lstat(path).mode):
            self._run("change", path, lambda context: _set(context, path, metadata))

    def link(self, path: bytes, target: bytes) -> None:
        self._change("link", target, "nfs_link", b"/" + path, b"/" + target)

    def rename(self, path: bytes, target: bytes) -> None:
        self._change("rename", path, "nfs_rename", b"/" + path, b"/" + target)

    def unlink(self, path: bytes) -> None:
        self._change("delete", path, "nfs_unlink", b"/" + path)

    def make_directory(self, path: bytes, mode: int) -> None:
        self._change("make", path, "nfs_mkdir2", b"/" + path, mode)

    def remove_directory(self, path: bytes) -> None:
        self._change("remove", path, "nfs_rmdir", b"/" + path)

    def make_symlink(self, path: bytes, target: bytes) -> None:
        self._change("make", path, "nfs_symlink", target, b"/" + path)

    def _change(self, verb: str, path: bytes, function: str, *arguments: bytes | int) -> None:
        self._run(verb, path, lambda context: context.change(function, *arguments))

    def _write_piece(self, path: bytes, offset: int, piece: Buffer) -> None:
        self._run("write", path, lambda context: context.write(path, offset, [piece]))


def _set(context: NfsContext, path: bytes, metadata: Metadata) -> None:
    """Set what is given. The mode comes after the owner, whose change clears set-id bits."""
    if metadata.xattrs:
        raise CacheError(ErrorKind.UNSUPPORTED, "NFS below version 4.2 keeps no extended attributes")
    now = context.lstat(path)
    uid = now.uid if metadata.uid is None else metadata.uid
    gid = now.gid if metadata.gid is None else metadata.gid
    if (uid, gid) != (now.uid, now.gid):
        context.change("nfs_lchown", b"/" + path, uid, gid)
    if metadata.mode is not None:
        context.change("nfs_chmod", b"/" + path, metadata.mode)
    if metadata.mtime_ns is not None:
        context.set_mtime(path, metadata.mtime_ns)
