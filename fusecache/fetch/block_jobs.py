"""What worker threads do with blocks: read a range from a source and write it to its places; copy a block from tier to tier.

Threads get everything they need as arguments (descriptors are their own duplicates' numbers, open as long as the job runs) and
touch no shared state.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable
from typing import NamedTuple

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.buffer_pool import POOLED_BYTES, BufferPool
from fusecache.source.pieces import take_pieces
from fusecache.source.protocol import ReadInto, Source
from fusecache.tiers.block_store import Place
from fusecache.tiers.checksums import block_checksums, damaged_granule

Checksums = tuple[int, ...]
Take = Callable[[memoryview], None]
Announce = Callable[[list[tuple[int, Checksums]]], None]

ANNOUNCED_BYTES = 4 << 20  # of a long range at once: each announcement is a transaction of the index


class TierWriteError(CacheError):
    """A tier did not take bytes that the store gave."""

    def __init__(self, tier: int, error: OSError) -> None:
        super().__init__(ErrorKind.NO_SPACE, f"tier {tier}: {error}")
        self.tier = tier
        self.os_error = error


class Range(NamedTuple):
    """Consecutive blocks of one object, to be read with one request."""

    path: bytes
    version: bytes
    identity: int
    offset: int
    length: int
    places: tuple[Place | None, ...]  # one per block; None: not wanted


def fetch_range(source: Source, wanted: Range, granule_size: int, buffers: BufferPool) -> list[Checksums]:
    """Read a range as a whole and write its blocks. Returns the checksums of each block; every one has a place."""
    if wanted.length < POOLED_BYTES or not isinstance(source, ReadInto):
        data = memoryview(source.read(wanted.path, wanted.version, wanted.offset, wanted.length))
        return write_range(source, wanted, granule_size, data)
    with buffers.borrow(wanted.length) as target:
        source.read_into(wanted.path, wanted.version, wanted.offset, target)
        return write_range(source, wanted, granule_size, target)


def write_range(source: Source, wanted: Range, granule_size: int, data: memoryview) -> list[Checksums]:
    if len(data) != wanted.length:
        raise CacheError(ErrorKind.UNAVAILABLE, f"{source.url}: {len(data)} bytes arrived where {wanted.length} were asked for")
    results: list[Checksums] = []
    start = 0
    pending: tuple[Place, int, int] | None = None  # blocks that lie side by side are written with one call
    for place in wanted.places:
        if place is None:
            raise AssertionError("a range request has a place for every block")
        end = start + place.length
        results.append(block_checksums(data[start:end], wanted.identity, wanted.offset + start, granule_size))
        if pending and pending[0].container == place.container and place.offset - pending[0].offset == start - pending[1]:
            pending = (pending[0], pending[1], end)
        else:
            if pending:
                write_all(pending[0], data[pending[1] : pending[2]])
            pending = (place, start, end)
        start = end
    if pending:
        write_all(pending[0], data[pending[1] : pending[2]])
    return results


def stream_range(
    source: Source,
    wanted: Range,
    granule_size: int,
    block_size: int,
    buffers: BufferPool,
    announce: Announce,
) -> None:
    """Read a range block by block, writing each that has a place as it completes."""

    def read_through(buffer: memoryview, take: Take) -> None:
        if isinstance(source, ReadInto):
            source.read_through(wanted.path, wanted.version, wanted.offset, wanted.length, buffer, take)
        else:
            pieces = source.stream(wanted.path, wanted.version, wanted.offset, wanted.length)
            take_pieces(pieces, wanted.length, buffer, take, source.url)

    stream_blocks(read_through, wanted, granule_size, block_size, buffers, announce)


def stream_blocks(
    read_through: Callable[[memoryview, Take], None],
    wanted: Range,
    granule_size: int,
    block_size: int,
    buffers: BufferPool,
    announce: Announce,
) -> None:
    """Write the blocks that `read_through` puts into a buffer of one block and takes to us, one after the other.

    `announce` gets what was written, as (number, checksums), in groups of ANNOUNCED_BYTES, and what is left at the end, also when
    that is an error. A single block's buffer goes round: what is received, summed and written stays in the processor's cache."""
    number = 0
    done: list[tuple[int, Checksums]] = []

    def finish(block: memoryview) -> None:
        nonlocal number
        place = wanted.places[number]
        if place is not None:
            checksums = block_checksums(block, wanted.identity, wanted.offset + number * block_size, granule_size)
            write_all(place, block)
            done.append((number, checksums))
            if len(done) * block_size >= ANNOUNCED_BYTES:
                announce(done.copy())
                done.clear()
        number += 1

    try:
        with buffers.borrow(min(block_size, wanted.length)) as buffer:
            read_through(buffer, finish)
    finally:
        if done:
            announce(done)


def fetch_into(source: Source, path: bytes, version: bytes, offset: int, length: int, memory: mmap.mmap, at: int) -> None:
    """Read a range into the bounce buffer."""
    data = source.read(path, version, offset, length)
    if len(data) != length:
        raise CacheError(ErrorKind.UNAVAILABLE, f"{source.url}: {len(data)} bytes arrived where {length} were asked for")
    memory[at : at + length] = data if isinstance(data, bytes) else memoryview(data)


def copy_block(
    source_fd: int, offset: int, place: Place, identity: int, object_offset: int, checksums: Checksums, granule_size: int
) -> None:
    """Copy a block to another tier, verifying it on the way. Raises: CORRUPT; TierWriteError."""
    buffer = bytearray(place.length)
    try:
        got = os.preadv(source_fd, [buffer], offset)
    except OSError as error:
        raise CacheError(ErrorKind.CORRUPT, f"a cached block cannot be read: {error}") from error
    view = memoryview(buffer)
    if got != place.length or damaged_granule(view, checksums, identity, object_offset, granule_size, 0) is not None:
        raise CacheError(ErrorKind.CORRUPT, "a cached block does not match its checksum")
    write_all(place, view)


def write_all(place: Place, data: memoryview) -> None:
    """Raises: TierWriteError."""
    offset = place.offset
    try:
        while data:
            written = os.pwrite(place.fd, data, offset)
            offset += written
            data = data[written:]
    except OSError as error:
        raise TierWriteError(place.tier, error) from error
