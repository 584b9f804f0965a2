"""What all changes of a mount that may be written have in common: locks, places of names, and asking a source until it answers.

State: the locks of files, and which changes were begun before.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import trio

from fusecache.contract.changes import Change
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.run_files import STAGE_DIR
from fusecache.fetch.listing import Listing
from fusecache.fetch.sources import OpenSource, Sources
from fusecache.fetch.stages import Stages
from fusecache.fetch.tree import Tree
from fusecache.fetch.tree_rows import Changes
from fusecache.fetch.write_tree import Place, WriteTree
from fusecache.index.inodes import Inode, InodeNo


class WriteContext:
    """Attributes:
    directory: of stages.
    stages: those that are open.
    again: changes (by the kernel's number) that were begun before, perhaps up to the source.
    pass_on: tells the kernel what it may have cached.
    """

    def __init__(
        self,
        spec: MountSpec,
        tree: Tree,
        writes: WriteTree,
        listing: Listing,
        sources: Sources,
        nursery: trio.Nursery,
        pass_on: Callable[[Changes], None],
    ) -> None:
        self.spec = spec
        self.tree = tree
        self.writes = writes
        self.listing = listing
        self.sources = sources
        self.nursery = nursery
        self.pass_on = pass_on
        self.directory = Path(spec.state_dir) / STAGE_DIR
        self.stages = Stages(self.directory)
        self.again: set[int] = set()
        self._locks: WeakValueDictionary[InodeNo, trio.Lock] = WeakValueDictionary()

    async def existing(self, change: Change) -> Place:
        """Return the place of a name. It leads to nothing only if the change was begun before. Raises: NOT_FOUND."""
        try:
            await self.listing.look_up(change.inode, change.name)
        except CacheError as error:
            if error.kind is not ErrorKind.NOT_FOUND:
                raise
        place = self.writes.place(change.inode, change.name)
        if place.row is None and change.unique not in self.again:
            raise CacheError(ErrorKind.NOT_FOUND, "no such name")
        return place

    async def free(self, change: Change) -> tuple[Place, OpenSource]:
        """Return the place of a name that is free. It leads to something only if the change was begun before. Raises: EXISTS."""
        with contextlib.suppress(CacheError):
            await self.listing.look_up(change.inode, change.name)
        place = self.writes.place(change.inode, change.name)
        if place.row is not None and change.unique not in self.again:
            raise CacheError(ErrorKind.EXISTS, "the name exists")
        return place, self.writer_of(place.parent_row)

    def done(self, change: Change, inode: InodeNo = 0) -> InodeNo:
        """The change took effect before it was asked for again."""
        self.writes.remember(change.unique, {"inode": inode})
        return inode

    def begin(self, unique: int) -> None:
        """A change is about to be made at a source: when it is asked for again, the source may show it already."""
        if unique not in self.again:
            self.writes.remember(unique, {"step": "begun"})

    def writer_of(self, row: Inode) -> OpenSource:
        """Raises: READ_ONLY."""
        if not row.source:
            raise CacheError(ErrorKind.READ_ONLY, "no source is mounted at this place")
        opened = self.sources.of(row.source)
        opened.require_writer()
        return opened

    async def at_source(self, opened: OpenSource, run: Callable[[], Any]) -> Any:
        """Ask until the store answers, or the deadline: steps that may be repeated."""
        return await self.listing.questions.call(opened, run, time.monotonic() + self.spec.deadline_seconds)

    @contextlib.asynccontextmanager
    async def file(self, number: InodeNo) -> AsyncIterator[InodeNo]:
        """Lock the file that a number of the kernel's stands for, and yield its inode."""
        while True:
            inode = self.writes.resolve(number)
            async with self.lock(inode):
                if self.writes.resolve(number) == inode:
                    yield inode
                    return

    @contextlib.asynccontextmanager
    async def lock(self, inode: InodeNo) -> AsyncIterator[None]:
        lock = self._locks.get(inode)
        if lock is None:
            lock = self._locks[inode] = trio.Lock()
        async with lock:
            yield
