"""The writer's side of the tiers: reserve a place, write (elsewhere), commit the extent; forget, move, and give space back.

Called by fetch's event loop only, and never across a checkpoint: each method leaves index, accounting and files consistent. The
order of effects is always bytes first, extent after; on the way out, extent first, bytes after. Worker threads only get a
`Place`.

What becomes of the space of a forgotten block is in forgotten.py.
"""

from __future__ import annotations

import collections
import errno
import logging
import os
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from fusecache.index.containers import Container, ContainerKind
from fusecache.index.environment import NoSpaceError, Transaction
from fusecache.index.extents import BlockIndex, Extent, ExtentFlag
from fusecache.index.index import Index
from fusecache.index.inodes import Inode, InodeFlag, InodeNo
from fusecache.tiers.admission import Admission
from fusecache.tiers.forgotten import Forgotten, Freed
from fusecache.tiers.held_bytes import HeldBytes, queue_of
from fusecache.tiers.marks import Marks
from fusecache.tiers.tier import Tier, align

log = logging.getLogger(__name__)

SEGMENT_BYTES = 64 << 20  # one descriptor and one inode for some hundred objects; small enough to become empty by itself
WHOLE_FILE_SHARE = 0.9  # a large file starts in the first tier of which it needs no more than this
REMEMBERED_CONTAINERS = 4096
LAST_TIER_STEPS = 256  # the last tier gives back at least this part at once: a transaction for each block costs 50 us
_ORPHAN = int(InodeFlag.ORPHAN)
_PROBATION = int(ExtentFlag.PROBATION)  # operations of the enum cost 1 us each
NUMBERS_AHEAD = 1024  # container numbers that are taken from the index at once

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
    """A block whose bytes lie at its place. `replaces`: the extent it was copied from, None for new bytes. `is_kept`: it is there
    to stay (warm), and not on probation."""

    inode: InodeNo
    block: BlockIndex
    place: Place
    checksums: tuple[int, ...]
    flags: int
    replaces: Extent | None = None
    is_kept: bool = False


