"""Bytes that were acknowledged before the store has them: which files, and their records in the journal.

State: a lock for each stage whose record is being written. A record is there from the moment a program was told that its bytes
are safe until the store has them, or until nobody wants them any more.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import TypeVar
from weakref import WeakValueDictionary

import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.journal import Journal, Owner
from fusecache.fetch.uploads import Uploads
from fusecache.fetch.write_context import WriteContext
from fusecache.fetch.written import Note
from fusecache.index.inodes import InodeNo
from fusecache.index.writes import WriteFlag

T = TypeVar("T")

PARALLEL = 16  # records written at once: they share the commits of the disk's own journal


class Acknowledged:
    def __init__(self, context: WriteContext, uploads: Uploads) -> None:
        self._context = context
        self._uploads = uploads
        self._locks: WeakValueDictionary[int, trio.Lock] = WeakValueDictionary()
        self._limiter = trio.CapacityLimiter(PARALLEL)
        self.journal = Journal(context.directory)

    async def acknowledge(self, inode: InodeNo) -> None:
        """Return when what was written would survive a power cut. Raises: NO_SPACE, UNAVAILABLE."""
        written = self._context.writes.written(inode)
        if written is None or (self._uploads.is_clean(inode) and not self.journal.has(written.stage)):
            return
        async with self._lock(written.stage):
            await self._store(inode, written.stage)

    async def renew(self, inode: InodeNo) -> None:
        """Bring a record up to date, if there is one: it has another path or version now, or the store has all of it."""
        written = self._context.writes.written(inode)
        if written is None or not self.journal.has(written.stage):
            return
        async with self._lock(written.stage):
            if self._uploads.is_clean(inode):
                self.journal.remove(written.stage)
            else:
                await self._store(inode, written.stage)

    async def forget(self, stage: int, *, durably: bool = False) -> None:
        """The stage is about to be removed, and its file leads to it no more."""
        if stage not in self._locks and not self.journal.has(stage):
            return
        async with self._lock(stage):
            if self.journal.has(stage):
                await self._run(lambda: self.journal.remove(stage, durably=durably))

    async def _store(self, inode: InodeNo, stage: int) -> None:
        while True:
            owner = self._owner(inode, stage)
            if owner is None:
                return
            try:
                await self._run(functools.partial(self.journal.store, stage, owner))
            except CacheError as error:
                if error.kind is ErrorKind.NOT_FOUND and self._owner(inode, stage) is None:
                    return  # the store has it, and the stage went meanwhile
                raise
            now = self._owner(inode, stage)
            if now is None or now.path == owner.path:
                return

    def _owner(self, inode: InodeNo, stage: int) -> Owner | None:
        """None: nobody asks for these bytes any more."""
        written, row = self._context.writes.written(inode), self._context.tree.inode(inode)
        if written is None or row is None or written.stage != stage or written.flags & WriteFlag.UNLINKED:
            return None
        note = Note.of(written)
        attributes = {"mode": row.mode, "uid": row.uid, "gid": row.gid}
        kept = dataclasses.replace(note, sent="", error="")
        return Owner(self._context.sources.of(row.source).source.url, row.path, kept.to_json(), attributes)

    async def _run(self, run: Callable[[], T]) -> T:
        return await trio.to_thread.run_sync(run, limiter=self._limiter)

    def _lock(self, stage: int) -> trio.Lock:
        lock = self._locks.get(stage)
        if lock is None:
            lock = self._locks[stage] = trio.Lock()
        return lock
