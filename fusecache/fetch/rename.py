"""Moves files and directories: by the source's own rename, or object by object where it has none (a copy, then a deletion).

Holds no state. A move that is interrupted is asked for again and goes on: what has left its old place is looked for at the new
one.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import Any

import trio

from fusecache.contract.changes import Change
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.listing import Listing
from fusecache.fetch.sources import OpenSource
from fusecache.fetch.tree import Tree
from fusecache.fetch.tree_rows import Changes
from fusecache.fetch.write_tree import Place, WriteTree
from fusecache.fetch.written import Note
from fusecache.index.inodes import Inode, InodeNo
from fusecache.source.protocol import Entry, EntryKind
from fusecache.source.write_protocol import Metadata

PARALLEL = 16
_MOVING: dict[str, object] = {"step": "moving"}  # remembered of a change: objects of a directory may be at the target already

AtSource = Callable[[OpenSource, Callable[[], Any]], Awaitable[Any]]


class Renames:
    def __init__(
        self,
        writes: WriteTree,
        tree: Tree,
        listing: Listing,
        pass_on: Callable[[Changes], None],
        sync: Callable[[InodeNo], Awaitable[None]],
        is_begun: Callable[[InodeNo], bool],
    ) -> None:
        """`sync` brings a file up to the store; for files below a directory that is moved, whose locks nobody holds. `is_begun`:
        the store may have something of a file that was never uploaded as a whole."""
        self._writes = writes
        self._tree = tree
        self._listing = listing
        self._pass_on = pass_on
        self._sync = sync
        self._is_begun = is_begun

    async def rename(
        self,
        change: Change,
        place: Place,
        target: Place,
        opened: OpenSource,
        at_source: AtSource,
        bring_up: Callable[[], Awaitable[None]],
    ) -> None:
        """`bring_up`: the same for the file itself, whose lock is held."""
        assert place.row is not None
        self._check_kinds(place, target)
        if place.row.kind == EntryKind.DIRECTORY:
            await self._move_directory(change, place, target, opened, at_source)
            return
        written = self._writes.written(place.inode)
        expected = self._version_in_store(target)
        note = None if written is None else Note.of(written)
        if note is not None and note.expected is None and not self._is_begun(place.inode):  # the rename comes before the upload
            self._pass_on(self._writes.move(change, place, target, None, expected))
            return
        if written is not None:
            await bring_up()
        self._tree.own_changes.note(place.parent, place.name)
        self._tree.own_changes.note(target.parent, target.name)
        version = self._version_in_store(place)
        entry = await self._move_object(place.path, place.row, version, target.path, expected, change, opened, at_source)
        self._pass_on(self._writes.move(change, place, target, entry))

    def _check_kinds(self, place: Place, target: Place) -> None:
        assert place.row is not None
        if target.row is None:
            return
        is_directory = place.row.kind == EntryKind.DIRECTORY
        if target.row.kind == EntryKind.DIRECTORY and not is_directory:
            raise CacheError(ErrorKind.IS_A_DIRECTORY, "the target is a directory")
        if target.row.kind != EntryKind.DIRECTORY and is_directory:
            raise CacheError(ErrorKind.NOT_A_DIRECTORY, "the target is no directory")

    def _version_in_store(self, place: Place) -> bytes | None:
        if place.row is None:
            return None
        written = self._writes.written(place.inode)
        return place.row.version if written is None else Note.of(written).expected

    async def _move_object(
        self,
        path: bytes,
        row: Inode,
        version: bytes | None,
        target: bytes,
        expected: bytes | None,
        change: Change,
        opened: OpenSource,
        at_source: AtSource,
    ) -> Entry:
        writer = opened.require_writer()
        if writer.capabilities.renames:
            entry: Entry = await at_source(opened, lambda: writer.rename(path, target, expected))
            return entry
        if version is None or row.kind != EntryKind.FILE:
            raise CacheError(ErrorKind.BUG, "what is moved is not in the store; please report this")
        operation = f"mv-{self._writes.connection:x}-{change.unique:x}"
        try:
            entry = await at_source(opened, lambda: writer.copy(path, version, target, None, expected, operation))
        except CacheError as error:
            if error.kind not in (ErrorKind.STALE, ErrorKind.NOT_FOUND):
                raise
            moved = await at_source(opened, lambda: writer.own_version(target, [operation], ""))
            if moved is None:
                raise
            entry = moved  # the original is gone by this very move, before it was asked for again
        await at_source(opened, lambda: writer.delete(path, None))
        return entry

    # -- directories

    async def _move_directory(self, change: Change, place: Place, target: Place, opened: OpenSource, at_source: AtSource) -> None:
        if self._tree.is_from_spec_inode(place.inode):
            raise CacheError(ErrorKind.BUSY, "a source is mounted there")
        is_again = self._writes.outcome(change.unique) == _MOVING
        if target.inode and not is_again:
            await self._listing.complete(target.inode)
            if self._tree.has_names(target.inode):
                raise CacheError(ErrorKind.NOT_EMPTY, "the target is not empty")
        self._writes.remember(change.unique, _MOVING)
        writer = opened.require_writer()
        versions: dict[bytes, bytes] = {}
        if writer.capabilities.renames:
            await self._sync_below(place.inode)
            await at_source(opened, lambda: writer.rename(place.path, target.path, None))
        else:
            await self._move_objects(change, place, target, opened, at_source, versions)
        self._pass_on(self._writes.move_directory(change, place, target, versions))

    async def _sync_below(self, inode: InodeNo) -> None:
        for written, _ in self._writes.all_written():
            if self._tree.is_below(written, inode):
                await self._sync(written)

    async def _move_objects(
        self, change: Change, place: Place, target: Place, opened: OpenSource, at_source: AtSource, versions: dict[bytes, bytes]
    ) -> None:
        """Directories first, from the top; then the files; then the old directories, from the bottom."""
        writer = opened.require_writer()
        directories: list[bytes] = []
        files: list[InodeNo] = []
        line = [place.inode]
        while line:
            inode = line.pop()
            row = self._tree.inode(inode)
            if row is None:
                continue
            await self._listing.complete(inode)
            directories.append(row.path)
            for child in self._tree.children(inode):
                (line if child.kind == EntryKind.DIRECTORY else files).append(child.inode)
        await self._sync_below(place.inode)
        old, new = place.path, target.path
        for path in directories:
            moved = new + path[len(old) :]
            await at_source(opened, functools.partial(writer.make_directory, moved, Metadata()))
        limiter = trio.CapacityLimiter(PARALLEL)
        failures: list[CacheError] = []

        async def move(inode: InodeNo) -> None:
            async with limiter:
                if failures:
                    return
                row = self._tree.inode(inode)
                if row is None:
                    return
                written = self._writes.written(inode)
                version = row.version if written is None else Note.of(written).expected
                moved = new + row.path[len(old) :]
                try:
                    entry = await self._move_object(row.path, row, version, moved, None, change, opened, at_source)
                except CacheError as error:
                    failures.append(error)
                else:
                    versions[moved] = entry.version

        async with trio.open_nursery() as nursery:
            for inode in files:
                nursery.start_soon(move, inode)
        if failures:
            raise failures[0]
        for path in reversed(directories):
            await at_source(opened, functools.partial(writer.remove_directory, path))
