"""Files that are being written: their new bytes on top of the version they began with. Only on mounts that may be written.

State: open stages, bounded. Any thread; the kernel lets one thread at a time write or truncate a file, and any number read it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import Op, Request
from fusecache.fuse.filesystem_protocol import Attributes, Buffer, Miss, MissClient
from fusecache.index.index import Index
from fusecache.index.inodes import InodeNo
from fusecache.tiers.stage import Stage

TO_STORE = 1  # size of a SYNC that waits for the store, whatever is written back
_MAX_IDLE = 256  # stages kept open that nobody uses at the moment
_TOLD_SECONDS = 0.1  # fetch hears of new bytes this often at most: it uploads parts of many MiB
TOLD_FROM_BYTES = 16 << 20  # a smaller file goes to the store as a whole, when it is closed
_MAX_BOUNCED = 64  # each of at most one READ
_SECTOR_BYTES = 512

ReadBase = Callable[[InodeNo, int, int], Sequence[Buffer]]


class StageGoneError(Exception):
    """The index said that a file is being written, and it was closed since: what else it said of the file is old, too. Look
    again."""


class _Open:
    __slots__ = ("stage", "users")

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.users = 0


class WrittenFiles:
    """Invariant: a stage is closed only while nobody uses it: its descriptors' numbers may be given out again."""

    def __init__(
        self, index: Index, directory: Path, read_base: ReadBase, misses: MissClient, is_full: Callable[[], bool] = lambda: False
    ) -> None:
        """`is_full`: what is written and not uploaded has reached its quota."""
        self._is_full = is_full
        self._index = index
        self._directory = directory
        self._read_base = read_base
        self._misses = misses
        self._lock = threading.Lock()
        self._open: OrderedDict[int, _Open] = OrderedDict()
        self._told: dict[InodeNo, float] = {}
        self._bounced: OrderedDict[tuple[InodeNo, int], bytes] = OrderedDict()

    def is_written(self, inode: InodeNo) -> bool:
        return self.find(inode)[1] is not None

    def find(self, inode: InodeNo) -> tuple[InodeNo, tuple[int, InodeNo] | None]:
        """Return what the kernel's number stands for, and its stage and base."""
        writes = self._index.writes
        with self._index.begin_read() as txn:
            inode = writes.resolve(txn, inode)
            return inode, writes.stage_of(txn, inode)

    def read(self, inode: InodeNo, offset: int, size: int) -> Sequence[Buffer]:
        """Return the bytes. Raises: Miss(READ), also for what is needed of the base; StageGoneError."""
        inode, found = self.find(inode)
        if found is None:
            return self._read_base(inode, offset, size)
        number, base = found
        with self._use(number) as stage:
            if stage is None:
                raise StageGoneError
            runs = stage.runs(offset, size)
            if not runs:
                return ()
            target = memoryview(bytearray(runs[-1].end - offset))
            for run in runs:
                piece = target[run.start - offset : run.end - offset]
                if not run.is_new:
                    self._copy_base(base, run.start, piece)
                elif stage.pread_into(piece, run.start) < len(piece):
                    pass  # cut off meanwhile: the rest is zeros, as the kernel would have it
            return (target,)

    def write(self, inode: InodeNo, offset: int, data: Buffer) -> int:
        """Write, and return how much. Raises: Miss(READ) for what is needed of the base; STALE; NO_SPACE."""
        if self._is_full():
            raise CacheError(ErrorKind.NO_SPACE, "what is written and not in the store yet has reached its quota (stage_quota)")
        with self._required(inode) as (stage, base):
            try:
                for start, end in stage.wanted(offset, len(data)):
                    piece = memoryview(bytearray(end - start))
                    self._copy_base(base, start, piece)
                    stage.fill(start, piece)
                stage.write(offset, data)
            except OSError as error:
                raise _no_room(error) from error
        if offset + len(data) < TOLD_FROM_BYTES:
            return len(data)
        now = time.monotonic()
        if now - self._told.get(inode, 0.0) > _TOLD_SECONDS:
            if len(self._told) > _MAX_IDLE:
                self._told.clear()
            self._told[inode] = now
            self._misses.tell(Request(Op.WROTE, inode=inode))
        return len(data)

    def truncate(self, inode: InodeNo, size: int) -> None:
        """Raises: STALE; NO_SPACE; INVALID for more than a file system takes. Miss(SYNC) for bytes that were acknowledged and are
        in the journal only: they have to be in the store before they are cut off, as what follows may never be acknowledged."""
        with self._required(inode) as (stage, _):
            if size < stage.size and stage.has_record():
                raise Miss(Op.SYNC, inode, size=TO_STORE)
            try:
                stage.truncate(size)
            except OSError as error:
                raise _no_room(error) from error

    def allocate(self, inode: InodeNo, offset: int, size: int) -> None:
        with self._required(inode) as (stage, _):
            try:
                stage.allocate(offset, size)
            except OSError as error:
                raise _no_room(error) from error

    def overlay(self, number: int, attributes: Attributes) -> Attributes:
        """Size and times are those of what was written. Raises: StageGoneError."""
        with self._use(number) as stage:
            if stage is None:
                raise StageGoneError
            status = os.fstat(stage.fd)
            return attributes._replace(
                size=status.st_size,
                mtime_ns=status.st_mtime_ns,
                ctime_ns=max(status.st_mtime_ns, attributes.ctime_ns),  # a chmod changes no byte
                blocks=-(-status.st_size // _SECTOR_BYTES),
            )

    def close_removed(self) -> None:
        """Let go of stages that fetch has removed, or their bytes take space. About once a second."""
        with self._lock:
            idle = [(number, held) for number, held in self._open.items() if not held.users]
            for number, held in idle:
                if os.fstat(held.stage.fd).st_nlink == 0:
                    del self._open[number]
                    held.stage.close()

    def close(self) -> None:
        with self._lock:
            for held in self._open.values():
                held.stage.close()
            self._open.clear()

    @contextlib.contextmanager
    def _required(self, inode: InodeNo) -> Iterator[tuple[Stage, InodeNo]]:
        """Yield stage and base of a file that is being written."""
        _, found = self.find(inode)
        number, base = (0, 0) if found is None else found
        with self._use(number) as stage:
            if stage is None:
                raise CacheError(ErrorKind.STALE, f"inode {inode} was opened for writing and is not any more; open it again")
            yield stage, base

    @contextlib.contextmanager
    def _use(self, number: int) -> Iterator[Stage | None]:
        held = self._take(number)
        if held is None:
            yield None
            return
        try:
            yield held.stage
        finally:
            with self._lock:
                held.users -= 1
                if not held.users and self._open.get(number) is not held:
                    held.stage.close()

    def _take(self, number: int) -> _Open | None:
        with self._lock:
            held = self._open.get(number)
            if held is None:
                try:
                    held = _Open(Stage.open(self._directory, f"{number:x}"))
                except CacheError as error:
                    if error.kind is ErrorKind.NOT_FOUND:
                        return None
                    raise
                self._open[number] = held
                self._close_idle()
            self._open.move_to_end(number)
            held.users += 1
            return held

    def _close_idle(self) -> None:
        """Under the lock."""
        surplus = len(self._open) - _MAX_IDLE
        for number in [number for number, held in self._open.items() if not held.users][: max(0, surplus)]:
            self._open.pop(number).stage.close()

    def keep_bounced(self, inode: InodeNo, offset: int, data: bytes) -> None:
        """Bytes of the base that no tier could take: for the operation that missed them, which comes again at once."""
        with self._lock:
            self._bounced[inode, offset] = data
            while len(self._bounced) > _MAX_BOUNCED:
                self._bounced.popitem(last=False)

    def _copy_base(self, inode: InodeNo, start: int, target: memoryview) -> None:
        with self._lock:
            bounced = self._bounced.pop((inode, start), b"")
        if len(bounced) == len(target):
            target[:] = bounced
            return
        at = 0
        try:
            pieces = self._read_base(inode, start, len(target))
        except Miss as miss:
            raise Miss(miss.op, miss.inode, miss.offset, miss.size, miss.name, is_part=True) from None
        for piece in pieces:
            target[at : at + len(piece)] = piece
            at += len(piece)
        if at < len(target):
            raise CacheError(ErrorKind.BUG, f"inode {inode}: its base ends {len(target) - at} bytes early; please report this")


def _no_room(error: OSError) -> CacheError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return CacheError(ErrorKind.NO_SPACE, "the disk of the cache directory is full: what is written has no place")
    return CacheError(
        ErrorKind.INVALID if error.errno in (errno.EINVAL, errno.EFBIG) else ErrorKind.UNAVAILABLE, f"cannot be written: {error}"
    )
