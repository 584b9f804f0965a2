"""The writer's side of the tiers: reserve a place, write (elsewhere), commit the extent; forget, move, and give space back.

Called by fetch's event loop only, and never across a checkpoint: each method leaves index, accounting and files consistent. The
order of effects is always bytes first, extent after; on the way out, extent first, bytes after. Worker threads only get a
`Place`.

Space of a forgotten block is given back by punching a hole once no reader's snapshot can name the block any more. A whole-file
container that was complete once may be open in the kernel (passthrough), which reads it without asking us: it is never punched,
it leaves by unlink.
"""

from __future__ import annotations

import collections
import logging
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fusecache.index.containers import Container, ContainerKind
from fusecache.index.environment import Transaction
from fusecache.index.extents import BlockIndex, Extent
from fusecache.index.index import Index
from fusecache.index.inodes import Inode, InodeFlag, InodeNo
from fusecache.tiers.marks import Marks
from fusecache.tiers.tier import Tier, align

log = logging.getLogger(__name__)

SEGMENT_BYTES = 64 << 20  # one descriptor and one inode for some hundred objects; small enough to become empty by itself
WHOLE_FILE_SHARE = 0.9  # a large file starts in the first tier of which it needs no more than this
REMEMBERED_CONTAINERS = 4096

BlockId = tuple[InodeNo, BlockIndex]


class Place(NamedTuple):
    """Where a block is to be written. `fd` is the holder's own: closed by `release` or `commit`."""

    tier: int
    container: int
    offset: int
    length: int
    fd: int
    kind: int


class Written(NamedTuple):
    """A block whose bytes lie at its place. `replaces`: the extent it was copied from, None for new bytes."""

    inode: InodeNo
    block: BlockIndex
    place: Place
    checksums: tuple[int, ...]
    flags: int
    replaces: Extent | None = None


class _Freed(NamedTuple):
    transaction: int
    tier: int
    container: int
    offset: int
    length: int


