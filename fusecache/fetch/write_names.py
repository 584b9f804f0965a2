"""Names: removing, making and moving them, at the source first and then in the index. Holds no state."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from fusecache.contract.changes import NOT_SET, Change
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.acknowledged import Acknowledged
from fusecache.fetch.open_files import OpenFiles
from fusecache.fetch.rename import Renames
from fusecache.fetch.sources import OpenSource
from fusecache.fetch.write_context import WriteContext
from fusecache.fetch.write_tree import Place
from fusecache.fetch.written import Note
from fusecache.index.inodes import InodeNo
from fusecache.source.protocol import EntryKind
from fusecache.source.write_protocol import Metadata

_RENAME_NOREPLACE = 1
RENAME_TRIES = 3


class NameChanges:
    def __init__(self, context: WriteContext, files: OpenFiles, acknowledged: Acknowledged) -> None:
        self._context = context
        self._files = files
        self._acknowledged = acknowledged
        self._renames = Renames(context.writes, context.tree, context.listing, context.pass_on, files.upload, files.is_begun)

    async def unlink(self, change: Change) -> InodeNo:
        place = await self._context.existing(change)
        if place.row is None:
            return self._context.done(change)
        if place.row.kind == EntryKind.DIRECTORY:
            raise CacheError(ErrorKind.IS_A_DIRECTORY, "a directory: use rmdir")
        opened = self._context.writer_of(place.parent_row)
        writer = opened.require_writer()
        async with self._context.lock(place.inode):
            written = self._context.writes.written(place.inode)
            note = None if written is None else Note.of(written)
            is_in_store = note is None or note.expected is not None
            if is_in_store or self._files.is_begun(place.inode):  # an upload whose answer was lost may have made it
                await self._keep_directory(place, opened)
                self._context.tree.own_changes.note(place.parent, place.name)
                with contextlib.nullcontext() if is_in_store else _absent_will_do():
                    await self._context.at_source(opened, lambda: writer.delete(place.path, None))
            if written is not None:
                await self._acknowledged.forget(written.stage, durably=True)
            self._context.pass_on(self._context.writes.remove(change, place))
            if written is not None and not self._context.writes.is_open(place.inode):
                self._files.settle(place.inode)
        return InodeNo(0)

    async def _keep_directory(self, place: Place, opened: OpenSource) -> None:
        """The last object of a prefix takes the directory with it, unless there is a marker."""
        writer = opened.require_writer()
        if writer.capabilities.has_directories or not place.parent_row.path or self._context.writes.has_other_names(place):
            return
        await self._context.at_source(opened, lambda: writer.make_directory(place.parent_row.path, Metadata()))

    async def make_directory(self, change: Change) -> InodeNo:
        place, opened = await self._context.free(change)
        if place.row is not None:
            return self._context.done(change, place.inode)
        writer = opened.require_writer()
        mode, uid, gid = (None if value == NOT_SET else value for value in (change.mode, change.uid, change.gid))
        metadata = Metadata(mode=mode, uid=uid, gid=gid)
        self._context.tree.own_changes.note(place.parent, place.name)
        entry = await self._made(change, opened, place, lambda: writer.make_directory(place.path, metadata))
        return self._context.writes.add(change, place, entry)

    async def remove_directory(self, change: Change) -> InodeNo:
        place = await self._context.existing(change)
        if place.row is None:
            return self._context.done(change)
        if place.row.kind != EntryKind.DIRECTORY:
            raise CacheError(ErrorKind.NOT_A_DIRECTORY, "not a directory")
        if self._context.tree.is_from_spec_inode(place.inode):
            raise CacheError(ErrorKind.BUSY, "a source is mounted there")
        opened = self._context.writer_of(place.parent_row)
        writer = opened.require_writer()
        if self._context.tree.has_names(place.inode):
            raise CacheError(ErrorKind.NOT_EMPTY, "the directory is not empty")
        await self._keep_directory(place, opened)
        self._context.tree.own_changes.note(place.parent, place.name)
        await self._context.at_source(opened, lambda: writer.remove_directory(place.path))
        self._context.pass_on(self._context.writes.remove(change, place))
        return InodeNo(0)

    async def make_symlink(self, change: Change) -> InodeNo:
        place, opened = await self._context.free(change)
        writer = opened.require_writer()
        if not writer.capabilities.has_symlinks:
            raise CacheError(ErrorKind.NOT_PERMITTED, f"{opened.source.url} has no symbolic links")
        if place.row is not None:
            return self._context.done(change, place.inode)
        self._context.tree.own_changes.note(place.parent, place.name)
        entry = await self._made(change, opened, place, lambda: writer.make_symlink(place.path, change.value))
        return self._context.writes.add(change, place, entry)

    async def _made(self, change: Change, opened: OpenSource, place: Place, make: Callable[[], Any]) -> Any:
        """What is there already was made by this very change, if that was begun before."""
        try:
            return await self._context.at_source(opened, make)
        except CacheError as error:
            if error.kind is not ErrorKind.EXISTS or change.unique not in self._context.again:
                raise
            return await self._context.at_source(opened, lambda: opened.source.stat(place.path))

    async def rename(self, change: Change) -> InodeNo:
        if change.flags & ~_RENAME_NOREPLACE:
            raise CacheError(ErrorKind.INVALID, "names can be moved, not exchanged")
        for tries_left in reversed(range(RENAME_TRIES)):
            try:
                return await self._rename(change)
            except CacheError as error:
                # What is moved, or what it replaces, is another version than the index knows. A rename is about names: ask again.
                if error.kind is not ErrorKind.STALE or not tries_left or not await self._look_at_both(change):
                    raise
        raise AssertionError("unreachable")

    async def _look_at_both(self, change: Change) -> bool:
        """Ask the source about both names. Return whether that can help: what is written here is not known better there."""
        helps = False
        for parent, name in ((change.inode, change.name), (change.other_inode, change.other_name)):
            place = self._context.writes.place(parent, name)
            if not place.inode or self._context.writes.written(place.inode) is None:
                helps = True
                with contextlib.suppress(CacheError):
                    await self._context.listing.check_name(parent, name)
        return helps

    async def _rename(self, change: Change) -> InodeNo:
        place = await self._context.existing(change)
        if place.row is None:  # moved by an earlier try, which a listing has seen: the new name may not have been
            with contextlib.suppress(CacheError):
                await self._context.listing.check_name(change.other_inode, change.other_name)
            return self._context.done(change)
        with contextlib.suppress(CacheError):
            await self._context.listing.look_up(change.other_inode, change.other_name)
        async with self._both_locked(change) as (place, target):
            if place.parent_row.source != target.parent_row.source:
                raise CacheError(ErrorKind.CROSS_DEVICE, "the names belong to different sources")
            opened = self._context.writer_of(place.parent_row)
            if change.flags & _RENAME_NOREPLACE and target.row is not None:
                raise CacheError(ErrorKind.EXISTS, "the name exists")
            await self._keep_directory(place, opened)
            if target.inode:
                await self._files.adopt_own(target.inode)
            await self._renames.rename(
                change, place, target, opened, self._context.at_source, lambda: self._files.bring_up(place.inode)
            )
            await self._acknowledged_moved(place, target)
        if target.inode and self._context.writes.written(target.inode) is not None:
            self._files.settle(target.inode)
        return InodeNo(0)

    @contextlib.asynccontextmanager
    async def _both_locked(self, change: Change) -> AsyncIterator[tuple[Place, Place]]:
        """Lock the files that two names lead to, and yield their places. A file that is just being closed becomes another inode
        while its lock is waited for."""
        writes = self._context.writes
        while True:
            place, target = writes.place(change.inode, change.name), writes.place(change.other_inode, change.other_name)
            if place.row is None:
                raise CacheError(ErrorKind.NOT_FOUND, "no such name")
            async with contextlib.AsyncExitStack() as stack:
                for inode in sorted({place.inode, target.inode} - {0}):
                    await stack.enter_async_context(self._context.lock(inode))
                now = writes.place(change.inode, change.name), writes.place(change.other_inode, change.other_name)
                if [one.inode for one in now] == [place.inode, target.inode]:
                    yield now
                    return

    async def _acknowledged_moved(self, place: Place, target: Place) -> None:
        """Before the rename is answered: after a power cut the bytes must not appear under the old name."""
        writes = self._context.writes
        is_directory = place.row is not None and place.row.kind == EntryKind.DIRECTORY
        for inode in [one for one, _ in writes.all_written()] if is_directory else [place.inode]:
            if not is_directory or self._context.tree.is_below(inode, place.inode):
                await self._acknowledged.renew(inode)
        replaced = writes.written(target.inode) if target.inode else None
        if replaced is not None:
            await self._acknowledged.forget(replaced.stage, durably=True)


@contextlib.contextmanager
def _absent_will_do() -> Iterator[None]:
    try:
        yield
    except CacheError as error:
        if error.kind is not ErrorKind.NOT_FOUND:
            raise
