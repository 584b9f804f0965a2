"""Where the changes that programs ask for arrive: each is made once, however often it is asked for.

State: the changes under way, by the kernel's number of the request; outcomes are in the index.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable, Mapping

import trio

from fusecache.contract.changes import Change, ChangeKind
from fusecache.contract.errors import CacheError
from fusecache.fetch.acknowledged import Acknowledged
from fusecache.fetch.buffer_pool import BufferPool
from fusecache.fetch.open_files import OpenFiles
from fusecache.fetch.recovery import Recovery
from fusecache.fetch.sources import OpenSource
from fusecache.fetch.uploads import Uploads
from fusecache.fetch.write_attributes import AttributeChanges, KeptXattrs
from fusecache.fetch.write_caching import WriteCaching
from fusecache.fetch.write_context import WriteContext
from fusecache.fetch.write_names import NameChanges
from fusecache.index.inodes import InodeNo
from fusecache.source.write_protocol import Writer

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0  # for what is recovered to be there before programs look, and for a source that came while they do
_OF_A_FILE = frozenset({ChangeKind.SET_ATTRIBUTES, ChangeKind.SET_XATTR, ChangeKind.REMOVE_XATTR})
# What is always done at the source before the index knows (what changes attributes says so itself, `WriteContext.begin`).
_AT_SOURCE_FIRST = frozenset({ChangeKind.UNLINK, ChangeKind.MKDIR, ChangeKind.RMDIR, ChangeKind.RENAME, ChangeKind.SYMLINK})


class WriteDesk:
    """`files`: those that are open for writing."""

    def __init__(self, context: WriteContext, caching: WriteCaching, buffers: BufferPool) -> None:
        spec = context.spec
        uploads = Uploads(context.writes, context.sources, context.stages, context.tree.inode, spec.deadline_seconds, buffers)
        xattrs = KeptXattrs(context)
        self._context = context
        self._acknowledged = Acknowledged(context, uploads)
        self.files = OpenFiles(context, uploads, caching, xattrs, self._acknowledged)
        names = NameChanges(context, self.files, self._acknowledged)
        self._recovery = Recovery(context, self._acknowledged.journal, names)
        self._attributes = AttributeChanges(context, uploads, xattrs)
        self._under_way: dict[int, trio.Event] = {}
        self._kinds: Mapping[ChangeKind, Callable[[Change], Awaitable[InodeNo]]] = {
            ChangeKind.CREATE: self.files.create,
            ChangeKind.OPEN: self.files.open,
            ChangeKind.RELEASE: self.files.release,
            ChangeKind.TRUNCATE: self.files.truncate,
            ChangeKind.UNLINK: names.unlink,
            ChangeKind.MKDIR: names.make_directory,
            ChangeKind.RMDIR: names.remove_directory,
            ChangeKind.RENAME: names.rename,
            ChangeKind.SYMLINK: names.make_symlink,
            ChangeKind.SET_ATTRIBUTES: self._attributes.set,
            ChangeKind.SET_XATTR: self._attributes.change_xattrs,
            ChangeKind.REMOVE_XATTR: self._attributes.change_xattrs,
        }

    async def start(self, *, fresh_connection: bool) -> None:
        """Raises: READ_ONLY, UNSUPPORTED, DENIED if a source cannot be written."""
        context = self._context
        context.directory.mkdir(mode=0o700, exist_ok=True)
        context.tree.own_changes.are_possible = True
        for opened in context.sources.all:
            opened.open_writer()
            if opened.writer is None:
                continue
            found = None if fresh_connection else context.writes.found(opened.id)
            if found is None:
                await self._check(opened, opened.writer, must_answer=fresh_connection)
            else:  # a store that does not answer now must not keep us from going on
                opened.writer.restore(found)
        if fresh_connection:
            context.writes.forget_handles()
        self.files.start(fresh_connection=fresh_connection)
        known = {row.stage for _, row in context.writes.all_written()}
        with trio.move_on_after(PATIENCE_SECONDS):
            await self._recover(known)

    async def _check(self, opened: OpenSource, writer: Writer, *, must_answer: bool) -> None:
        """Write and remove something. Without an answer, for a source that came while programs use the others, it is written to
        with the least that a store may promise."""
        try:
            with trio.fail_after(math.inf if must_answer else PATIENCE_SECONDS):
                self._context.writes.put_found(opened.id, await opened.gate.call(writer.check))
        except (CacheError, trio.TooSlowError) as error:
            if must_answer:
                raise
            log.warning("%s: it is not known whether it can be written: %s", opened.source.url, error)
            writer.restore(0)

    async def _recover(self, known: set[int]) -> None:
        """Return when the names of what was acknowledged are there again; what takes too long appears later."""
        done = trio.Event()

        async def recover() -> None:
            for inode in await self._recovery.run(known):
                self.files.take_recovered(inode)
            done.set()

        self._context.nursery.start_soon(recover)
        await done.wait()

    async def change(self, change: Change) -> InodeNo:
        """Make a change, or find that it was made. Return the inode that the answer names. Raises: CacheError."""
        if change.kind is ChangeKind.READ_XATTRS:
            await self._attributes.read_xattrs(change.inode)
            return change.inode
        while change.unique in self._under_way:
            await self._under_way[change.unique].wait()
        writes = self._context.writes
        outcome = writes.outcome(change.unique)
        if outcome is not None and "inode" in outcome:
            return int(str(outcome["inode"]))
        event = self._under_way[change.unique] = trio.Event()
        try:
            if outcome is not None:
                self._context.again.add(change.unique)
            elif change.kind in _AT_SOURCE_FIRST:
                self._context.begin(change.unique)
            inode = await self._kinds[change.kind](change)
            if change.kind in _OF_A_FILE:
                await self._acknowledged.renew(self._context.writes.resolve(change.inode))
            return inode
        except CacheError:
            writes.forget(change.unique)
            raise
        finally:
            self._context.again.discard(change.unique)
            del self._under_way[change.unique]
            event.set()

    def settle(self, unique: int) -> None:
        """The kernel has the answer: the request does not come again."""
        self._context.writes.settle(unique)
