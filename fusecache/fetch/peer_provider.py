"""What this node gives to others: blocks out of its tiers, checked, and what is missing through flights of its own.

Called by the peer server in the event loop; reading and checking are done by worker threads. Invariants: no granule is sent that
does not match its checksum; nothing is asked of another peer, and nothing is waited for that another peer was asked for.
"""

from __future__ import annotations

import functools
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import NamedTuple

import trio

from fusecache.base.counters import CounterPage
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.flights import Flights, Waiter
from fusecache.fetch.listing import Listing
from fusecache.fetch.sources import Sources
from fusecache.fetch.tree import Tree
from fusecache.fetch.workers import Gate, Priority
from fusecache.index.extents import BlockIndex, Extent
from fusecache.index.inodes import ROOT, Inode, InodeFlag, InodeNo
from fusecache.peer.errors import PeerRefusal
from fusecache.peer.server import Piece, Send
from fusecache.peer.wire import RangeRequest, Reason, widened
from fusecache.source.protocol import EntryKind
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.checksums import damaged_granule
from fusecache.tiers.container_files import OpenContainers

BUFFERS = 12  # blocks that are being read and sent at once, to all who ask; fewer where little memory may be in flight
BUFFERS_SHARE = 4  # of the memory that may be in flight
PATIENCE_SHARE = 5  # of the mount's deadline: the asker's reader shall have time for the store then
READERS = 4  # threads that read and check blocks at once
ATTEMPTS = 3  # at a block that is damaged, or evicted before it was leased
ASKED_AGAIN_SECONDS = 1.0  # the source is not asked more often what there is under a name, whoever wants another version
REMEMBERED_NAMES = 1024
_UNREADABLE = InodeFlag.NEEDS_STAT | InodeFlag.GONE


class _Found(NamedTuple):
    inode: InodeNo
    row: Inode


