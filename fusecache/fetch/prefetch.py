"""Read-ahead from the store: three patterns, recognised from misses and hints.

- *Sequential*: reads of one file that follow each other. What lies ahead of the reader is kept in flight, growing from
  START_AHEAD to MAX_AHEAD. One block of each window carries the prefetch mark; the reader that comes to it sends a hint, and
  the window moves on: hits alone would never reach fetch.
- *Sweep*: small files of one directory, one after the other in any order. Its remaining small files are fetched, in readdir
  order, many at once.
- *Whole dataset*: while everything known fits the tiers, a sweep goes on to the end; otherwise it stays a bounded number of
  files ahead.

Runs in fetch's loop, without checkpoints. Memory: LRU tables of fixed size.
"""

from __future__ import annotations

import collections
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

from fusecache.fetch.flights import Flights, split_runs
from fusecache.fetch.workers import Priority
from fusecache.index.environment import Transaction
from fusecache.index.extents import BlockIndex
from fusecache.index.inodes import Inode, InodeFlag, InodeNo
from fusecache.source.protocol import EntryKind
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.tier import align

START_AHEAD_BYTES = 4 << 20
MAX_AHEAD_BYTES = 128 << 20  # two of the longest ranges; three were no faster
# How far behind the newest of its misses one of the same stream may be: the kernel reads ahead, and several processes answer it.
OUT_OF_ORDER_BYTES = 16 << 20
SMALL_FILE_BYTES = 4 << 20  # files up to this take part in sweeps
SWEEP_AFTER = 2  # misses in one directory before its siblings are fetched
SWEEP_BATCH = 64  # files put in flight at once
SWEEP_MEMORY_BYTES = 32 << 20
SWEEP_PATIENCE_SECONDS = 5.0  # a sweep stops when nobody read in the directory for so long
SWEEP_AGAIN_SECONDS = 1.0  # a directory is not swept again before: it costs 10 us a file that is there
TRACKED_STREAMS = 1024
TRACKED_DIRECTORIES = 1024


@dataclass(slots=True)
class _Stream:
    next_block: BlockIndex
    ahead_bytes: int
    fetched_to: BlockIndex
    is_sequential: bool = False  # it began with the file, or a second read followed the first; until then it is random


@dataclass(slots=True)
class _Sweep:
    misses: int = 0
    last_read: float = 0.0
    position: int = 0  # seq of the last sibling looked at
    outstanding: int = 0
    outstanding_bytes: int = 0
    finished: bool = False
    finished_at: float = 0.0


