"""Writes into a directory tree so that every file appears as a whole: it is made under another name beside its target, written
to the disk, and linked or renamed into place.

Holds no state; any thread. A step that is asked for again knows its own work by the inode of the file it was making.
"""

from __future__ import annotations

import contextlib
import stat
from collections.abc import Sequence

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.posix_entry import Attributes, mtime_of, without_times
from fusecache.source.posix_tree import UPLOAD_PREFIX, PosixTree
from fusecache.source.protocol import Entry
from fusecache.source.write_protocol import Body, Guard, Kept, Metadata, Part, Upload, WriteCapabilities

_DEFAULT_DIRECTORY_MODE = 0o755


class PosixWriter:
    def __init__(self, tree: PosixTree) -> None:
        self._tree = tree
        xattrs = Kept.XATTRS if tree.keeps_xattrs else Kept.NOTHING
        self._capabilities = WriteCapabilities(
            create=Guard.STORE,
            replace=Guard.LATE_CHECK,
            kept=Kept.MODE | Kept.OWNER | Kept.MTIME | xattrs,
            mtime_step_ns=tree.mtime_step_ns,
            recognizes_repeats=False,
            keeps_the_rest=True,
            copies_parts=tree.copies_by_itself,
            renames=True,
            has_symlinks=True,
            has_directories=True,
        )

    @property
    def capabilities(self) -> WriteCapabilities:
        return self._capabilities

    def check(self) -> int:
        self._tree.check_writable()
        return 0

    def restore(self, found: int) -> None:
        """There is nothing to know."""

    def read_metadata(self, path: bytes, version: bytes) -> Metadata:
        return self._tree.read_metadata(path, version)

    def own_version(self, path: bytes, operations: Sequence[str], upload_id: str) -> Entry | None:
        if not upload_id or not self._is_in_place(Upload(path, upload_id, "", Metadata())):
            return None
        return self._tree.stat(path)

    def put(self, path: bytes, body: Body, metadata: Metadata, expected: bytes | None, operation: str) -> Entry:
        upload = self.begin_upload(path, metadata, expected, operation)
        return self._complete(upload, [self.put_part(upload, 1, 0, body)], expected)

    def begin_upload(self, path: bytes, metadata: Metadata, expected: bytes | None, operation: str) -> Upload:
        self._refuse_reserved(path)
        self._require(path, expected)
        made = self._tree.create(_scratch(path, operation))
        return Upload(path, f"{made.inode:x}", operation, metadata)

    def put_part(self, upload: Upload, number: int, offset: int, body: Body) -> Part:
        self._tree.write(_scratch(upload.path, upload.operation), offset, body)
        return Part(number, str(offset), body.size)

    def copy_part(self, upload: Upload, number: int, offset: int, size: int, path: bytes, version: bytes, start: int) -> Part:
        self._tree.copy_range(path, version, start, size, _scratch(upload.path, upload.operation), offset)
        return Part(number, str(offset), size)

    def complete(self, upload: Upload, parts: Sequence[Part], expected: bytes | None) -> Entry:
        if self._is_in_place(upload):
            self.abort(upload)
            return self._tree.stat(upload.path)
        return self._complete(upload, parts, expected)

    def _complete(self, upload: Upload, parts: Sequence[Part], expected: bytes | None) -> Entry:
        path, scratch = upload.path, _scratch(upload.path, upload.operation)
        old = self._require(path, expected)
        size = max((int(part.tag) + part.size for part in parts), default=0)
        self._tree.finish(scratch, size, upload.metadata, old)
        self._require(path, expected)
        self._put_in_place(scratch, path, expected)
        return self._tree.stat(path)

    def abort(self, upload: Upload) -> None:
        with contextlib.suppress(_Missing):
            self._unlink(_scratch(upload.path, upload.operation))

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
        if path == target:
            changed = metadata or Metadata()
            if not (is_repeat and self._has_same_bytes(path, version, changed.mtime_ns)):
                self._require(path, version)
            self._tree.change_metadata(path, changed)
            return self._tree.stat(path)
        kept = metadata or self.read_metadata(path, version)
        upload = self.begin_upload(target, kept, expected, operation)
        try:
            part = self.copy_part(upload, 1, 0, self._tree.lstat(path).size, path, version, 0)
            return self._complete(upload, [part], expected)
        except CacheError:
            self.abort(upload)
            raise

    def delete(self, path: bytes, expected: bytes | None) -> None:
        self._refuse_reserved(path)
        with contextlib.suppress(_Missing):
            if expected is not None:
                self._require(path, expected)
            self._unlink(path)

    def rename(self, path: bytes, target: bytes, expected: bytes | None) -> Entry:
        self._refuse_reserved(path)
        self._refuse_reserved(target)
        try:
            moved = self._lstat(path)
        except _Missing:
            return self._tree.stat(target)  # an earlier try of this step
        if not stat.S_ISDIR(moved.mode):
            self._require(target, expected)
        self._tree.rename(path, target)
        return self._tree.stat(target)

    def make_directory(self, path: bytes, metadata: Metadata) -> Entry:
        self._refuse_reserved(path)
        self._tree.make_directory(path, _DEFAULT_DIRECTORY_MODE if metadata.mode is None else metadata.mode)
        return self.set_directory_metadata(path, metadata)

    def remove_directory(self, path: bytes) -> None:
        try:
            self._tree.remove_directory(path)
        except CacheError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise

    def make_symlink(self, path: bytes, target: bytes) -> Entry:
        self._refuse_reserved(path)
        self._tree.make_symlink(path, target)
        return self._tree.stat(path)

    def set_directory_metadata(self, path: bytes, metadata: Metadata) -> Entry:
        self._tree.change_metadata(path, metadata)
        return self._tree.stat(path)

    # -- what is there

    def _lstat(self, path: bytes) -> Attributes:
        try:
            return self._tree.lstat(path)
        except CacheError as error:
            if error.kind is ErrorKind.NOT_FOUND:
                raise _Missing(error) from error
            raise

    def _unlink(self, path: bytes) -> None:
        try:
            self._tree.unlink(path)
        except CacheError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise

    def _has_same_bytes(self, path: bytes, version: bytes, set_mtime_ns: int | None) -> bool:
        """Whether what is there differs from a version in its attributes only."""
        found = self._lstat(path)
        step = max(1, self._tree.mtime_step_ns)
        mtimes = [mtime_of(version), *([] if set_mtime_ns is None else [set_mtime_ns])]
        is_same_file = without_times(version) == without_times(self._tree.version_of(found))
        return is_same_file and any(abs(found.mtime_ns - mtime) < step for mtime in mtimes)

    def _require(self, path: bytes, expected: bytes | None) -> Attributes | None:
        """Return what is there now, which is what was expected."""
        try:
            found = self._lstat(path)
        except _Missing:
            if expected is None:
                return None
            raise _Missing(self._stale(path)) from None
        if expected is None:
            raise self._exists(path)
        if stat.S_ISDIR(found.mode):
            raise CacheError(ErrorKind.IS_A_DIRECTORY, f"{self._tree.place(path)} is a directory")
        if self._tree.version_of(found) != expected:
            raise self._stale(path)
        return found

    def _is_in_place(self, upload: Upload) -> bool:
        try:
            return f"{self._lstat(upload.path).inode:x}" == upload.id
        except _Missing:
            return False

    def _put_in_place(self, scratch: bytes, path: bytes, expected: bytes | None) -> None:
        if expected is None:
            try:
                self._tree.link(scratch, path)
            except CacheError as error:
                if error.kind is ErrorKind.EXISTS:
                    raise self._exists(path) from error
                if error.kind is not ErrorKind.UNSUPPORTED:
                    raise
            else:
                self._unlink(scratch)
                return
        self._tree.rename(scratch, path)

    def _refuse_reserved(self, path: bytes) -> None:
        if not path or path.rpartition(b"/")[2].startswith(UPLOAD_PREFIX):
            raise CacheError(
                ErrorKind.NOT_PERMITTED, f"{self._tree.place(path)} cannot be written: the cache needs the name itself"
            )

    def _exists(self, path: bytes) -> CacheError:
        return CacheError(ErrorKind.EXISTS, f"{self._tree.place(path)} is there already")

    def _stale(self, path: bytes) -> CacheError:
        return CacheError(ErrorKind.STALE, f"{self._tree.place(path)} was replaced, changed or deleted meanwhile")


class _Missing(CacheError):
    """There is nothing: for those to whom this is no error."""

    def __init__(self, error: CacheError) -> None:
        super().__init__(error.kind, str(error))


def _scratch(path: bytes, operation: str) -> bytes:
    parent, slash, _ = path.rpartition(b"/")
    return parent + slash + UPLOAD_PREFIX + operation.encode()
