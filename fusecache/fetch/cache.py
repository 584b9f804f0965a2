"""The writer's parts, wired together: what the servers (miss, control) work on.

Owned by fetch's event loop. The parts know each other only through the callbacks given here.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import mmap
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import trio

from fusecache.base.counters import CounterPage
from fusecache.base.units import format_size
from fusecache.contract.errors import CacheError
from fusecache.contract.messages import Answer, Op
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.ballast import Ballast
from fusecache.fetch.bounce import BounceBuffer
from fusecache.fetch.bounced_reads import BouncedReads
from fusecache.fetch.buffer_pool import KEPT_BYTES, BufferPool
from fusecache.fetch.evictor import Evictor
from fusecache.fetch.flights import Flights
from fusecache.fetch.leftover_containers import find_leftovers, remove_leftovers
from fusecache.fetch.listing import Listing
from fusecache.fetch.lost_containers import blocks_of, find_lost, forget_lost
from fusecache.fetch.peer_provider import PeerProvider
from fusecache.fetch.peers import THREADS as PEER_THREADS
from fusecache.fetch.peers import Peers
from fusecache.fetch.prefetch import Prefetch
from fusecache.fetch.read_loop import ReadLoop
from fusecache.fetch.roots import Roots
from fusecache.fetch.scrubber import Scrubber
from fusecache.fetch.sources import Opener, Sources
from fusecache.fetch.tree import Tree
from fusecache.fetch.tree_rows import Changes
from fusecache.fetch.verification import Verification
from fusecache.fetch.workers import Gate, Priority, Workers
from fusecache.fetch.write_caching import WriteCaching
from fusecache.fetch.write_context import WriteContext
from fusecache.fetch.write_desk import WriteDesk
from fusecache.fetch.write_tree import WriteTree
from fusecache.index.environment import NoSpaceError
from fusecache.index.extents import BlockIndex
from fusecache.index.index import Index
from fusecache.index.inodes import InodeNo
from fusecache.source.registry import open_source
from fusecache.tiers.block_check import BlockCheck
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.marks import Marks
from fusecache.tiers.tier import ALIGNMENT, Tier

log = logging.getLogger(__name__)

WORKER_THREADS = 24  # all gates together; a thread that waits for a store costs little
DISK_JOBS = 2  # demotions and verifications at once: more would fight readers for the disk
TICK_SECONDS = 0.25
COMMIT_AT_ONCE = 16  # blocks that nobody waits for are committed together, so many
COMMIT_WITHIN_SECONDS = 0.005  # or what has come until then
IDLE_TICKS = 20  # 5 s without a large range: its buffers are given back


class Cache:
    def __init__(
        self,
        spec: MountSpec,
        index: Index,
        tiers: Sequence[Tier],
        marks: Marks,
        memory: mmap.mmap,
        bounce: mmap.mmap,
        counters: CounterPage,
        nursery: trio.Nursery,
        environment: Mapping[str, str],
        *,
        keep_whole: bool,
        bounce_bytes: int | None = None,
        opener: Opener = open_source,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`bounce_bytes`: how much of the bounce buffer may be used. `clock`: wall clock seconds, for the age of listings and
        names."""
        self.spec = spec
        self.index = index
        self.counters = counters
        self.reader_errors = 0
        self.last_error = ""

        async def crash(error: Exception) -> None:
            raise error

        self._nursery = nursery
        self._commits_later = False
        has_peers = spec.peers is not None and not spec.read_write
        threads = WORKER_THREADS + (PEER_THREADS if has_peers else 0)
        self.workers = Workers(threads, self._after_batch, lambda error: nursery.start_soon(crash, error))
        buffers = BufferPool(min(KEPT_BYTES, spec.fetch_memory_bytes // 2))
        self.sources = Sources(spec, self.workers, ReadLoop(self.workers, nursery, buffers), environment, opener)
        self.tree = Tree(index, memory, clock)
        self.store = BlockStore(index, tiers, marks, spec.block_size_bytes, keep_whole=keep_whole)
        self._check = BlockCheck(self.store, spec.granule_size_bytes)
        self.peers = Peers(spec, tiers, self.workers, buffers, counters) if has_peers else None
        routes = self.peers.routes if self.peers is not None else None
        self.disk_gate = Gate(self.workers, DISK_JOBS, 64 << 20)
        self.flights = Flights(
            self.store,
            self.sources,
            self.workers,
            nursery,
            counters,
            spec.granule_size_bytes,
            need_room=self._need_room,
            on_stale=self._source_moved_on,
            buffers=buffers,
            peers=routes,
        )
        self.evictor = Evictor(self.store, self.disk_gate, counters, spec.granule_size_bytes, self.flights.room_was_made)
        self.listing = Listing(spec, self.tree, self.sources, nursery, counters, self.pass_on, clock)
        self.prefetch = Prefetch(self.store, self.flights, self._space_for_all, enabled=spec.prefetch)
        self.bounced = BouncedReads(
            BounceBuffer(bounce, bounce_bytes),
            self.sources,
            nursery,
            counters,
            spec.deadline_seconds,
            self._source_moved_on,
            routes,
        )
        self.verification = Verification(self.store, self.disk_gate, counters, self._check, self.forget_damaged)
        self.scrubber = Scrubber(
            self.store,
            self.disk_gate,
            counters,
            self._check,
            lambda: bool(self.flights.count_in_flight),
            self.forget_damaged,
        )
        if self.peers is not None:
            self.peers.provider = PeerProvider(
                spec,
                self.store,
                self.flights,
                self.sources,
                self.tree,
                self.listing,
                self.peers.reading,
                counters,
                self.forget_damaged,
            )
        self.desk = self._make_desk(clock) if spec.read_write else None
        self.ballast = Ballast(Path(spec.state_dir))
        self.ballast.make()
        self.index_errors = 0
        self.index_error_at = 0.0  # wall clock
        index.env.on_full = self._index_is_full
        self._first_new_container = self.store.next_container
        self.tell: Callable[[Answer], None] = lambda answer: None  # set by the miss server, which knows who listens

    def _make_desk(self, clock: Callable[[], float]) -> WriteDesk:
        caching = WriteCaching(self.store, self.disk_gate, self.spec.granule_size_bytes)
        writes = WriteTree(self.index, self.tree, clock)
        context = WriteContext(self.spec, self.tree, writes, self.listing, self.sources, self._nursery, self.pass_on)
        return WriteDesk(context, caching, self.flights.buffers)

    async def arrange_roots(self) -> None:
        """Make the tree have the spec's sources in their places, and no others. Once, before anybody is served.

        The loop turns between its steps: an earlier source may have left millions of names, and the supervisor asks questions."""
        gone = 0
        for changes in Roots(self.index, self.tree).arrange([(opened.id, opened.subdir) for opened in self.sources.all]):
            self.pass_on(changes)
            gone += len(changes.orphans)
            await trio.lowlevel.checkpoint()
        if gone:
            log.info("the sources are others than before: %d files of those that are gone were removed from the tree", gone)

    async def run_ticks(self) -> None:
        ticks = 0
        while True:
            await trio.sleep(TICK_SECONDS)
            self.flights.check_deadlines()
            self.bounced.tick()
            self.prefetch.tick()
            self.store.reclaim()
            ticks += 1
            if ticks % IDLE_TICKS == 0:
                self.flights.buffers.release_idle()
            self.evictor.wake()
            self.ballast.tick()
            if self.peers is not None:
                self.peers.tick()
            self.counters.set(Counter.TIER_ERRORS, sum(tier.errors for tier in self.store.tiers))
            self.counters.set(Counter.INDEX_ERRORS, self.index_errors)

    def _index_is_full(self) -> None:
        self.index_errors += 1
        self.index_error_at = time.time()
        self.ballast.release()

    async def clean_up_containers(self) -> None:
        """Give back what an earlier process left in the tiers, and forget what is in them no longer."""
        below = self._first_new_container
        try:
            await self._forget_lost(below)
        except NoSpaceError as error:
            log.warning("blocks of containers that are gone cannot be forgotten: %s", error)
        leftovers = await self.disk_gate.call(lambda: find_leftovers(self.index, self.store.tiers, below), Priority.WARM)
        remove_leftovers(self.store, leftovers)
        if leftovers.empty:
            log.info("%d containers that an earlier process left behind were removed", len(leftovers.empty))

    async def _forget_lost(self, below: int) -> None:
        lost = await self.disk_gate.call(lambda: find_lost(self.index, self.store.tiers, below), Priority.WARM)
        forgotten = 0
        start: tuple[InodeNo, BlockIndex] | None = (InodeNo(0), BlockIndex(0)) if lost else None
        while start is not None:
            batch = await self.disk_gate.call(functools.partial(blocks_of, self.index, lost, start), Priority.WARM)
            forgotten += forget_lost(self.store, lost, batch.blocks)
            start = batch.next_start
        if lost:
            log.warning(
                "%d containers of the cache are gone with %s; what was in them is fetched again",
                len(lost),
                format_size(forgotten),
            )

    def _after_batch(self) -> None:
        """What nobody waits for may wait for more of its kind: a transaction for each small file costs as much as its bytes."""
        if self.flights.arrived >= COMMIT_AT_ONCE or self.flights.is_arrival_awaited:
            self.flights.commit_arrived()
        elif self.flights.arrived and not self._commits_later:
            try:
                self._nursery.start_soon(self._commit_later)
                self._commits_later = True
            except RuntimeError:  # the process stops, and takes no new tasks
                self.flights.commit_arrived()
        self.bounced.tick()
        self.prefetch.tick()

    async def _commit_later(self) -> None:
        await trio.sleep(COMMIT_WITHIN_SECONDS)
        self._commits_later = False
        self.workers.take_results([self.flights.commit_arrived])

    def _need_room(self, size: int) -> None:
        if size:
            self.evictor.need_room(size)
        else:
            self.evictor.wake()

    def _space_for_all(self) -> int:
        """Return how much of the tiers all known files would take: pages, not bytes, which is much more for small files."""
        return self.tree.total_bytes + self.tree.files * ALIGNMENT

    # -- questions

    def has_row_after(self, inode: InodeNo, seq: int) -> bool:
        with self.index.read() as txn:
            return bool(self.index.names.after(txn, inode, seq, 1))

    # -- news

    def pass_on(self, changes: Changes) -> None:
        """The kernel may have cached what changed."""
        for parent, name in changes.entries:
            self.tell(Answer(Op.INVALIDATE_ENTRY, inode=parent, name=name))
        for directory in changes.directories:
            self.tell(Answer(Op.INVALIDATE_INODE, inode=directory))
        self.store.mark_orphans_cold(changes.orphans)

    def _source_moved_on(self, inode: InodeNo, version: bytes) -> None:
        """The source holds another version (or none): readers of this one get ESTALE, the next lookup must see what is there
        now."""
        row = self.tree.inode(inode)
        if row is None or row.version != version:  # changed by ourselves since it was asked for
            return
        name = row.path.rpartition(b"/")[2]
        with contextlib.suppress(CacheError):  # a full index: readers learn it again when they ask again
            self.tree.mark_gone(inode)
            self.tree.touch_name(row.parent, name, 0)
            self.tree.postpone(row.parent, 0.0)
        self.pass_on(Changes(directories={row.parent}, entries=[(row.parent, name)]))

    def note_reader_error(self, error: CacheError) -> None:
        """An error that a reader sees. Logged here, where it is answered, and not below."""
        self.reader_errors += 1
        if str(error) != self.last_error:
            log.error("answered to a reader: %s: %s", error.kind.name, error)
        self.last_error = str(error)

    # -- damage

    def forget_damaged(self, inode: InodeNo, block: BlockIndex) -> bool:
        """Somebody found wrong bytes, or none: unless they are right by now, the block is a miss from here on. Return whether it
        was forgotten.

        They may well be right: a block that was fetched again lies where the damaged one lay, and a second reader, or the
        scrubber, reports what it saw before."""
        with self.index.read() as txn:
            extent = self.index.extents.get(txn, inode, block)
            row = self.index.inodes.get(txn, inode)
        if extent is None or (row is not None and self._check.is_intact(extent, row.identity, block)):
            return False
        self._forget(inode, block)
        tier = self.store.tiers[extent.tier]
        try:
            tier.changed_ns(extent.container)
        except FileNotFoundError:
            self.store.lose_container(tier, extent.container, inode)
        except OSError as error:
            tier.note_failure(error)
        return True

    def _forget(self, inode: InodeNo, block: BlockIndex) -> None:
        try:
            self.store.forget([(inode, block)])
            self.store.reclaim()
        except NoSpaceError as error:
            log.warning("a damaged block cannot be forgotten: %s", error)

    def close(self) -> None:
        self.workers.stop()
        self.sources.close()
        if self.peers is not None:
            self.peers.close()