class Prefetch:
    def __init__(self, store: BlockStore, flights: Flights, total_bytes: Callable[[], int], *, enabled: bool = True) -> None:
        """`total_bytes`: what everything known would take in the tiers."""
        self._store = store
        self._flights = flights
        self._total_bytes = total_bytes
        self._enabled = enabled
        self._streams: collections.OrderedDict[InodeNo, _Stream] = collections.OrderedDict()
        self._sweeps: collections.OrderedDict[InodeNo, _Sweep] = collections.OrderedDict()

    def note_miss(self, inode: InodeNo, row: Inode, first: BlockIndex, count: int) -> None:
        """A reader asked for these blocks and they are being fetched."""
        if not self._enabled:
            return
        if row.size > self._store.block_size:
            self._note_stream(inode, row, first, count)
        if row.size <= SMALL_FILE_BYTES:
            self._note_sweep(row.parent, missed=True)

    def note_hint(self, inode: InodeNo, row: Inode, block: BlockIndex) -> None:
        """A reader came to a block with the prefetch mark."""
        if row.size > self._store.block_size:
            stream = self._streams.get(inode)
            if stream is not None:
                stream.ahead_bytes = min(MAX_AHEAD_BYTES, stream.ahead_bytes * 2)
                self._extend(inode, row, stream, block + 1)
        if row.size <= SMALL_FILE_BYTES:
            self._note_sweep(row.parent, missed=False)

    # -- sequential

    def _note_stream(self, inode: InodeNo, row: Inode, first: BlockIndex, count: int) -> None:
        stream, end = self._streams.pop(inode, None), first + count
        slack = OUT_OF_ORDER_BYTES // self._store.block_size
        if (
            stream is None
            or not stream.next_block - slack <= first <= stream.fetched_to + 1
            or (first == 0 and stream.is_sequential)  # from the beginning once more
        ):
            stream = _Stream(end, START_AHEAD_BYTES, end)
        elif end > stream.next_block and first:
            stream.is_sequential = True
            stream.ahead_bytes = min(MAX_AHEAD_BYTES, stream.ahead_bytes * 2)
        if first == 0:
            stream.is_sequential = True
        stream.next_block = max(stream.next_block, end)
        stream.fetched_to = max(stream.fetched_to, end)
        self._remember(inode, stream)
        if stream.is_sequential:
            self._extend(inode, row, stream, stream.next_block)

    def _remember(self, inode: InodeNo, stream: _Stream) -> None:
        self._streams[inode] = stream
        if len(self._streams) > TRACKED_STREAMS:
            self._streams.popitem(last=False)

    def _extend(self, inode: InodeNo, row: Inode, stream: _Stream, position: BlockIndex) -> None:
        block_size = self._store.block_size
        stream.next_block = max(stream.next_block, position)
        last = -(-row.size // block_size)
        target = min(last, position + stream.ahead_bytes // block_size)
        start = max(stream.fetched_to, position)
        longest = self._flights.longest_run(row)
        # Half a range at least, but for the end of the file: small requests cost as much as large ones.
        if target <= start or (target - start < min(longest, stream.ahead_bytes // block_size) // 2 and target < last):
            return
        stream.fetched_to = target
        with self._store.index.read() as txn:
            missing = self._missing(txn, inode, start, target)
        for first, count in split_runs(missing, longest):
            # The mark on a range's first block: when a reader gets there, everything before it was useful.
            self._flights.start(inode, row, first, count, Priority.PREFETCH, marked=frozenset((first,)))

    def _missing(self, txn: Transaction, inode: InodeNo, start: BlockIndex, end: BlockIndex) -> list[BlockIndex]:
        return [
            block
            for block in range(start, end)
            if not self._flights.is_in_flight(inode, block) and self._store.index.extents.get(txn, inode, block) is None
        ]

    # -- sweeps

    def _note_sweep(self, directory: InodeNo, *, missed: bool) -> None:
        sweep = self._sweeps.pop(directory, None) or _Sweep()
        self._sweeps[directory] = sweep
        if len(self._sweeps) > TRACKED_DIRECTORIES:
            self._sweeps.popitem(last=False)
        sweep.misses += 1
        sweep.last_read = time.monotonic()
        if sweep.finished and missed and sweep.misses >= SWEEP_AFTER:
            # What it fetched was dropped or evicted since. Not at once: what misses may be something that it passed over.
            if sweep.last_read - sweep.finished_at < SWEEP_AGAIN_SECONDS:
                return
            sweep.finished, sweep.position = False, 0
        if sweep.misses >= SWEEP_AFTER and not sweep.finished:
            self._advance(directory, sweep)

    def tick(self) -> None:
        """Called after every batch of results: sweeps go on while their files arrive."""
        now = time.monotonic()
        active = []
        for directory, sweep in reversed(self._sweeps.items()):  # the table is in order of the last read
            if now - sweep.last_read > SWEEP_PATIENCE_SECONDS:
                break
            if not sweep.finished and sweep.misses >= SWEEP_AFTER:
                active.append((directory, sweep))
        for directory, sweep in active:
            self._advance(directory, sweep)

    def _advance(self, directory: InodeNo, sweep: _Sweep) -> None:
        if self._flights.bytes_in_flight > SWEEP_MEMORY_BYTES or self._flights.count_in_flight > 2 * SWEEP_BATCH:
            return
        room = self._room()
        if room <= 0:
            return
        index = self._store.index
        with index.read() as txn:
            rows = index.names.after(txn, directory, sweep.position, SWEEP_BATCH)
            files = [
                (name.seq, name.inode, found, self._small_and_missing(txn, name.inode, found))
                for name in rows
                if name.kind == EntryKind.FILE and (found := index.inodes.get(txn, name.inode)) is not None
            ]
            listed = None if rows else index.dirs.get(txn, directory)
        if not rows:
            if listed is not None and listed.is_complete:
                sweep.finished, sweep.finished_at, sweep.misses = True, time.monotonic(), 0
            return
        for seq, inode, row, missing in files:
            room -= align(row.size)
            if room < 0:
                return
            sweep.position = seq
            if missing and not self._flights.is_in_flight(inode, missing[0]):  # a hard link may have come a moment ago
                self._flights.start_missing(inode, row, missing, self._flights.longest_run(row), Priority.PREFETCH)
        sweep.position = rows[-1].seq

    def _small_and_missing(self, txn: Transaction, inode: InodeNo, row: Inode) -> list[BlockIndex]:
        """Return the blocks that a sweep fetches of a file: none of a large one."""
        if row.size > SMALL_FILE_BYTES or row.flags & InodeFlag.NEEDS_STAT:
            return []
        return self._missing(txn, inode, 0, -(-row.size // self._store.block_size))

    def _room(self) -> float:
        """Return how many bytes may be fetched ahead. It must not push out what came a moment ago: it fills free space, and has
        no bound only if everything fits."""
        capacity = sum(tier.quota_bytes for tier in self._store.tiers if not tier.is_failing())
        used = sum(tier.used_bytes for tier in self._store.tiers if not tier.is_failing())
        return math.inf if self._total_bytes() <= capacity * 0.95 else capacity * 0.9 - used
