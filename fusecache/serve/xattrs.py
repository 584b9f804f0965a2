"""Extended attributes: what the cache knows of a file. No state; any thread.

| name | on | value |
|---|---|---|
| user.fusecache.version | files | the version as the source says it (an ETag, or inode, size and times) |
| user.fusecache.source | everything that comes from a source | URL of the object, without credentials |
| user.fusecache.cached_bytes | files | how many bytes of it lie in the tiers, in decimal |

On a mount that may be written, the other names of user.* are what is kept with the object. All others (security.*,
system.posix_acl_*) do not exist.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from fusecache.contract.changes import Change, ChangeKind
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import Op
from fusecache.fuse.filesystem_protocol import Miss
from fusecache.index.index import Index
from fusecache.index.inodes import Inode, InodeNo
from fusecache.serve.attributes import FILE

VERSION = b"user.fusecache.version"
SOURCE = b"user.fusecache.source"
CACHED_BYTES = b"user.fusecache.cached_bytes"
_USER = b"user."
_KNOWN = frozenset({VERSION, SOURCE, CACHED_BYTES})


class Xattrs:
    def __init__(self, index: Index, source_urls: Mapping[int, str], *, read_write: bool = False) -> None:
        self._index = index
        self._read_write = read_write
        self._source_urls = source_urls

    def get(self, inode: InodeNo, name: bytes) -> bytes:
        """Raises NO_ATTRIBUTE; STALE."""
        if self._read_write:
            inode = self._resolve(inode)
            if name not in _KNOWN and name.startswith(_USER):
                return self._kept(inode, name)
        if name not in _KNOWN:  # the kernel asks for security.capability with every exec and write: no transaction for that
            raise _no_attribute(name)
        with self._index.begin_read() as txn:
            row = self._index.inodes.get(txn, inode)
            if row is None:
                raise _stale(inode)
            if name not in self._names(row):
                raise _no_attribute(name)
            if name == CACHED_BYTES:
                return b"%d" % sum(extent.length for _, extent in self._index.extents.of_inode(txn, inode))
        if name == VERSION:
            return row.version
        return self._source_url(row)

    def _resolve(self, inode: InodeNo) -> InodeNo:
        with self._index.begin_read() as txn:
            return self._index.writes.resolve(txn, inode)

    def _all_kept(self, inode: InodeNo) -> dict[str, str]:
        """Raises: Miss(CHANGE) if nobody has asked the store yet."""
        with self._index.begin_read() as txn:
            kept = self._index.writes.xattrs(txn, inode)
        if kept is None:
            raise Miss(Op.CHANGE, inode, name=Change(ChangeKind.READ_XATTRS, inode, 0).pack())
        return kept

    def _kept(self, inode: InodeNo, name: bytes) -> bytes:
        value = self._all_kept(inode).get(name.removeprefix(_USER).hex())
        if value is None:
            raise _no_attribute(name)
        return bytes.fromhex(value)

    def list(self, inode: InodeNo) -> Sequence[bytes]:
        kept: list[bytes] = []
        if self._read_write:
            inode = self._resolve(inode)
            kept = [_USER + bytes.fromhex(name) for name in self._all_kept(inode)]
        with self._index.begin_read() as txn:
            row = self._index.inodes.get(txn, inode)
        if row is None:
            raise _stale(inode)
        return [*self._names(row), *kept]

    def _names(self, row: Inode) -> Sequence[bytes]:
        source = (SOURCE,) if row.source in self._source_urls else ()
        return (VERSION, *source, CACHED_BYTES) if row.kind == FILE else source

    def _source_url(self, row: Inode) -> bytes:
        url = self._source_urls[row.source].encode(errors="surrogateescape")
        return url.rstrip(b"/") + b"/" + row.path if row.path else url


def _no_attribute(name: bytes) -> CacheError:
    return CacheError(ErrorKind.NO_ATTRIBUTE, f"there is no attribute {name!r}")


def _stale(inode: InodeNo) -> CacheError:
    return CacheError(ErrorKind.STALE, f"inode {inode} is not in the index; look its name up again")