class BlockStore:
    """Invariants: a block has at most one extent; live bytes in `meta` equal the sum over extents, cached bytes the sum over
    those whose object is the current version; a leased block is never forgotten by eviction."""

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
        self.forgotten = Forgotten(self.tiers)
        self._places: collections.Counter[tuple[int, int]] = collections.Counter()  # reservations in whole-file containers
        # Whole-file containers of which every byte was written by this process, with the ctime they had when last at rest: when
        # one becomes complete, it need not be read again before the kernel may have it.
        self._trusted: dict[int, int] = {}
        with index.read() as txn:
            meta = index.meta
            # Files of an earlier process may have any number below this, whether a row tells of them or not.
            self.next_container = self._numbers_end = meta.get(txn, "next_container", 1)
            self._next_order = meta.get(txn, "next_order", 1)
            self.held = HeldBytes.load(txn, meta, (tier.number for tier in self.tiers))
            self.hands = [meta.get(txn, f"hand:{tier.number}") for tier in self.tiers]
        for tier, live in zip(self.tiers, self.held.live, strict=True):
            tier.used_bytes = live
        last = self.tiers[-1] if self.tiers else None
        self.admission = Admission(-1 if last is None else last.number, 0 if last is None else self.relieved_bytes(last), marks)

    @property
    def cached_bytes(self) -> int:
        """Of current versions. The index has the only copy: what becomes an orphan changes it, too (fetch/tree.py)."""
        with self.index.read() as txn:
            return self.index.meta.get(txn, "cached_bytes")

    def relieved_bytes(self, tier: Tier) -> int:
        """Return down to what a tier above `high` is emptied. An upper one moves large batches down; the last one gives no more
        than it must: a block that left too early is fetched again. Writers have the room above `high`."""
        return tier.low_bytes if tier is not self.tiers[-1] else tier.high_bytes - tier.quota_bytes // LAST_TIER_STEPS

    # -- reserving

    def reserve(self, inode: InodeNo, row: Inode, block: BlockIndex, tiers: Iterable[Tier] | None = None) -> Place | None:
        """Return a place for a block in the first tier that can take it, or None if none can now."""
        length = min(self.block_size, row.size - block * self.block_size)
        for tier in self._candidates(inode, row) if tiers is None else tiers:
            if tier.is_failing() or not tier.fits(align(length)):
                continue
            try:
                try:
                    return self._reserve_in(tier, inode, row, block, length)
                except FileNotFoundError:  # a container that was removed behind our back: once more, with a new one
                    return self._reserve_in(tier, inode, row, block, length)
            except OSError as error:
                tier.note_failure(error)
        return None

    def _reserve_in(self, tier: Tier, inode: InodeNo, row: Inode, block: BlockIndex, length: int) -> Place:
        if row.size > self.block_size:
            return self._reserve_whole(tier, inode, block, length)
        return self._reserve_in_segment(tier, length)

    def can_ever_fit(self, length: int, count: int = 1) -> bool:
        """Whether eviction could make room for so many blocks of this length in the tiers that work."""
        return sum(tier.quota_bytes // align(length) for tier in self.tiers if not tier.is_failing()) >= count

    def _candidates(self, inode: InodeNo, row: Inode) -> list[Tier]:
        if row.size <= self.block_size:
            return self.tiers
        started = [tier for tier in self.tiers if (tier.number, inode) in self._whole]
        roomy = [tier for tier in self.tiers if tier.quota_bytes * WHOLE_FILE_SHARE >= row.size and tier not in started]
        return started + roomy + [tier for tier in self.tiers if tier not in started and tier not in roomy]

    def _reserve_whole(self, tier: Tier, inode: InodeNo, block: BlockIndex, length: int) -> Place:
        container, create = self._whole_container(tier, inode)
        try:
            fd = tier.duplicate_for_writing(container, create=create)
        except FileNotFoundError:
            self.lose_container(tier, container, inode)
            raise
        self._remember_whole(tier.number, inode, container)
        offset = block * self.block_size
        self._look_after(container, fd, create=create)
        tier.used_bytes += align(length) - self.forgotten.take_back(container, offset)
        self._users[container] += 1
        self._places[container, offset] += 1
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

    def _look_after(self, container: int, fd: int, *, create: bool) -> None:
        """Before the first of some writes: a container that somebody else touched is not trusted when it is complete."""
        if self._users[container]:
            return
        if create:
            self._trusted[container] = 0
        elif container in self._trusted and os.fstat(fd).st_ctime_ns != self._trusted[container]:
            del self._trusted[container]

    def _remember_whole(self, tier: int, inode: InodeNo, container: int) -> None:
        self._whole[(tier, inode)] = container
        self._whole.move_to_end((tier, inode))
        if len(self._whole) > REMEMBERED_CONTAINERS:
            oldest = next((key for key, value in self._whole.items() if not self._users[value]), None)
            if oldest is not None:
                container = self._whole.pop(oldest)
                self._created.discard(container)
                self._trusted.pop(container, None)

    def _reserve_in_segment(self, tier: Tier, length: int) -> Place:
        container, end = self._segments.get(tier.number, (0, SEGMENT_BYTES))
        if end + align(length) > SEGMENT_BYTES and end > 0:
            sealed, container, end = container, self._new_container(), 0
            self._segments[tier.number] = (container, 0)
            if sealed:
                self._unlink_if_empty(tier, sealed)
        try:
            fd = tier.duplicate_for_writing(container, create=end == 0 or container in self._created)
        except FileNotFoundError:
            self.lose_container(tier, container, 0)
            raise
        self._segments[tier.number] = (container, end + align(length))
        tier.used_bytes += align(length)
        self._users[container] += 1
        return Place(tier.number, container, end, length, fd, ContainerKind.SEGMENT)

    def _new_container(self) -> int:
        if self.next_container == self._numbers_end:
            try:
                with self.index.write() as txn:
                    self.index.meta.put(txn, "next_container", self._numbers_end + NUMBERS_AHEAD)
            except NoSpaceError as error:
                raise OSError(errno.ENOSPC, f"the index is full: {error}") from error
            self._numbers_end += NUMBERS_AHEAD
        container = self.next_container
        self.next_container += 1
        self._created.add(container)
        return container

    def release(self, place: Place) -> None:
        """Give a reservation back: nothing was written that anybody will read."""
        os.close(place.fd)
        self._end_use(place)
        tier = self.tiers[place.tier]
        whole = place.kind == ContainerKind.WHOLE_FILE
        key = (place.container, place.offset)
        if whole and (self._places[key] or self._is_live(place) or key in self.forgotten):
            tier.used_bytes -= align(place.length)  # the same block came there another way, and may have been forgotten since
        elif whole and self.forgotten.keeps(place.container):
            self.forgotten.keep(*key, align(place.length))
        else:
            tier.punch(place.container, place.offset, self._punched(place.length, whole=whole))
            tier.used_bytes -= align(place.length)
        self._unlink_if_empty(tier, place.container)

    def _punched(self, length: int, *, whole: bool) -> int:
        return min(align(length), self.block_size) if whole else align(length)

    def _is_live(self, place: Place) -> bool:
        """Whether an extent names the place, in a whole-file container."""
        with self.index.read() as txn:
            row = self.index.containers.get(txn, place.container)
            extent = None if row is None else self.index.extents.get(txn, row.inode, place.offset // self.block_size)
        return extent is not None and extent.container == place.container

    def _end_use(self, place: Place) -> None:
        container = place.container
        if place.kind == ContainerKind.WHOLE_FILE:
            self._places[container, place.offset] -= 1
            if not self._places[container, place.offset]:
                del self._places[container, place.offset]
        self._users[container] -= 1
        if not self._users[container]:
            del self._users[container]
            if container in self._trusted:
                self._trusted[container] = self._changed_ns(place.tier, container)

    # -- committing

    def commit(self, blocks: Sequence[Written], sizes: dict[InodeNo, int]) -> list[Written]:
        """Make written blocks visible, in one transaction. Return those that were not taken (an extent was there, or the inode
        is gone).

        `sizes` gives each inode's size. Raises NoSpaceError (nothing was changed; the places are still reserved).
        """
        refused = []
        taken = []
        held = self.held.copy()
        order = self._next_order
        completed: list[int] = []
        with self.index.write() as txn:
            cached = self.index.meta.get(txn, "cached_bytes")
            rows: dict[int, Container] = {}
            for block in blocks:
                place = block.place
                current = self.index.extents.get(txn, block.inode, block.block)
                inode_row = self.index.inodes.get(txn, block.inode)
                if current != block.replaces or inode_row is None:
                    refused.append(block)
                    continue
                taken.append(block)
                if current is None:
                    cached += 0 if inode_row.flags & _ORPHAN else place.length
                else:
                    self._detach(txn, rows, block.inode, block.block, current, held)
                flags = self._queued(block, order, held)
                extent = Extent(place.tier, flags, place.container, place.offset, place.length, order, block.checksums)
                self.index.extents.put(txn, block.inode, block.block, extent)
                self.index.order.put(txn, queue_of(extent), order, block.inode, block.block)
                order += 1
                held.add(extent)
                row = self._container_row(txn, rows, place, block.inode, sizes)
                row = row._replace(live_bytes=row.live_bytes + place.length, live_blocks=row.live_blocks + 1)
                if row.kind == ContainerKind.WHOLE_FILE and row.live_bytes == row.end:
                    completed.append(place.container)
                rows[place.container] = row
            for container in completed:
                if container in rows:
                    trusted = container in self._trusted
                    written_ns = self._changed_ns(rows[container].tier, container) if trusted else 0
                    rows[container] = rows[container]._replace(written_ns=written_ns)
            self._store_rows(txn, rows, held, cached, order)
            transaction = int(txn.id())
        self.held, self._next_order = held, order
        for block in taken:
            if block.replaces is None:
                self.admission.note_fetched(block.inode, block.block, align(block.place.length), is_kept=block.is_kept)
            os.close(block.place.fd)
            self._end_use(block.place)
            # What was forgotten there, while the same block was on its way there again.
            self.tiers[block.place.tier].used_bytes -= self.forgotten.take_back(block.place.container, block.place.offset)
            self._created.discard(block.place.container)
        self._after_detach(transaction, rows, [(b.replaces) for b in taken if b.replaces is not None])
        for block in refused:
            self.release(block.place)
        return refused

    def _queued(self, block: Written, order: int, held: HeldBytes) -> int:
        """Return the flags that tell in which queue the block will stand, and prepare its mark, before anybody can read it."""
        place, flags = block.place, block.flags & ~_PROBATION
        if not block.is_kept and self.admission.sends_to_probation(place.tier, held.main_of(place.tier), align(place.length)):
            flags |= _PROBATION
        if place.tier == self.tiers[-1].number and not flags & _PROBATION:
            self.marks.set(order)  # idle since now, whether it is read or not
        else:
            self.marks.clear(order)  # what another block of this slot left
        return flags

    def keep(self, blocks: Sequence[tuple[InodeNo, BlockIndex, Extent]]) -> None:
        """Somebody wants these cached blocks to stay. Raises NoSpaceError (what is on probation stays there)."""
        for inode, block, extent in blocks:
            self.marks.set(extent.order)
            self.admission.note_kept(inode, block)
        if on_probation := [(inode, block) for inode, block, extent in blocks if extent.flags & _PROBATION]:
            self.promote(on_probation)

    def promote(self, blocks: Iterable[BlockId]) -> None:
        """Move these blocks from probation to the end of the other queue. Raises NoSpaceError (nothing was changed)."""
        held, order = self.held.copy(), self._next_order
        with self.index.write() as txn:
            for inode, block in blocks:
                extent = self.index.extents.get(txn, inode, block)
                if extent is None or not extent.flags & _PROBATION:
                    continue
                moved = extent._replace(flags=extent.flags & ~_PROBATION, order=order)
                self.marks.move(extent.order, order)
                self.index.order.delete(txn, queue_of(extent), extent.order)
                self.index.order.put(txn, queue_of(moved), order, inode, block)
                self.index.extents.put(txn, inode, block, moved)
                held.remove(extent)
                held.add(moved)
                order += 1
            self._store_rows(txn, {}, held, self.index.meta.get(txn, "cached_bytes"), order)
        self.held, self._next_order = held, order

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

    def _store_rows(self, txn: Transaction, rows: dict[int, Container], held: HeldBytes, cached: int, order: int) -> None:
        for container, row in rows.items():
            if row.live_blocks == 0 and not self._is_in_use(container, row.tier):
                self.index.containers.delete(txn, container)
            else:
                self.index.containers.put(txn, container, row)
        meta = self.index.meta
        meta.put(txn, "next_order", order)
        meta.put(txn, "cached_bytes", cached)
        held.store(txn, meta)
        for tier in self.tiers:
            meta.put(txn, f"hand:{tier.number}", self.hands[tier.number])

    # -- forgetting

    def forget(self, blocks: Iterable[BlockId]) -> int:
        """Drop the extents of these blocks, if they have any; return the bytes. Raises NoSpaceError."""
        held = self.held.copy()
        gone: list[Extent] = []
        is_current: dict[InodeNo, bool] = {}
        with self.index.write() as txn:
            cached = self.index.meta.get(txn, "cached_bytes")
            rows: dict[int, Container] = {}
            for inode, block in blocks:
                extent = self.index.extents.get(txn, inode, block)
                if extent is None:
                    continue
                self._detach(txn, rows, inode, block, extent, held)
                self.index.extents.delete(txn, inode, block)
                if inode not in is_current:
                    row = self.index.inodes.get(txn, inode)
                    is_current[inode] = row is not None and not row.flags & _ORPHAN
                cached -= extent.length if is_current[inode] else 0
                gone.append(extent)
            self._store_rows(txn, rows, held, cached, self._next_order)
            transaction = int(txn.id())
        self.held = held
        self._after_detach(transaction, rows, gone)
        return sum(extent.length for extent in gone)

    def _detach(
        self, txn: Transaction, rows: dict[int, Container], inode: InodeNo, block: BlockIndex, extent: Extent, held: HeldBytes
    ) -> None:
        """Take an extent out of its tier's queue and its container's row."""
        self.index.order.delete(txn, queue_of(extent), extent.order)
        held.remove(extent)
        row = rows.get(extent.container) or self.index.containers.get(txn, extent.container)
        if row is None:
            return
        rows[extent.container] = row._replace(live_bytes=row.live_bytes - extent.length, live_blocks=row.live_blocks - 1)

    def _after_detach(self, transaction: int, rows: dict[int, Container], extents: Iterable[Extent]) -> None:
        for extent in extents:
            row = rows.get(extent.container)
            self._trusted.pop(extent.container, None)
            if row is not None and row.written_ns and self.keep_whole:
                self.forgotten.keep(extent.container, extent.offset, align(extent.length))
            else:
                punched = self._punched(extent.length, whole=row is None or row.kind == ContainerKind.WHOLE_FILE)
                place = (extent.tier, extent.container, extent.offset)
                self.forgotten.wait(Freed(transaction, *place, align(extent.length), punched))
        for container, row in rows.items():
            if row.live_blocks == 0 and not self._is_in_use(container, row.tier):
                self._unlink(self.tiers[row.tier], container)

    def is_being_written(self, container: int) -> bool:
        return self._users[container] > 0

    def _is_in_use(self, container: int, tier: int) -> bool:
        return self._users[container] > 0 or self._segments.get(tier, (0, 0))[0] == container

    def lose_container(self, tier: Tier, container: int, inode: InodeNo) -> None:
        """The container's file is gone: write nothing more to it, and forget the blocks of `inode` (0: of none) that were in it.
        Other blocks of a segment are found missing by their readers, one by one."""
        log.info("container %x of tier %s is gone; what was in it is fetched again", container, tier.path)
        tier.forget(container)
        self._trusted.pop(container, None)
        if self._segments.get(tier.number, (0, 0))[0] == container:
            del self._segments[tier.number]
        if self._whole.get((tier.number, inode)) == container:
            del self._whole[tier.number, inode]
        if inode:
            with self.index.read() as txn:
                extents = list(self.index.extents.of_inode(txn, inode))
            try:
                self.forget((inode, block) for block, extent in extents if extent.container == container)
            except NoSpaceError as error:
                log.warning("blocks of a container that is gone cannot be forgotten: %s", error)
        self._unlink_if_empty(tier, container)

    def unlink_if_empty(self, tier: int, container: int) -> None:
        """Remove a container that an earlier process left without blocks."""
        self._unlink_if_empty(self.tiers[tier], container)

    def trim_whole(self, container: int) -> None:
        """Punch out what lies in a whole-file container and belongs to no block: an earlier process died before it committed."""
        with self.index.read() as txn:
            row = self.index.containers.get(txn, container)
            if row is None:
                return
            taken = {
                extent.offset: extent.length
                for _, extent in self.index.extents.of_inode(txn, row.inode)
                if extent.container == container
            }
        taken.update({offset: self.block_size for other, offset in self._places if other == container})
        taken.update(dict.fromkeys(self.forgotten.offsets(container), self.block_size))
        position = 0
        for offset in sorted([*taken, align(row.end)]):
            if offset > position:
                self.tiers[row.tier].punch(container, position, offset - position)
            position = offset + taken.get(offset, 0)

    def _unlink_if_empty(self, tier: Tier, container: int) -> None:
        if self._is_in_use(container, tier.number):
            return
        with self.index.read() as txn:
            row = self.index.containers.get(txn, container)
        if row is not None and row.live_blocks:
            return
        if row is not None:
            try:
                with self.index.write() as txn:
                    self.index.containers.delete(txn, container)
            except NoSpaceError as error:  # it stays, empty, until the next start looks for such
                log.warning("container %x of tier %s cannot be removed: %s", container, tier.path, error)
                return
        self._unlink(tier, container)

    def _unlink(self, tier: Tier, container: int) -> None:
        tier.unlink(container)
        self._created.discard(container)
        for key in [key for key, value in self._whole.items() if value == container and key[0] == tier.number]:
            del self._whole[key]
        self._trusted.pop(container, None)
        tier.used_bytes -= self.forgotten.drop(container)

    def reclaim(self) -> bool:
        """Punch out what no reader can name any more. Return whether something is still waiting for a reader."""
        return self.forgotten.is_waiting and self.forgotten.punch(self.index.env.oldest_reader(), self._places)

    def cached_of(self, inode: InodeNo) -> int:
        with self.index.read() as txn:
            return sum(extent.length for _, extent in self.index.extents.of_inode(txn, inode))

    def mark_orphans_cold(self, inodes: Iterable[InodeNo]) -> None:
        """Blocks of replaced objects are the first to go."""
        with self.index.read() as txn:
            for inode in inodes:
                row = self.index.inodes.get(txn, inode)
                if row is None or not row.flags & InodeFlag.ORPHAN:
                    continue
                for _, extent in self.index.extents.of_inode(txn, inode):
                    self.marks.chill(extent.order)
