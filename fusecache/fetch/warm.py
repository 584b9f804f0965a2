"""Warm: bring files into the cache before anybody reads them; with drop and refresh, which walk the same trees."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import Counter
from fusecache.contract.warm_request import WarmRequest
from fusecache.fetch.cache import Cache
from fusecache.fetch.flights import Waiter
from fusecache.fetch.selection import Selection
from fusecache.fetch.share import Share
from fusecache.fetch.tree_walk import PAGE, find, walk_files
from fusecache.fetch.workers import Priority
from fusecache.index.environment import NoSpaceError
from fusecache.index.inodes import Inode, InodeFlag, InodeNo
from fusecache.source.protocol import EntryKind
from fusecache.tiers.tier import align

OUTSTANDING_BYTES = 64 << 20  # asked for at once: keeps every store busy without holding much
OUTSTANDING_FILES = 256
MAX_FAILURES_NAMED = 1000
EVICTION_SECONDS = 30.0  # how long the end of a warm-up waits for the evictor, which others may keep busy; a guess
_EVICTED = "it was evicted again when the rest was fetched: give a tier a larger quota, or warm less"


@dataclass(slots=True)
class Progress:
    files: int = 0
    files_total: int = 0
    bytes: int = 0
    bytes_total: int = 0
    listing: bool = True
    failed: list[tuple[str, str]] = field(default_factory=list)
    failures: int = 0
    full: bool = False  # what came first is cached, and there was no room for the rest
    owners: list[str] = field(default_factory=list)  # the nodes that share the work


class Warm:
    """One warm-up. `progress` may be read at any time; `run` returns when every file was tried."""

    def __init__(self, cache: Cache, request: WarmRequest) -> None:
        self._cache = cache
        self._request = request
        self._selection = Selection(cache, request)
        self._share = Share(cache)
        self.progress = Progress()
        self.listed_everything = False  # known when `run` returns
        self._failures_counted = 0  # in totals: a file may fail elsewhere than where it counts
        self._outstanding_bytes = 0
        self._outstanding_files = 0
        self._most_files = request.parallel or OUTSTANDING_FILES
        self._place_left = sum(tier.high_bytes for tier in cache.store.tiers)
        self._room = trio.Event()
        self._counted = trio.Event()

    async def run(self) -> Progress:
        """Raises: CacheError(NOT_FOUND) for a path that is not there, or a pattern that nothing matches."""
        progress = self.progress
        if self._request.owned and self._cache.peers is not None:
            self._share = Share(self._cache, await self._cache.peers.owners(), self._request.copies)
            progress.owners = self._share.nodes
        await self._selection.look(lambda path, error: self._note(_text(path), error, self._share.counts_missing(path)))
        evicted_before = self._cache.counters.get(Counter.EVICTED_BYTES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._count)
            with _told() as told:
                async for inode, row in self._selection.files(self._note_failure):
                    if not progress.full:
                        await self._take_file(inode, row)
            while self._outstanding_files:
                await self._wait()
            if told.error is None and self._needs_totals:
                await self._counted.wait()
            nursery.cancel_scope.cancel()
        if told.error is not None:
            raise told.error
        with trio.move_on_after(EVICTION_SECONDS):  # the last blocks may have taken a tier above its watermark
            await self._cache.evictor.wait_at_rest()
        if self._cache.counters.get(Counter.EVICTED_BYTES) != evicted_before and self._loads:
            await self._look_again()
        progress.listing = False
        self.listed_everything = self._selection.is_everything and not progress.failures and not progress.full
        if not self._needs_totals:
            progress.files_total = progress.files + self._failures_counted
            progress.bytes_total = max(progress.bytes, progress.bytes_total) if progress.failures else progress.bytes
        return progress

    @property
    def _loads(self) -> bool:
        return not self._request.dry_run and not self._request.metadata_only

    @property
    def _needs_totals(self) -> bool:
        """What was tried does not tell how much there is."""
        return self.progress.full or self._request.dry_run

    async def _look_again(self) -> None:
        """Something left the cache meanwhile: count what is in it now, and name the files that no longer are."""
        named = {path for path, _ in self.progress.failed}
        self.progress.files = self.progress.bytes = 0
        async for inode, row in self._selection.files(lambda directory, error: None):
            self._count_cached(inode, row)
            if self._is_cached(inode, row):
                continue
            if self._request.until_full:
                self.progress.full = True
            elif self._path_of(row) not in named:
                self._note_failure(row, CacheError(ErrorKind.NO_SPACE, _EVICTED))

    async def _count(self) -> None:
        """Totals for the bar, ahead of the work, which finds out itself what is wrong."""
        files = size = 0
        with contextlib.suppress(CacheError):
            async for _, row in self._selection.files(lambda directory, error: None):
                files += self._share.counts(row)
                size += 0 if self._request.metadata_only else self._share.size_of(row)
                self.progress.files_total = max(files, self.progress.files)
                self.progress.bytes_total = max(size, self.progress.bytes)
        self.progress.listing = False
        self._counted.set()

    def _is_cached(self, inode: InodeNo, row: Inode) -> bool:
        return self._share.cached_of(inode, row) >= self._share.size_of(row) and not row.flags & InodeFlag.NEEDS_STAT

    def _count_cached(self, inode: InodeNo, row: Inode) -> None:
        self.progress.bytes += self._share.cached_of(inode, row)
        self.progress.files += self._is_cached(inode, row) and self._share.counts(row)

    async def _take_file(self, inode: InodeNo, row: Inode) -> None:
        """Do with a file what is asked for."""
        if self._request.dry_run:
            self._count_cached(inode, row)
        else:
            await self._warm_file(inode, row)

    async def _warm_file(self, inode: InodeNo, row: Inode) -> None:
        cache = self._cache
        if row.flags & (InodeFlag.NEEDS_STAT | InodeFlag.CHECK_BY_NAME):  # the listing does not tell which version is there
            name = row.path.rpartition(b"/")[2]
            try:
                await cache.listing.look_up(row.parent, name)
            except CacheError as error:
                self._note_failure(row, error)
                return
            known = cache.tree.name(row.parent, name)
            found = None if known is None else cache.tree.inode(known.inode)
            if known is None or found is None:
                return  # it is gone
            inode, row = known.inode, found
        if self._request.metadata_only:
            self.progress.files += self._share.counts(row)
            return
        block_size = cache.spec.block_size_bytes
        blocks = -(-row.size // block_size)
        state = _File(row.size)
        step = max(1, (OUTSTANDING_BYTES // 2) // block_size)
        self._outstanding_files += 1
        for first in range(0, blocks, step):
            wanted = min(blocks, first + step)
            last = self._take_place(row, first, wanted) if self._request.until_full else wanted
            with cache.index.read() as txn:
                extents = [
                    (inode, block, cache.index.extents.get(txn, inode, block))
                    for block in range(first, last)
                    if self._share.has(row, block)
                ]
            missing = [block for _, block, extent in extents if extent is None]
            with contextlib.suppress(NoSpaceError):  # then it may leave again: noticed at the end
                cache.store.keep([(inode, block, extent) for inode, block, extent in extents if extent is not None])
            there = [block for _, block, extent in extents if extent is not None]
            self.progress.bytes += _size_of(there, row.size, block_size)
            if missing:
                await self._warm_blocks(inode, row, missing, state)
            if last < wanted:
                state.is_left_out = self.progress.full = True
                break
        self._end_part(row, state, None, parts=0)
        while self._outstanding_bytes > OUTSTANDING_BYTES or self._outstanding_files >= self._most_files:
            await self._wait()

    def _take_place(self, row: Inode, first: int, last: int) -> int:
        """Take place for these blocks; return behind the last one that finds some without evicting what we have brought. What is
        cached of other files gives way."""
        block_size = self._cache.spec.block_size_bytes
        for block in range(first, last):
            if not self._share.has(row, block):
                continue
            size = align(min(block_size, row.size - block * block_size))
            if size > self._place_left:
                return block
            self._place_left -= size
        return last

    async def _warm_blocks(self, inode: InodeNo, row: Inode, missing: list[int], state: _File) -> None:
        while self._outstanding_bytes > OUTSTANDING_BYTES:
            await self._wait()
        size = _size_of(missing, row.size, self._cache.spec.block_size_bytes)
        self._outstanding_bytes += size
        state.parts += 1

        def finish(_: Waiter | None, error: CacheError | None) -> None:
            self._outstanding_bytes -= size
            if error is None:
                self.progress.bytes += size
            self._end_part(row, state, error, parts=1)

        def no_room() -> None:
            finish(None, CacheError(ErrorKind.NO_SPACE, "the cache is full: give a tier a larger quota, or warm less"))

        deadline = time.monotonic() + max(60.0, self._cache.spec.deadline_seconds) + 30.0
        waiter = Waiter(inode, missing, deadline, finish, no_room, leases=False)
        self._cache.flights.want(waiter, row, Priority.WARM)

    def _end_part(self, row: Inode, state: _File, error: CacheError | None, *, parts: int) -> None:
        state.parts -= parts
        state.error = state.error or error
        if parts == 0:
            state.submitted = True
        if state.submitted and state.parts == 0 and not state.ended:
            state.ended = True
            self._outstanding_files -= 1
            if state.error is not None and state.error.kind is ErrorKind.NO_SPACE and self._request.until_full:
                self.progress.full = True
            elif state.error is not None:
                self._note_failure(row, state.error)
            elif not state.is_left_out:
                self.progress.files += self._share.counts(row)
        event, self._room = self._room, trio.Event()
        event.set()

    async def _wait(self) -> None:
        await self._room.wait()

    def _note_failure(self, row: Inode, error: CacheError) -> None:
        self._note(self._path_of(row), error, self._share.counts(row))

    def _note(self, path: str, error: CacheError, counts: bool) -> None:
        self.progress.failures += 1
        self._failures_counted += counts
        if len(self.progress.failed) < MAX_FAILURES_NAMED:
            self.progress.failed.append((path, str(error)))

    def _path_of(self, row: Inode) -> str:
        return _text(self._selection.path_of(row))


@dataclass(slots=True)
class _File:
    size: int
    parts: int = 0
    submitted: bool = False
    ended: bool = False
    is_left_out: bool = False  # in part: there was no room for the rest
    error: CacheError | None = None


@dataclass(slots=True)
class _Told:
    error: CacheError | None = None


@contextlib.contextmanager
def _told() -> Iterator[_Told]:
    """Keep an error for later: out of a nursery it would come wrapped."""
    told = _Told()
    try:
        yield told
    except CacheError as error:
        told.error = error


def _text(path: bytes) -> str:
    return path.decode("utf-8", "surrogateescape")


def _size_of(blocks: list[int], size: int, block_size: int) -> int:
    return sum(min(block_size, size - block * block_size) for block in blocks)


async def drop(cache: Cache, paths: list[bytes]) -> int:
    """Forget the cached blocks of everything below these paths; return the bytes freed."""
    freed = 0
    for path in paths or [b""]:
        async for inode, _ in walk_files(cache, await find(cache, path), lambda directory, error: None):
            with cache.index.read() as txn:
                blocks = [(inode, block) for block, _ in cache.index.extents.of_inode(txn, inode)]
            blocks = [block for block in blocks if not cache.store.leases[block]]
            for start in range(0, len(blocks), PAGE):
                freed += cache.store.forget(blocks[start : start + PAGE])
                cache.store.reclaim()
                await trio.lowlevel.checkpoint()
    return freed


async def refresh(cache: Cache, paths: list[bytes]) -> int:
    """List again every directory below these paths that is known; return how many directories had changes. Raises:
    UNAVAILABLE."""
    changed = 0
    for path in paths or [b""]:
        root = await find(cache, path)
        row = cache.tree.inode(root)
        line = [root if row is None or row.kind == EntryKind.DIRECTORY else row.parent]
        while line:
            inode = line.pop()
            before = cache.tree.directory(inode)
            if before is None or (before.listed_at == 0 and before.next_seq == 3 and inode != root):
                continue  # never listed: whoever comes first will see what is there
            try:
                await cache.listing.complete(inode, force=True)
            except CacheError as error:
                if inode == root or error.kind not in (ErrorKind.NOT_FOUND, ErrorKind.STALE):
                    raise
                changed += 1  # the directory is gone, and its name with it
                continue
            for changes in cache.tree.expire_names(inode):
                cache.pass_on(changes)
                await trio.lowlevel.checkpoint()
            after = cache.tree.directory(inode)
            if after is not None and after.changes != before.changes:
                changed += after.changes - before.changes
            with cache.index.read() as txn:
                line += [name.inode for _, name in cache.index.names.iterate(txn, inode) if name.kind == EntryKind.DIRECTORY]
    return changed
