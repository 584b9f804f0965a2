"""Warm: bring files into the cache before anybody reads them; with drop and refresh, which walk the same trees."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.cache import Cache
from fusecache.fetch.flights import Waiter
from fusecache.fetch.workers import Priority
from fusecache.index.environment import NoSpaceError
from fusecache.index.extents import BlockIndex
from fusecache.index.inodes import ROOT, Inode, InodeFlag, InodeNo
from fusecache.peer.membership import Owners
from fusecache.peer.ring import GROUP_BLOCKS
from fusecache.source.protocol import EntryKind

OUTSTANDING_BYTES = 64 << 20  # asked for at once: keeps every store busy without holding much
OUTSTANDING_FILES = 256
PAGE = 512
MAX_FAILURES_NAMED = 1000
EVICTION_SECONDS = 30.0  # how long the end of a warm-up waits for the evictor, which others may keep busy; a guess
_MISSING = "check the name, and whether the source has it (fusecache refresh shows what is new there)"
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
    owners: list[str] = field(default_factory=list)  # the nodes that share the work


class Warm:
    """One warm-up. `progress` may be read at any time; `run` returns when every file was tried."""

    def __init__(self, cache: Cache, paths: list[bytes], *, owned: bool = False) -> None:
        """`owned`: only what this node owns (contract/control.py)."""
        self._cache = cache
        self._paths = paths
        self._is_for_owned = owned
        self._owners: Owners | None = None  # as they were at the beginning
        self.progress = Progress()
        self.listed_everything = False  # known when `run` returns
        self._outstanding_bytes = 0
        self._outstanding_files = 0
        self._room = trio.Event()

    async def run(self) -> Progress:
        """Raises: CacheError(NOT_FOUND) for a path that is not there."""
        if self._is_for_owned and self._cache.peers is not None:
            self._owners = await self._cache.peers.owners()
            self.progress.owners = list(self._owners.nodes)
        roots = [await find(self._cache, path) for path in self._paths or [b""]]
        evicted_before = self._cache.counters.get(Counter.EVICTED_BYTES)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._count, roots)
            for root in roots:
                async for inode, row in walk_files(self._cache, root, self._note_failure):
                    await self._warm_file(inode, row)
            while self._outstanding_files:
                await self._wait()
            nursery.cancel_scope.cancel()
        with trio.move_on_after(EVICTION_SECONDS):  # the last blocks may have taken a tier above its watermark
            await self._cache.evictor.wait_at_rest()
        if self._cache.counters.get(Counter.EVICTED_BYTES) != evicted_before:
            await self._look_again(roots)
        self.progress.listing = False
        self.listed_everything = ROOT in roots and not self.progress.failures
        self.progress.files_total = self.progress.files + self.progress.failures
        self.progress.bytes_total = (
            max(self.progress.bytes, self.progress.bytes_total) if self.progress.failures else self.progress.bytes
        )
        return self.progress

    async def _look_again(self, roots: list[InodeNo]) -> None:
        """Something left the cache meanwhile: count what is in it now, and name the files that no longer are."""
        named = {path for path, _ in self.progress.failed}
        self.progress.files = self.progress.bytes = 0
        for root in roots:
            async for inode, row in walk_files(self._cache, root, lambda directory, error: None):
                cached = self._cached_of(inode, row)
                self.progress.bytes += cached
                if cached >= self._size_of_ours(row) and not row.flags & InodeFlag.NEEDS_STAT:
                    self.progress.files += self._is_ours(row, 0)
                elif self._path_of(row) not in named:
                    self._note_failure(row, CacheError(ErrorKind.NO_SPACE, _EVICTED))

    async def _count(self, roots: list[InodeNo]) -> None:
        """Totals for the bar, ahead of the work."""
        files = size = 0
        for root in roots:
            async for _, row in walk_files(self._cache, root, lambda directory, error: None):
                files += self._is_ours(row, 0)
                size += self._size_of_ours(row)
                self.progress.files_total = max(files, self.progress.files)
                self.progress.bytes_total = max(size, self.progress.bytes)
        self.progress.listing = False

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
        block_size = cache.spec.block_size_bytes
        blocks = -(-row.size // block_size)
        state = _File(row.size, is_counted=self._is_ours(row, 0))
        step = max(1, (OUTSTANDING_BYTES // 2) // block_size)
        self._outstanding_files += 1
        for first in range(0, blocks, step):
            with cache.index.read() as txn:
                extents = [
                    (inode, block, cache.index.extents.get(txn, inode, block))
                    for block in range(first, min(blocks, first + step))
                    if self._is_ours(row, block)
                ]
            missing = [block for _, block, extent in extents if extent is None]
            with contextlib.suppress(NoSpaceError):  # then it may leave again: noticed at the end
                cache.store.keep([(inode, block, extent) for inode, block, extent in extents if extent is not None])
            there = [block for _, block, extent in extents if extent is not None]
            self.progress.bytes += _size_of(there, row.size, block_size)
            if missing:
                await self._warm_blocks(inode, row, missing, state)
        self._end_part(row, state, None, parts=0)
        while self._outstanding_bytes > OUTSTANDING_BYTES or self._outstanding_files > OUTSTANDING_FILES:
            await self._wait()

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
            if state.error is None:
                self.progress.files += state.is_counted
            else:
                self._note_failure(row, state.error)
        event, self._room = self._room, trio.Event()
        event.set()

    def _is_ours(self, row: Inode, block: BlockIndex) -> bool:
        if self._owners is None:
            return True
        has_ranges = self._cache.sources.of(row.source).source.capabilities.ranges
        return self._owners.owner(row.identity, block if has_ranges else 0) is None

    def _size_of_ours(self, row: Inode) -> int:
        if self._owners is None:
            return row.size
        block_size = self._cache.spec.block_size_bytes
        step = GROUP_BLOCKS * block_size
        ours = (start for start in range(0, row.size, step) if self._is_ours(row, start // block_size))
        return sum(min(step, row.size - start) for start in ours)

    def _cached_of(self, inode: InodeNo, row: Inode) -> int:
        with self._cache.index.read() as txn:
            extents = self._cache.index.extents.of_inode(txn, inode)
            return sum(extent.length for block, extent in extents if self._is_ours(row, block))

    async def _wait(self) -> None:
        await self._room.wait()

    def _note_failure(self, row: Inode, error: CacheError) -> None:
        self.progress.failures += 1
        if len(self.progress.failed) < MAX_FAILURES_NAMED:
            self.progress.failed.append((self._path_of(row), str(error)))

    def _path_of(self, row: Inode) -> str:
        """Return the path from the root of the tree; `row.path` begins at the source's."""
        subdir = next((one.subdir for one in self._cache.sources.all if one.id == row.source), ())
        return b"/".join((*subdir, row.path) if row.path else subdir).decode("utf-8", "surrogateescape")