class PeerProvider:
    """`forget_damaged`: as Cache.forget_damaged."""

    def __init__(
        self,
        spec: MountSpec,
        store: BlockStore,
        flights: Flights,
        sources: Sources,
        tree: Tree,
        listing: Listing,
        gate: Gate,
        counters: CounterPage,
        forget_damaged: Callable[[InodeNo, BlockIndex], bool],
    ) -> None:
        self._spec = spec
        self._store = store
        self._flights = flights
        self._sources = sources
        self._tree = tree
        self._listing = listing
        self._gate = gate
        self._counters = counters
        self._forget_damaged = forget_damaged
        in_memory = [tier.number for tier in store.tiers if tier.is_memory]
        self._containers = OpenContainers([tier.path for tier in store.tiers], in_memory=in_memory)
        buffers = spec.fetch_memory_bytes // BUFFERS_SHARE // spec.block_size_bytes
        self._buffers = trio.CapacityLimiter(max(2, min(BUFFERS, buffers)))
        self._asked: OrderedDict[tuple[int, bytes], float] = OrderedDict()

    async def provide(self, wanted: RangeRequest, send: Send) -> None:
        """As peer.server.Provider."""
        try:
            found = await self._find(wanted)
            await self._send_blocks(found, wanted, send)
        except PeerRefusal:
            raise
        except CacheError as error:
            raise PeerRefusal(_reason_of(error), str(error)) from None

    def tick(self) -> None:
        self._containers.close_removed()

    def close(self) -> None:
        self._containers.close()

    # -- which object

    async def _find(self, wanted: RangeRequest) -> _Found:
        """Return the inode of the very version. Raises: PeerRefusal, CacheError."""
        subdir = self._sources.of(wanted.source).subdir
        *directories, name = (*subdir, *wanted.path.split(b"/"))
        found = self._known([*directories, name], wanted)
        if found is not None:
            return found
        parent = await self._directory(directories)
        try:
            await self._listing.look_up(parent, name)
        except CacheError as error:
            if error.kind is not ErrorKind.NOT_FOUND:  # else it may be newer than the listing
                raise
        found = self._known([*directories, name], wanted)
        if found is None and self._may_ask(wanted):
            await self._listing.check_name(parent, name)
            found = self._known([*directories, name], wanted)
        if found is None:
            raise PeerRefusal(Reason.OTHER_VERSION, "another version of the object is known here")
        return found

    async def _directory(self, parts: list[bytes]) -> InodeNo:
        inode = ROOT
        for part in parts:
            await self._listing.look_up(inode, part)
            row = self._tree.name(inode, part)
            if row is None:
                raise PeerRefusal(Reason.OTHER_VERSION, "the object's directory is not known here")
            inode = row.inode
        return inode

    def _known(self, parts: list[bytes], wanted: RangeRequest) -> _Found | None:
        """Look the version up in the index. What it is called is of no matter for what its bytes are."""
        resolved = self._tree.resolve(b"/".join(parts))
        row = None if resolved is None else self._tree.inode(resolved[0])
        if resolved is None or row is None or row.kind != EntryKind.FILE or row.flags & _UNREADABLE:
            return None
        theirs = (wanted.source, wanted.identity, wanted.path, wanted.version, wanted.size)
        return _Found(resolved[0], row) if (row.source, row.identity, row.path, row.version, row.size) == theirs else None

    def _may_ask(self, wanted: RangeRequest) -> bool:
        key, now = (wanted.source, wanted.path), time.monotonic()
        if now - self._asked.pop(key, 0.0) < ASKED_AGAIN_SECONDS:
            return False
        self._asked[key] = now
        if len(self._asked) > REMEMBERED_NAMES:
            self._asked.popitem(last=False)
        return True

    # -- its blocks

    async def _send_blocks(self, found: _Found, wanted: RangeRequest, send: Send) -> None:
        block_size = self._store.block_size
        start, stop = widened(wanted.offset, wanted.length, found.row.size, self._spec.granule_size_bytes)
        first, end = start // block_size, -(-stop // block_size)
        window = self._flights.longest_run(found.row)  # more than that need not fit into the tiers at once
        for begin in range(first, end, window):
            blocks = range(begin, min(end, begin + window))
            with _Arrival(self._store, self._flights, found, blocks, self._deadline(), Priority(wanted.priority)) as arrival:
                for block in blocks:
                    await arrival.wait(block)
                    extent = _Part(block, max(start, block * block_size), min(stop, (block + 1) * block_size))
                    await self._send_part(found, extent, arrival.had(block), send)

    def _deadline(self) -> float:
        return time.monotonic() + self._spec.deadline_seconds / PATIENCE_SHARE

    async def _send_part(self, found: _Found, part: _Part, was_cached: bool, send: Send) -> None:
        for _ in range(ATTEMPTS):
            async with self._buffers:
                buffer = self._flights.buffers.take(part.stop - part.start)
                view = memoryview(buffer)[: part.stop - part.start]
                # Cancelled meanwhile, it is dropped and not given back: the thread may still write to it, and whoever got it next
                # would find other bytes there than he has put.
                checksums = await self._gate.call(functools.partial(self._read, found, part, view))
                try:
                    if checksums is not None:
                        await send(Piece(part.start, view, checksums, was_cached))
                        self._counters.add(Counter.PEER_SERVED_BYTES, len(view))
                        return
                finally:
                    self._flights.buffers.give_back(buffer)
            self._forget_damaged(found.inode, part.block)
            was_cached = False
            blocks = range(part.block, part.block + 1)
            with _Arrival(self._store, self._flights, found, blocks, self._deadline(), Priority.DEMAND) as arrival:
                await arrival.wait(part.block)
        raise PeerRefusal(Reason.FAILED, "a block could not be read from the cache")

    def _read(self, found: _Found, part: _Part, view: memoryview) -> tuple[int, ...] | None:
        """Read whole granules and return their checksums; None if they are not there, or not right. In a worker thread.

        As in serve, the snapshot is held until the bytes are read: fetch punches out nothing that it names."""
        granule_size = self._spec.granule_size_bytes
        within = part.start - part.block * self._store.block_size
        with self._store.index.read() as txn:
            extent = self._store.index.extents.get(txn, found.inode, part.block)
            if extent is None or not self._is_filled(extent, within, view):
                return None
        checksums = extent.checksums[within // granule_size : -(-(within + len(view)) // granule_size)]
        if damaged_granule(view, checksums, found.row.identity, part.start, granule_size, 0) is not None:
            return None
        self._store.marks.set(extent.order)
        return checksums

    def _is_filled(self, extent: Extent, within: int, view: memoryview) -> bool:
        if extent.length < within + len(view):
            return False
        try:
            return self._containers.pread_into(extent.tier, extent.container, view, extent.offset + within) == len(view)
        except (OSError, IndexError):
            return False


def _reason_of(error: CacheError) -> Reason:
    if error.kind in (ErrorKind.STALE, ErrorKind.NOT_FOUND):
        return Reason.OTHER_VERSION
    return Reason.SILENT if error.kind in (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT) else Reason.FAILED


class _Part(NamedTuple):
    """Bytes [start, stop) of the object, which lie in one block."""

    block: BlockIndex
    start: int
    stop: int


class _Arrival:
    """Some blocks of an object: those that were there are leased, the others are fetched from the store, until the end of the
    `with`. Made and entered without a checkpoint in between."""

    def __init__(
        self, store: BlockStore, flights: Flights, found: _Found, blocks: range, deadline: float, priority: Priority
    ) -> None:
        self._store = store
        self._flights = flights
        self._found = found
        self._priority = priority
        with store.index.read() as txn:
            missing = [block for block in blocks if store.index.extents.get(txn, found.inode, block) is None]
        self._cached = [(found.inode, block) for block in blocks if block not in missing]
        self._ended = not missing
        self._error: CacheError | None = None
        self._news = trio.Event()
        self._waiter = Waiter(found.inode, missing, deadline, self._finish, self._no_room, leases=True, came=self._wake)

    def __enter__(self) -> _Arrival:
        """Raises: PeerRefusal."""
        if any(self._flights.is_asked_of_peer(self._found.inode, block) for block in self._waiter.remaining):
            raise PeerRefusal(Reason.ELSEWHERE, "a peer was asked for it from here")
        for block in self._cached:
            self._store.leases[block] += 1
        if self._waiter.remaining:
            self._flights.want(self._waiter, self._found.row, self._priority, ask_peers=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._flights.cancel(self._waiter)
        self._flights.unlease(self._cached)

    def had(self, block: BlockIndex) -> bool:
        return (self._found.inode, block) in self._cached

    async def wait(self, block: BlockIndex) -> None:
        """Return when the block is there. Raises: the CacheError that ended it; PeerRefusal."""
        while block in self._waiter.remaining and not self._ended:
            await self._news.wait()
        if self._error is not None:
            raise self._error

    def _finish(self, _: Waiter, error: CacheError | None) -> None:
        self._ended, self._error = True, error
        self._wake()

    def _no_room(self) -> None:
        self._ended, self._error = True, PeerRefusal(Reason.NO_ROOM, "no tier can take the block")
        self._wake()

    def _wake(self) -> None:
        event, self._news = self._news, trio.Event()
        event.set()
