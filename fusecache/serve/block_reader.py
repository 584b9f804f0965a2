"""Bytes of a file out of the tiers: extents, pread, checksums; what is missing or damaged becomes a Miss.

State: open descriptors of containers (theirs to manage), one buffer for each thread, which blocks were hinted at lately. Any
thread.

Invariants: no byte is returned whose granule did not match its checksum; the read transaction is held until the bytes are in
the private buffer, as fetch punches out a range only when no older transaction is left."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import NamedTuple

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import Op, Request
from fusecache.contract.shared_memory import Counter
from fusecache.fuse.filesystem_protocol import Buffer, Miss, MissClient
from fusecache.index.extents import BlockIndex, Extent, ExtentFlag
from fusecache.index.index import Index
from fusecache.index.inodes import Inode, InodeFlag, InodeNo
from fusecache.serve.attributes import DIRECTORY, FILE
from fusecache.serve.recently import Recently
from fusecache.tiers.checksums import damaged_granule
from fusecache.tiers.container_files import OpenContainers
from fusecache.tiers.marks import Marks

log = logging.getLogger(__name__)

_HINT_SECONDS = 2.0  # a marked block is read in several requests; fetch needs to hear of it once. A guess
_REMEMBERED_HINTS = 1024
_PREFETCH_MARK = int(ExtentFlag.PREFETCH_MARK)
_GONE = int(InodeFlag.GONE)
_NEEDS_STAT = int(InodeFlag.NEEDS_STAT)


class Geometry(NamedTuple):
    """What the index's extents were written with; block_size is a multiple of granule_size."""

    block_size: int
    granule_size: int


class BlockReader:
    def __init__(
        self,
        index: Index,
        containers: OpenContainers,
        marks: Marks,
        geometry: Geometry,
        misses: MissClient,
        counters: memoryview,
    ) -> None:
        self._begin_read = index.begin_read
        self._get_inode = index.inodes.get
        self._get_extent = index.extents.get
        self._containers = containers
        self._marks = marks
        self._geometry = geometry
        self._misses = misses
        self._counters = counters
        self._hinted = Recently(_HINT_SECONDS, _REMEMBERED_HINTS)
        self._local = threading.local()
        self._largest = geometry.block_size + 2 * geometry.granule_size  # a READ of one block's size that begins anywhere

    def read(self, inode: InodeNo, offset: int, size: int) -> Sequence[Buffer]:
        """As `Filesystem.read`. The piece lies in this thread's buffer, until the thread's next read.

        Raises: Miss(READ), Miss(ATTRIBUTES), STALE, IS_A_DIRECTORY, INVALID; lmdb's own errors."""
        block_size, granule_size = self._geometry
        with self._begin_read() as txn:
            row = self._get_inode(txn, inode)
            if row is None or row.kind != FILE or row.flags & _NEEDS_STAT:
                raise _unreadable(inode, row)
            file_size = row.size
            end = min(offset + size, file_size)
            if offset >= end:
                return ()
            start = offset - offset % granule_size
            stop = min(end + -end % granule_size, file_size)
            buffer = self._private_buffer(stop - start)
            position = start
            while position < stop:
                block = position // block_size
                block_start = block * block_size
                piece_stop = min(stop, block_start + block_size)
                extent = self._get_extent(txn, inode, block)
                if extent is None:
                    raise _missing(inode, row, offset, end - offset)
                piece = buffer[position - start : piece_stop - start]
                if extent.length != min(block_size, file_size - block_start) or not self._fill(
                    piece, extent, row.identity, block_start, position - block_start
                ):
                    self._report_damage(inode, block, extent)
                    raise _missing(inode, row, offset, end - offset)
                self._marks.set(extent.order)
                if extent.flags & _PREFETCH_MARK:
                    self._hint(inode, block)
                position = piece_stop
            return (buffer[offset - start : end - start],)

    def _private_buffer(self, length: int) -> memoryview:
        """Return `length` bytes of this thread's own. Fresh memory for each read costs more than the read (page faults)."""
        try:
            view: memoryview = self._local.view
        except AttributeError:
            view = memoryview(b"")
        if len(view) < length:
            view = self._local.view = memoryview(bytearray(max(length, self._largest)))
        return view[:length]

    def _fill(self, piece: memoryview, extent: Extent, identity: int, block_start: int, within: int) -> bool:
        """Read whole granules of a block, from offset `within` of it on. Return False if they are not what was written."""
        try:
            count = self._containers.pread_into(extent.tier, extent.container, piece, extent.offset + within)
        except (OSError, IndexError) as error:  # IndexError: a tier that is not in the spec any more
            log.debug("container %d of tier %d cannot be read: %s", extent.container, extent.tier, error)
            return False
        granule_size = self._geometry.granule_size
        return (
            count == len(piece)
            and damaged_granule(piece, extent.checksums, identity, block_start, granule_size, within // granule_size) is None
        )

    def _report_damage(self, inode: InodeNo, block: BlockIndex, extent: Extent) -> None:
        """Tell fetch to forget the block, ahead of the miss that follows on the same connection."""
        log.warning("block %d of inode %d is damaged or gone in container %d; fetching it again", block, inode, extent.container)
        self._containers.forget(extent.tier, extent.container)
        self._counters[Counter.CHECKSUM_FAILURES] += 1
        self._misses.tell(Request(Op.DAMAGED, inode=inode, offset=block))

    def _hint(self, inode: InodeNo, block: BlockIndex) -> None:
        if self._hinted.first_time((inode, block)):
            self._misses.tell(Request(Op.HINT, inode=inode, offset=block))


def _missing(inode: InodeNo, row: Inode, offset: int, size: int) -> Exception:
    if row.flags & _GONE:
        return CacheError(
            ErrorKind.STALE, f"inode {inode}: its version is gone from the store and not all of it is cached; open it again"
        )
    return Miss(Op.READ, inode, offset, size)


def _unreadable(inode: InodeNo, row: Inode | None) -> Exception:
    if row is None:
        return CacheError(ErrorKind.STALE, f"inode {inode} is not in the index; look its name up again")
    if row.kind == DIRECTORY:
        return CacheError(ErrorKind.IS_A_DIRECTORY, f"inode {inode} is a directory")
    if row.kind != FILE:
        return CacheError(ErrorKind.INVALID, f"inode {inode} is a symbolic link")
    return Miss(Op.ATTRIBUTES, inode)
