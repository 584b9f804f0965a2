"""Modes, owners, times and extended attributes: kept with the object where the source keeps them. Holds no state."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import stat
from collections.abc import Mapping
from typing import Any

from fusecache.contract.changes import NOT_SET, TIME_NOT_SET, Change, ChangeKind
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.sources import OpenSource
from fusecache.fetch.tree_rows import Changes
from fusecache.fetch.uploads import Uploads
from fusecache.fetch.write_context import WriteContext
from fusecache.fetch.written import Note, metadata_of
from fusecache.index.inodes import NO_MODE, Inode, InodeFlag, InodeNo
from fusecache.source.protocol import Entry, EntryKind
from fusecache.source.write_protocol import Kept, Metadata


class KeptXattrs:
    """The extended attributes of files, as the store keeps them; read once."""

    def __init__(self, context: WriteContext) -> None:
        self._context = context

    async def of(self, inode: InodeNo, row: Inode) -> dict[str, str]:
        """With the lock held."""
        written = self._context.writes.written(inode)
        if written is not None:
            values = dict(Note.of(written).xattrs or {})
        else:
            known = self._context.writes.xattrs(inode)
            if known is not None:
                return known
            values = await self.read(row) or {}
        self._context.writes.put_xattrs(inode, values)
        return values

    async def read(self, row: Inode) -> dict[str, str] | None:
        """An upload replaces all metadata of an object: what is kept with it and not in the index has to be read before."""
        opened = self._context.sources.of(row.source)
        writer = opened.require_writer()
        if Kept.XATTRS not in writer.capabilities.kept:
            return None
        try:
            kept = await opened.gate.call(lambda: writer.read_metadata(row.path, row.version))
        except CacheError as error:
            if error.kind is ErrorKind.STALE:
                self._listing_is_old(row)
            raise
        return {name.hex(): value.hex() for name, value in (kept.xattrs or {}).items()}

    def _listing_is_old(self, row: Inode) -> None:
        with contextlib.suppress(CacheError):
            self._context.tree.touch_name(row.parent, row.path.rpartition(b"/")[2], 0)
            self._context.tree.postpone(row.parent, 0.0)
        self._context.pass_on(Changes(directories={row.parent}, entries=[(row.parent, row.path.rpartition(b"/")[2])]))


class AttributeChanges:
    def __init__(self, context: WriteContext, uploads: Uploads, xattrs: KeptXattrs) -> None:
        self._context = context
        self._uploads = uploads
        self._xattrs = xattrs

    async def set(self, change: Change) -> InodeNo:
        async with self._context.file(change.inode) as inode:
            row = self._context.tree.inode(inode)
            if row is None:
                raise CacheError(ErrorKind.STALE, "the file is gone")
            change = _without_set_ids(change, row)
            opened = self._context.writer_of(row)
            writer = opened.require_writer()
            kept = writer.capabilities.kept
            metadata = Metadata(
                mode=None if change.mode == NOT_SET else change.mode,
                uid=None if change.uid == NOT_SET else change.uid,
                gid=None if change.gid == NOT_SET else change.gid,
                mtime_ns=None if change.mtime_ns == TIME_NOT_SET else change.mtime_ns,
            )
            if metadata.mode is not None and Kept.MODE not in kept:
                raise CacheError(ErrorKind.NOT_PERMITTED, f"{opened.source.url} keeps no modes")
            if (metadata.uid is not None or metadata.gid is not None) and Kept.OWNER not in kept:
                raise CacheError(ErrorKind.NOT_PERMITTED, f"{opened.source.url} keeps no owners")
            written = self._context.writes.written(inode)
            entry, is_uploaded = None, False
            if written is not None:
                self._touch_stage(written.stage, metadata.mtime_ns)
                is_uploaded = self._uploads.is_clean(inode) and Note.of(written).expected is not None
            has_name = not row.flags & InodeFlag.ORPHAN  # else it is open, and nothing of it is in the store any more
            if row.kind == EntryKind.DIRECTORY:
                if row.path:
                    await self._context.at_source(opened, lambda: writer.set_directory_metadata(row.path, metadata))
            elif row.kind == EntryKind.FILE and has_name and (written is None or is_uploaded):
                entry = await self._change_object(opened, inode, row, metadata, change.unique)
            self._context.writes.set_attributes(change, inode, entry)
            if written is not None and entry is not None:
                self._context.writes.set_version(inode, entry.version)
        return change.inode

    async def _change_object(self, opened: OpenSource, inode: InodeNo, row: Inode, metadata: Metadata, unique: int) -> Any:
        """Change the metadata of an object that is complete: where bytes and metadata are one, by a copy onto itself."""
        writer = opened.require_writer()
        written = self._context.writes.written(inode)
        version = row.version if written is None else Note.of(written).expected
        assert version is not None
        if writer.capabilities.keeps_the_rest:
            whole = metadata
        else:
            xattrs = await self._xattrs.read(row._replace(version=version))
            old = metadata_of(row, xattrs, mtime_ns=row.mtime_ns)
            whole = Metadata(
                old.mode if metadata.mode is None else metadata.mode,
                old.uid if metadata.uid is None else metadata.uid,
                old.gid if metadata.gid is None else metadata.gid,
                old.mtime_ns if metadata.mtime_ns is None else metadata.mtime_ns,
                old.xattrs if metadata.xattrs is None else metadata.xattrs,
            )
        operation = f"set-{self._context.writes.connection:x}-{unique:x}"
        tries = itertools.count(unique in self._context.again)

        def copy() -> Entry:
            return writer.copy(row.path, version, row.path, whole, version, operation, is_repeat=next(tries) > 0)

        self._context.begin(unique)
        return await self._context.at_source(opened, copy)

    def _touch_stage(self, number: int, mtime_ns: int | None) -> None:
        if mtime_ns is not None:
            with self._context.stages.use(number) as stage:
                os.utime(stage.fd, ns=(mtime_ns, mtime_ns))

    async def read_xattrs(self, number: InodeNo) -> None:
        async with self._context.file(number) as inode:
            row = self._context.tree.inode(inode)
            if row is not None and row.kind == EntryKind.FILE:
                await self._xattrs.of(inode, row)
            elif row is not None:
                self._context.writes.put_xattrs(inode, {})

    async def change_xattrs(self, change: Change) -> InodeNo:
        async with self._context.file(change.inode) as inode:
            row = self._context.tree.inode(inode)
            if row is None:
                raise CacheError(ErrorKind.STALE, "the file is gone")
            opened = self._context.writer_of(row)
            if Kept.XATTRS not in opened.require_writer().capabilities.kept or row.kind != EntryKind.FILE:
                raise CacheError(ErrorKind.UNSUPPORTED, f"{opened.source.url} keeps no extended attributes of this")
            values = await self._xattrs.of(inode, row)
            changed = _changed_xattrs(values, change)
            written = self._context.writes.written(inode)
            note = None if written is None else Note.of(written)
            entry = None
            has_name = not row.flags & InodeFlag.ORPHAN
            if has_name and (note is None or (note.expected is not None and self._uploads.is_clean(inode))):
                given = {bytes.fromhex(name): bytes.fromhex(value) for name, value in changed.items()}
                entry = await self._change_object(opened, inode, row, Metadata(xattrs=given), change.unique)
            self._context.writes.set_attributes(change, inode, entry)
            self._context.writes.put_xattrs(inode, changed)
            if note is not None:
                expected = note.expected if entry is None else entry.version
                self._context.writes.set_note(inode, dataclasses.replace(note, xattrs=changed, expected=expected))
                if entry is not None:
                    self._context.writes.set_version(inode, entry.version)
        return change.inode


def _without_set_ids(change: Change, row: Inode) -> Change:
    """A new owner takes the set-user-ID and set-group-ID bits from a program, as on other file systems: the kernel leaves that
    to us."""
    is_owned_anew = change.uid != NOT_SET or change.gid != NOT_SET
    if not is_owned_anew or change.mode != NOT_SET or row.kind != EntryKind.FILE or row.mode == NO_MODE:
        return change
    dropped = stat.S_ISUID | (stat.S_ISGID if row.mode & stat.S_IXGRP else 0)
    return dataclasses.replace(change, mode=row.mode & ~dropped) if row.mode & dropped else change


def _changed_xattrs(values: Mapping[str, str], change: Change) -> dict[str, str]:
    """Raises: EXISTS, NO_ATTRIBUTE."""
    name, changed = change.name.hex(), dict(values)
    if change.kind is ChangeKind.REMOVE_XATTR or change.flags & os.XATTR_REPLACE:
        if name not in changed:
            raise CacheError(ErrorKind.NO_ATTRIBUTE, f"there is no attribute {change.name!r}")
    elif change.flags & os.XATTR_CREATE and name in changed:
        raise CacheError(ErrorKind.EXISTS, f"there is an attribute {change.name!r}")
    if change.kind is ChangeKind.REMOVE_XATTR:
        del changed[name]
    else:
        changed[name] = change.value.hex()
    return changed