class BlockStore:
    """Invariants: a block has at most one extent; live bytes in `meta` equal the sum over extents; a leased block is never
    forgotten by eviction."""

    def __init__(self, index: Index, tiers: Sequence[Tier], marks: Marks, block_size: int, *, keep_whole: bool) -> None:
        """`keep_whole`: containers may be open for passthrough."""
        self.index = index
        self.tiers = list(tiers)
        self.marks = marks
        self.block_size = block_size
        self.keep_whole = keep_whole
        self.leases: collections.Counter[BlockId] = collections.Counter()
        self._users: collections.Counter[int] = collections.Counter()  # reservations per container
        self._segments: dict[int, tuple[int, int]] = {}  # tier -> (container, end)
        self._whole: collections.OrderedDict[tuple[int, InodeNo], int] = collections.OrderedDict()
        self._created: set[int] = set()
        self._freed: collections.deque[_Freed] = collections.deque()
        self._unpunched: dict[int, dict[int, int]] = {}  # container -> offset -> bytes that were forgotten but still take space
        with index.read() as txn:
            meta = index.meta
            self._next_container = meta.get(txn, "next_container", 1)
            self._next_order = meta.get(txn, "next_order", 1)
            self.cached_bytes = meta.get(txn, "cached_bytes")
            self._live = [meta.get(txn, f"used:{tier.number}") for tier in self.tiers]
            self.hands = [meta.get(txn, f"hand:{tier.number}") for tier in self.tiers]
        for tier, live in zip(self.tiers, self._live, strict=True):
            tier.used_bytes = live

    # -- reserving

    def reserve(self, inode: InodeNo, row: Inode, block: BlockIndex, tiers: Iterable[Tier] | None = None) -> Place | None:
        """Return a place for a block in the first tier that can take it, or None if none can now."""
        length = min(self.block_size, row.size - block * self.block_size)
        for tier in self._candidates(inode, row) if tiers is None else tiers:
            if tier.is_failing() or not tier.fits(align(length)):
                continue
            try:
                if row.size > self.block_size:
                    return self._reserve_whole(tier, inode, block, length)
                return self._reserve_in_segment(tier, length)
            except OSError as error:
                tier.note_failure(error)
        return None

    def can_ever_fit(self, length: int) -> bool:
        """Whether eviction could make room for a block of this length in some tier that works."""
        return any(not tier.is_failing() and tier.quota_bytes >= align(length) for tier in self.tiers)

    def _candidates(self, inode: InodeNo, row: Inode) -> list[Tier]:
        if row.size <= self.block_size:
            return self.tiers
        started = [tier for tier in self.tiers if (tier.number, inode) in self._whole]
        roomy = [tier for tier in self.tiers if tier.quota_bytes * WHOLE_FILE_SHARE >= row.size and tier not in started]
        return started + roomy + [tier for tier in self.tiers if tier not in started and tier not in roomy]

    def _reserve_whole(self, tier: Tier, inode: InodeNo, block: BlockIndex, length: int) -> Place:
        container, create = self._whole_container(tier, inode)
        fd = tier.duplicate_for_writing(container, create=create)
        self._remember_whole(tier.number, inode, container)
        offset = block * self.block_size
        still_there = self._unpunched.get(container)
        if still_there is not None and offset in still_there:
            del still_there[offset]
        else:
            tier.used_bytes += align(length)
        self._users[container] += 1
        return Place(tier.number, container, offset, length, fd, ContainerKind.WHOLE_FILE)

    def _whole_container(self, tier: Tier, inode: InodeNo) -> tuple[int, bool]:
        known = self._whole.get((tier.number, inode))
        if known is not None:
            return known, known in self._created
        with self.index.read() as txn:
            for _, extent in self.index.extents.of_inode(txn, inode):
                if extent.tier == tier.number:
                    return extent.container, False
        container = self._new_container()
        return container, True

    def _remember_whole(self, tier: int, inode: InodeNo, container: int) -> None:
        self._whole[(tier, inode)] = container
        self._whole.move_to_end((tier, inode))
        if len(self._whole) > REMEMBERED_CONTAINERS:
            oldest = next((key for key, value in self._whole.items() if not self._users[value]), None)
            if oldest is not None:
                self._created.discard(self._whole.pop(oldest))

    def _reserve_in_segment(self, tier: Tier, length: int) -> Place:
        container, end = self._segments.get(tier.number, (0, SEGMENT_BYTES))
        if end + align(length) > SEGMENT_BYTES and end > 0:
            sealed, container, end = container, self._new_container(), 0
            self._segments[tier.number] = (container, 0)
            if sealed:
                self._unlink_if_empty(tier, sealed)
        fd = tier.duplicate_for_writing(container, create=end == 0 or container in self._created)
        self._segments[tier.number] = (container, end + align(length))
        tier.used_bytes += align(length)
        self._users[container] += 1
        return Place(tier.number, container, end, length, fd, ContainerKind.SEGMENT)

    def _new_container(self) -> int:
        container = self._next_container
        self._next_container += 1
        self._created.add(container)
        return container

    def release(self, place: Place) -> None:
        """Give a reservation back: nothing was written that anybody will read."""
        os.close(place.fd)
        self._end_use(place.container)
        tier = self.tiers[place.tier]
        if place.container in self._unpunched and place.kind == ContainerKind.WHOLE_FILE:
            self._unpunched[place.container][place.offset] = align(place.length)
        else:
            tier.punch(place.container, place.offset, align(place.length))
            tier.used_bytes -= align(place.length)
        self._unlink_if_empty(tier, place.container)

    def _end_use(self, container: int) -> None:
        self._users[container] -= 1
        if self._users[container] <= 0:
            del self._users[container]

    # -- committing

    def commit(self, blocks: Sequence[Written], sizes: dict[InodeNo, int]) -> list[Written]:
        """Make written blocks visible, in one transaction. Return those that were not taken (an extent was there, or the inode
        is gone).

        `sizes` gives each inode's size. Raises NoSpaceError (nothing was changed; the places are still reserved).
        """
        refused = []
        taken = []
        live = list(self._live)
        cached, order = self.cached_bytes, self._next_order
        completed: list[int] = []
        with self.index.write() as txn:
            rows: dict[int, Container] = {}
            for block in blocks:
                place = block.place
                current = self.index.extents.get(txn, block.inode, block.block)
                if current != block.replaces or self.index.inodes.get(txn, block.inode) is None:
                    refused.append(block)
                    continue
                taken.append(block)
                if current is None:
                    cached += place.length
                else:
                    self._detach(txn, rows, block.inode, block.block, current, live)
                extent = Extent(place.tier, block.flags, place.container, place.offset, place.length, order, block.checksums)
                self.index.extents.put(txn, block.inode, block.block, extent)
                self.index.order.put(txn, place.tier, order, block.inode, block.block)
                order += 1
                live[place.tier] += align(place.length)
                row = self._container_row(txn, rows, place, block.inode, sizes)
                row = row._replace(live_bytes=row.live_bytes + place.length, live_blocks=row.live_blocks + 1)
                if row.kind == ContainerKind.WHOLE_FILE and row.live_bytes == row.end:
                    completed.append(place.container)
                rows[place.container] = row
            for container in completed:
                if container in rows:
                    rows[container] = rows[container]._replace(written_ns=self._changed_ns(rows[container].tier, container))
            self._store_rows(txn, rows, live, cached, order)
            transaction = int(txn.id())
        self._live, self.cached_bytes, self._next_order = live, cached, order
        for block in taken:
            os.close(block.place.fd)
            self._end_use(block.place.container)
            self._created.discard(block.place.container)
        self._after_detach(transaction, rows, [(b.replaces) for b in taken if b.replaces is not None])
        for block in refused:
            self.release(block.place)
        return refused

    def _container_row(
        self, txn: Transaction, rows: dict[int, Container], place: Place, inode: InodeNo, sizes: dict[InodeNo, int]
    ) -> Container:
        row = rows.get(place.container) or self.index.containers.get(txn, place.container)
        if row is not None:
            return row
        whole = place.kind == ContainerKind.WHOLE_FILE
        return Container(place.tier, place.kind, inode if whole else 0, sizes[inode] if whole else SEGMENT_BYTES, 0, 0, 0)

    def _changed_ns(self, tier: int, container: int) -> int:
        try:
            return self.tiers[tier].changed_ns(container)
        except OSError:
            return 0

    def _store_rows(self, txn: Transaction, rows: dict[int, Container], live: list[int], cached: int, order: int) -> None:
        for container, row in rows.items():
            if row.live_blocks == 0 and not self._is_in_use(container, row.tier):
                self.index.containers.delete(txn, container)
            else:
                self.index.containers.put(txn, container, row)
        meta = self.index.meta
        meta.put(txn, "next_container", self._next_container)
        meta.put(txn, "next_order", order)
        meta.put(txn, "cached_bytes", cached)
        for tier in self.tiers:
            meta.put(txn, f"used:{tier.number}", live[tier.number])
            meta.put(txn, f"hand:{tier.number}", self.hands[tier.number])

    # -- forgetting

    def forget(self, blocks: Iterable[BlockId]) -> int:
        """Drop the extents of these blocks, if they have any; return the bytes. Raises NoSpaceError."""
        live = list(self._live)
        cached = self.cached_bytes
        gone: list[Extent] = []
        with self.index.write() as txn:
            rows: dict[int, Container] = {}
            for inode, block in blocks:
                extent = self.index.extents.get(txn, inode, block)
                if extent is None:
                    continue
                self._detach(txn, rows, inode, block, extent, live)
                self.index.extents.delete(txn, inode, block)
                cached -= extent.length
                gone.append(extent)
            self._store_rows(txn, rows, live, cached, self._next_order)
            transaction = int(txn.id())
        self._live, self.cached_bytes = live, cached
        self._after_detach(transaction, rows, gone)
        return sum(extent.length for extent in gone)

    def _detach(
        self, txn: Transaction, rows: dict[int, Container], inode: InodeNo, block: BlockIndex, extent: Extent, live: list[int]
    ) -> None:
        """Take an extent out of its tier's queue and its container's row."""
        self.index.order.delete(txn, extent.tier, extent.order)
        live[extent.tier] -= align(extent.length)
        row = rows.get(extent.container) or self.index.containers.get(txn, extent.container)
        if row is None:
            return
        rows[extent.container] = row._replace(live_bytes=row.live_bytes - extent.length, live_blocks=row.live_blocks - 1)

    def _after_detach(self, transaction: int, rows: dict[int, Container], extents: Iterable[Extent]) -> None:
        for extent in extents:
            row = rows.get(extent.container)
            if row is not None and row.written_ns and self.keep_whole:
                self._unpunched.setdefault(extent.container, {})[extent.offset] = align(extent.length)
            else:
                self._freed.append(_Freed(transaction, extent.tier, extent.container, extent.offset, align(extent.length)))
        for container, row in rows.items():
            if row.live_blocks == 0 and not self._is_in_use(container, row.tier):
                self._unlink(self.tiers[row.tier], container)

    def _is_in_use(self, container: int, tier: int) -> bool:
        return self._users[container] > 0 or self._segments.get(tier, (0, 0))[0] == container

    def _unlink_if_empty(self, tier: Tier, container: int) -> None:
        if self._is_in_use(container, tier.number):
            return
        with self.index.read() as txn:
            row = self.index.containers.get(txn, container)
        if row is None or row.live_blocks == 0:
            if row is not None:
                with self.index.write() as txn:
                    self.index.containers.delete(txn, container)
            self._unlink(tier, container)

    def _unlink(self, tier: Tier, container: int) -> None:
        tier.unlink(container)
        self._created.discard(container)
        for key in [key for key, value in self._whole.items() if value == container and key[0] == tier.number]:
            del self._whole[key]
        kept: collections.deque[_Freed] = collections.deque()
        for freed in self._freed:
            if freed.container == container:
                tier.used_bytes -= freed.length
            else:
                kept.append(freed)
        self._freed = kept
        tier.used_bytes -= sum(self._unpunched.pop(container, {}).values())

    def reclaim(self) -> bool:
        """Punch out what no reader can name any more. Return whether something is still waiting for a reader."""
        if not self._freed:
            return False
        oldest = self.index.env.oldest_reader()
        while self._freed and (oldest is None or oldest >= self._freed[0].transaction):
            freed = self._freed.popleft()
            tier = self.tiers[freed.tier]
            tier.punch(freed.container, freed.offset, freed.length)
            tier.used_bytes -= freed.length
        return bool(self._freed)

    def cached_of(self, inode: InodeNo) -> int:
        with self.index.read() as txn:
            return sum(extent.length for _, extent in self.index.extents.of_inode(txn, inode))

    def mark_orphans_cold(self, inodes: Iterable[InodeNo]) -> None:
        """Blocks of replaced objects are the first to go: clear their marks."""
        with self.index.read() as txn:
            for inode in inodes:
                row = self.index.inodes.get(txn, inode)
                if row is None or not row.flags & InodeFlag.ORPHAN:
                    continue
                for _, extent in self.index.extents.of_inode(txn, inode):
                    self.marks.take(extent.order)