@dataclass(slots=True)
class _File:
    size: int
    is_counted: bool = True
    parts: int = 0
    submitted: bool = False
    ended: bool = False
    error: CacheError | None = None


def _size_of(blocks: list[int], size: int, block_size: int) -> int:
    return sum(min(block_size, size - block * block_size) for block in blocks)


async def find(cache: Cache, path: bytes, *, anew: bool = False) -> InodeNo:
    """Return the inode at a path of the tree, asking the source on the way; `anew`: also for what is known lately.

    Raises: NOT_FOUND, UNAVAILABLE.
    """
    inode = ROOT
    for part in (part for part in path.split(b"/") if part):
        await (cache.listing.check_name if anew else cache.listing.look_up)(inode, part)
        row = cache.tree.name(inode, part)
        if row is None:
            raise CacheError(
                ErrorKind.NOT_FOUND, f"{path.decode('utf-8', 'surrogateescape')!r} is not in the dataset; {_MISSING}"
            )
        inode = row.inode
    return inode


async def walk_files(
    cache: Cache, root: InodeNo, on_error: Callable[[Inode, CacheError], None]
) -> AsyncIterator[tuple[InodeNo, Inode]]:
    """Yield every file below an inode, depth first; directories are listed on the way."""
    row = cache.tree.inode(root)
    if row is None:
        return
    if row.kind != EntryKind.DIRECTORY:
        if row.kind == EntryKind.FILE:
            yield root, row
        return
    line = [root]
    while line:
        directory = line.pop()
        try:
            await cache.listing.complete(directory)
        except CacheError as error:
            found = cache.tree.inode(directory)
            if found is not None:  # else it went with its parent
                on_error(found, error)
            continue
        seq = 0
        while True:
            with cache.index.read() as txn:
                names = cache.index.names.after(txn, directory, seq, PAGE)
                files = [
                    (name.inode, found)
                    for name in names
                    if name.kind == EntryKind.FILE and (found := cache.index.inodes.get(txn, name.inode)) is not None
                ]
            if not names:
                break
            seq = names[-1].seq
            line += [name.inode for name in names if name.kind == EntryKind.DIRECTORY]
            for inode, found_row in files:
                yield inode, found_row
            await trio.lowlevel.checkpoint()


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
