"""Keeps the tiers below their watermarks: demotes from tier to tier, evicts from the last one, gives space back.

One task in fetch's loop; copying is done by worker threads. It is woken whenever a block was committed or a flight waits for
room.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from fusecache.base.counters import CounterPage
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.block_jobs import TierWriteError, copy_block
from fusecache.fetch.workers import Gate, Priority
from fusecache.index.environment import NoSpaceError
from fusecache.index.inodes import Inode
from fusecache.tiers.block_store import BlockStore, Place, Written
from fusecache.tiers.container_files import container_path
from fusecache.tiers.eviction import pick_victims
from fusecache.tiers.tier import Tier
from fusecache.tiers.victims import MAX_VICTIMS, Search, Victim

log = logging.getLogger(__name__)

BATCH_BYTES = 16 << 20  # what one round moves or evicts: a compromise between transactions and overshoot
READER_POLL_SECONDS = 0.002  # how soon to look again whether readers' snapshots have moved on


class _Move(NamedTuple):
    victim: Victim
    row: Inode
    place: Place


class Evictor:
    def __init__(
        self, store: BlockStore, gate: Gate, counters: CounterPage, granule_size: int, room_was_made: Callable[[], None]
    ) -> None:
        self._store = store
        self._gate = gate
        self._counters = counters
        self._granule_size = granule_size
        self._room_was_made = room_was_made
        self._wake = trio.Event()
        self._needed = 0  # bytes that found no place since the last round
        self._at_rest = trio.Event()

    def wake(self) -> None:
        """Cheap: called for every batch of blocks."""
        if any(tier.used_bytes > tier.high_bytes for tier in self._store.tiers):
            self._wake.set()

    def need_room(self, size: int) -> None:
        """So many bytes found no place: make some even below the watermark."""
        self._needed = max(self._needed, size)
        self._wake.set()

    async def wait_at_rest(self) -> None:
        """Wait until nothing leaves a tier, and nothing is about to."""
        while self._wake.is_set() or not self._at_rest.is_set():
            await self._at_rest.wait()

    async def run(self) -> None:
        while True:
            self._at_rest.set()
            await self._wake.wait()
            self._wake, self._at_rest = trio.Event(), trio.Event()
            needed, self._needed = self._needed, 0
            before = self._used_bytes()
            try:
                for tier in reversed(self._store.tiers):  # the last first, so that demotion finds room
                    await self._relieve(tier, needed)
                await self._reclaim()
            except NoSpaceError as error:
                log.warning("nothing can leave the cache: %s", error)
                await trio.sleep(1)
            if needed and self._used_bytes() < before:  # else the flights would ask again at once, in a circle
                self._room_was_made()

    def _used_bytes(self) -> int:
        return sum(tier.used_bytes for tier in self._store.tiers)

    async def _relieve(self, tier: Tier, needed: int) -> None:
        # Bytes may find no place although the tier is below `high`: quotas of a few blocks, or a long range.
        needed = min(needed, tier.quota_bytes)
        if tier.used_bytes <= tier.high_bytes and tier.fits(needed):
            return
        search = Search()
        target = self._store.relieved_bytes(tier)
        while tier.used_bytes > target or not tier.fits(needed):
            before = tier.used_bytes
            missing = max(self._store.block_size, before - target, before + needed - tier.quota_bytes)
            want = min(BATCH_BYTES, missing)
            victims = pick_victims(self._store, tier, want, search)
            if not victims:
                if search.is_over:
                    return
                await trio.lowlevel.checkpoint()
                continue
            below = self._store.tiers[tier.number + 1 :]
            if below and not tier.is_failing():
                await self._demote(victims, below)
            else:
                await self._evict(victims)
            await self._reclaim()
            if tier.used_bytes >= before:
                return  # everything that may leave is held by somebody: try again when woken
            self._room_was_made()
            await trio.lowlevel.checkpoint()

    async def _evict(self, victims: Sequence[Victim]) -> None:
        """Many only where a large file leaves as a whole: then in several steps, without what was leased in between."""
        for first in range(0, len(victims), MAX_VICTIMS):
            blocks = [(victim.inode, victim.block) for victim in victims[first : first + MAX_VICTIMS]]
            freed = self._store.forget(block for block in blocks if not self._store.leases[block])
            self._counters.add(Counter.EVICTED_BYTES, freed)
            if first + MAX_VICTIMS < len(victims):
                await trio.lowlevel.checkpoint()

    async def _demote(self, victims: Sequence[Victim], below: Sequence[Tier]) -> None:
        moves: list[_Move] = []
        dropped: list[Victim] = []
        with self._store.index.read() as txn:
            rows = {victim.inode: self._store.index.inodes.get(txn, victim.inode) for victim in victims}
        for victim in victims:
            row = rows[victim.inode]
            place = None if row is None else self._store.reserve(victim.inode, row, victim.block, below)
            if row is None or place is None:
                dropped.append(victim)
            else:
                moves.append(_Move(victim, row, place))
        if moves:
            written, failed = await self._gate.call(lambda: self._copy(moves), Priority.WARM)
            try:
                refused = self._store.commit(written, {move.victim.inode: move.row.size for move in moves})
            except NoSpaceError:
                for move in moves:
                    self._store.release(move.place)
                raise
            self._counters.add(
                Counter.DEMOTED_BYTES, sum(block.place.length for block in written) - sum(b.place.length for b in refused)
            )
            for move, error in failed:
                if isinstance(error, TierWriteError):
                    self._store.tiers[error.tier].note_failure(error.os_error)
                else:
                    self._counters.add(Counter.FETCH_CHECKSUM_FAILURES)
                self._store.release(move.place)
                dropped.append(move.victim)
        if dropped:
            await self._evict(dropped)

    def _copy(self, moves: Sequence[_Move]) -> tuple[list[Written], list[tuple[_Move, CacheError]]]:
        """In a worker thread."""
        written: list[Written] = []
        failed: list[tuple[_Move, CacheError]] = []
        open_fds: dict[int, int] = {}
        try:
            for move in moves:
                extent = move.victim.extent
                try:
                    fd = open_fds.get(extent.container, -1)
                    if fd < 0:
                        path = container_path(self._store.tiers[extent.tier].path, extent.container)
                        fd = open_fds[extent.container] = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
                    offset = move.victim.block * self._store.block_size
                    copy_block(fd, extent.offset, move.place, move.row.identity, offset, extent.checksums, self._granule_size)
                except (CacheError, OSError) as error:
                    failed.append((move, error if isinstance(error, CacheError) else _unreadable(error)))
                    continue
                flags = extent.flags
                written.append(Written(move.victim.inode, move.victim.block, move.place, extent.checksums, flags, extent))
        finally:
            for fd in open_fds.values():
                os.close(fd)
        return written, failed

    async def _reclaim(self) -> None:
        for _ in range(50):  # readers hold a snapshot for the length of one reply
            if not self._store.reclaim():
                return
            await trio.sleep(READER_POLL_SECONDS)
        self._store.index.env.check_readers()


def _unreadable(error: OSError) -> CacheError:
    return CacheError(ErrorKind.CORRUPT, f"a cached block cannot be read: {error}")
