"""The filesystem of a mount, read out of the index and the tiers. Implements `fuse.filesystem_protocol.Filesystem`.

Holds no state of its own but short memories that may be lost at any time (questions, hints). Called by the engine from any
thread; only reads the index; never waits for fetch: what is not here raises Miss."""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Concatenate, NoReturn, ParamSpec, TypeVar, cast

from fusecache.contract import run_files
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import Answer, Op
from fusecache.contract.mount_spec import Access, Medium, MountSpec, Verify
from fusecache.contract.process import ExitCode
from fusecache.fuse.filesystem_protocol import (
    Attributes,
    Buffer,
    DirectoryPart,
    EntryAnswer,
    Miss,
    OpenAnswer,
    Statfs,
)
from fusecache.index.directories import DirectoryFlag
from fusecache.index.environment import NoSpaceError, Transaction, translate_errors
from fusecache.index.index import Index
from fusecache.index.inodes import Inode, InodeFlag, InodeNo
from fusecache.index.sealed import IndexDamagedError
from fusecache.serve.attributes import DIRECTORY, SYMLINK, attributes_of
from fusecache.serve.block_reader import BlockReader, Geometry
from fusecache.serve.freshness import Freshness
from fusecache.serve.listings import Listings
from fusecache.serve.miss_client import LeasingMissClient
from fusecache.serve.opens import Opens
from fusecache.serve.written_files import StageGoneError, WrittenFiles
from fusecache.serve.xattrs import Xattrs
from fusecache.tiers.container_files import OpenContainers
from fusecache.tiers.marks import Marks

log = logging.getLogger(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

_LOOKS = 100  # at a file that is opened and closed again and again meanwhile
_MAX_NAME_BYTES = 255
_STATFS_BLOCK = 4096
_SYNTHETIC = int(DirectoryFlag.SYNTHETIC)
_NEEDS_STAT = int(InodeFlag.NEEDS_STAT)
_CHECK_BY_NAME = int(InodeFlag.CHECK_BY_NAME)


def exit_for_a_new_index(damage: IndexDamagedError) -> NoReturn:
    """End this process at once, so that the supervisor lets fetch drop the index. Parked requests are in the shared memory."""
    log.critical("the index is damaged (%s); it is rebuilt from the store", damage)
    os._exit(ExitCode.INDEX_DAMAGED)


def _guarded(
    method: Callable[Concatenate[CacheFilesystem, _P], _R],
) -> Callable[Concatenate[CacheFilesystem, _P], _R]:
    """No exception of the index leaves the filesystem. (An `except` that does not match costs nothing on the way of a hit.)"""

    @functools.wraps(method)
    def guarded(self: CacheFilesystem, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return method(self, *args, **kwargs)
        except (Miss, CacheError):
            raise
        except StageGoneError:
            return look_again(self, *args, **kwargs)
        except Exception as error:
            self._examine(error)
            raise

    def look_again(self: CacheFilesystem, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        for _ in range(_LOOKS):
            with contextlib.suppress(StageGoneError):
                return method(self, *args, **kwargs)
        raise CacheError(
            ErrorKind.STALE, "the index tells of a stage that is not there; was something removed from the state directory?"
        )

    return cast("Callable[Concatenate[CacheFilesystem, _P], _R]", guarded)


class CacheFilesystem:
    def __init__(
        self,
        index: Index,
        marks: Marks,
        spec: MountSpec,
        misses: LeasingMissClient,
        counters: memoryview,
        *,
        access: Access = Access.OPENLESS,
        bounce_fd: int = -1,
        source_urls: Mapping[int, str] | None = None,
        stages_full: Callable[[], bool] = lambda: False,
        clock: Callable[[], float] = time.time,
        on_index_damaged: Callable[[IndexDamagedError], None] = exit_for_a_new_index,
    ) -> None:
        """
        Args:
            counters: this process's page of the shared memory as u64 (contract.shared_memory.Counter); only CHECKSUM_FAILURES
            is written here. access: PASSTHROUGH lets `open` hand out containers. bounce_fd: the bounce buffer; stays the
            caller's. source_urls: by the `source` of an inode row. stages_full: what is written has reached its
            quota. on_index_damaged: is not expected to return.
        """
        self._index = index
        self._spec = spec
        self._misses = misses
        self._bounce_fd = bounce_fd
        self._on_index_damaged = on_index_damaged
        self._attributes = attributes_of(spec)
        in_memory = [number for number, tier in enumerate(spec.tiers) if tier.medium is Medium.MEM]
        self._containers = OpenContainers([tier.path for tier in spec.tiers], in_memory=in_memory)
        self._freshness = Freshness(spec.ttl_seconds, clock)
        geometry = self._read_geometry()
        self._listings = Listings(index, self._freshness, self._attributes, spec.ttl_seconds, read_write=spec.read_write)
        self._blocks = BlockReader(index, self._containers, marks, geometry, misses, counters)
        passthrough = access is Access.PASSTHROUGH and spec.verify is not Verify.ALWAYS and not spec.read_write
        self._written = (
            WrittenFiles(index, Path(spec.state_dir) / run_files.STAGE_DIR, self._blocks.read, misses, stages_full)
            if spec.read_write
            else None
        )
        self._opens = Opens(index, self._containers, marks, misses, geometry.block_size, passthrough)
        self._xattrs = Xattrs(index, source_urls or {}, read_write=spec.read_write)

    def on_wait(self, callback: Callable[[], None]) -> None:
        self._containers.before_waiting = callback

    def close(self) -> None:
        """Close containers and stages; the index and the marks stay the caller's."""
        self._containers.close()
        if self._written is not None:
            self._written.close()

    def close_removed_containers(self) -> None:
        """Let go of what fetch removed, or it takes space until the next read. From any thread, about once a second."""
        self._containers.close_removed()
        if self._written is not None:
            self._written.close_removed()

    @_guarded
    def lookup(self, parent: int, name: bytes) -> EntryAnswer:
        if len(name) > _MAX_NAME_BYTES:
            raise CacheError(ErrorKind.NAME_TOO_LONG, f"a name of {len(name)} bytes; {_MAX_NAME_BYTES} are possible")
        index = self._index
        with index.begin_read() as txn:
            if name in (b".", b".."):
                return self._lookup_dots(txn, parent, name)
            row = index.names.get(txn, parent, name)
            directory = index.dirs.get(txn, parent)
            if row is None:
                if directory is None:
                    self._require_directory(txn, parent)
                if self._spec.close_to_open and not (directory is not None and directory.flags & _SYNTHETIC):
                    raise Miss(Op.LOOKUP, parent, name=name)  # if it is nothing, fetch answers so
                seconds = self._freshness.check_name(parent, name, directory, None, False)
                return EntryAnswer(None, min(seconds, self._spec.negative_ttl_seconds), 0.0)
            inode_row = self._row(txn, row.inode)
            by_name = bool(inode_row.flags & _CHECK_BY_NAME)
            seconds = self._freshness.check_name(parent, name, directory, row, by_name)
            if inode_row.flags & _NEEDS_STAT:
                raise Miss(Op.ATTRIBUTES, row.inode)
            attributes = self._attributes(self._number(txn, row.inode), inode_row)
            attributes = self._current(txn, row.inode, attributes)
            return EntryAnswer(attributes, seconds, self._spec.ttl_seconds)

    def _lookup_dots(self, txn: Transaction, parent: InodeNo, name: bytes) -> EntryAnswer:
        own = self._require_directory(txn, parent)
        inode = parent if name == b"." else own.parent or parent
        return EntryAnswer(self._attributes(inode, self._row(txn, inode)), 0.0, self._spec.ttl_seconds)

    @_guarded
    def getattr(self, inode: int) -> tuple[Attributes, float]:
        with self._index.begin_read() as txn:
            now = self._index.writes.resolve(txn, inode) if self._written is not None else inode
            row = self._row(txn, now)
            attributes = self._current(txn, now, self._attributes(inode, row))
        if row.flags & _NEEDS_STAT:
            raise Miss(Op.ATTRIBUTES, now)
        return attributes, self._spec.ttl_seconds

    @_guarded
    def readlink(self, inode: int) -> bytes:
        with self._index.begin_read() as txn:
            row = self._row(txn, inode)
        if row.kind != SYMLINK:
            raise CacheError(ErrorKind.INVALID, f"inode {inode} is no symbolic link")
        if row.flags & _NEEDS_STAT:
            raise Miss(Op.ATTRIBUTES, inode)
        return row.target

    @_guarded
    def opendir(self, inode: int) -> bool:
        return self._listings.opendir(inode)

    @_guarded
    def readdir(self, inode: int, offset: int, count: int, plus: bool) -> DirectoryPart:
        return self._listings.readdir(inode, offset, count, plus)

    @_guarded
    def open(self, inode: int, flags: int) -> OpenAnswer:
        if self._written is not None:
            inode, found = self._written.find(inode)
            if found is not None:
                return OpenAnswer()
        return self._opens.open(inode, flags)

    @_guarded
    def read(self, inode: int, offset: int, size: int) -> Sequence[Buffer]:
        if self._written is not None:
            return self._written.read(inode, offset, size)
        return self._blocks.read(inode, offset, size)

    # -- writing

    @_guarded
    def write(self, inode: int, offset: int, data: Buffer) -> int:
        return self._writable().write(inode, offset, data)

    @_guarded
    def truncate(self, inode: int, size: int) -> None:
        self._writable().truncate(inode, size)

    @_guarded
    def allocate(self, inode: int, offset: int, size: int) -> None:
        self._writable().allocate(inode, offset, size)

    @_guarded
    def is_written(self, inode: int) -> bool:
        return self._writable().is_written(inode)

    @_guarded
    def made(self, inode: int) -> EntryAnswer:
        with self._index.begin_read() as txn:
            number = self._number(txn, inode)
        attributes, seconds = self.getattr(number)
        return EntryAnswer(attributes, self._spec.ttl_seconds, seconds)

    def _writable(self) -> WrittenFiles:
        if self._written is None:
            raise CacheError(ErrorKind.READ_ONLY, "the mount is read-only")
        return self._written

    def _number(self, txn: Transaction, inode: InodeNo) -> InodeNo:
        """Return by which number the kernel knows an inode."""
        return inode if self._written is None else self._index.writes.known_as(txn, inode)

    def _current(self, txn: Transaction, inode: InodeNo, attributes: Attributes) -> Attributes:
        """Return attributes as they are now, where a file is being written."""
        if self._written is None:
            return attributes
        found = self._index.writes.stage_of(txn, inode)
        return attributes if found is None else self._written.overlay(found[0], attributes)

    def read_bounced(self, answer: Answer) -> Sequence[Buffer]:
        data = os.pread(self._bounce_fd, answer.size, answer.offset)
        lost = self._misses.lost_request(answer.token)
        if lost is not None:
            # fetch died after it answered: its successor may have put other bytes there while they were copied.
            raise Miss(lost.op, lost.inode, lost.offset, lost.size)
        if len(data) != answer.size:
            raise CacheError(ErrorKind.BUG, "the bounce buffer is shorter than fetch said; please report this")
        return (data,)

    def keep_bounced(self, miss: Miss, answer: Answer) -> None:
        self._writable().keep_bounced(miss.inode, miss.offset, b"".join(self.read_bounced(answer)))

    def end_miss(self, miss: Miss) -> None:
        self._freshness.end_miss(miss)

    @_guarded
    def statfs(self) -> Statfs:
        """Used is the size of the data, free is what the tiers can still take."""
        meta = self._index.meta
        with self._index.begin_read() as txn:
            total_bytes, files = meta.get(txn, "total_bytes"), meta.get(txn, "files")
            used_bytes = sum(meta.get(txn, f"used:{tier}") for tier in range(len(self._spec.tiers)))
        free = max(0, sum(tier.quota_bytes for tier in self._spec.tiers) - used_bytes) // _STATFS_BLOCK
        return Statfs(_STATFS_BLOCK, -(-total_bytes // _STATFS_BLOCK) + free, free, files, 0, _MAX_NAME_BYTES)

    @_guarded
    def getxattr(self, inode: int, name: bytes) -> bytes:
        return self._xattrs.get(inode, name)

    @_guarded
    def listxattr(self, inode: int) -> Sequence[bytes]:
        return self._xattrs.list(inode)

    def _row(self, txn: Transaction, inode: InodeNo) -> Inode:
        row = self._index.inodes.get(txn, inode)
        if row is None:
            raise CacheError(ErrorKind.STALE, f"inode {inode} is not in the index; look its name up again")
        return row

    def _require_directory(self, txn: Transaction, inode: InodeNo) -> Inode:
        row = self._row(txn, inode)
        if row.kind != DIRECTORY:
            raise CacheError(ErrorKind.NOT_A_DIRECTORY, f"inode {inode} is not a directory")
        return row

    def _read_geometry(self) -> Geometry:
        meta, spec = self._index.meta, self._spec
        with self._index.read() as txn:
            return Geometry(
                meta.get(txn, "block_size", spec.block_size_bytes), meta.get(txn, "granule_size", spec.granule_size_bytes)
            )

    def _examine(self, error: Exception) -> None:
        """Find out whether an exception means that the index cannot be trusted. Raises CacheError if the index is the cause at
        all."""
        try:
            with translate_errors():
                raise error
        except IndexDamagedError as damage:
            self._on_index_damaged(damage)
            raise CacheError(ErrorKind.UNAVAILABLE, "the index is damaged; it is rebuilt from the store") from error
        except NoSpaceError as full:
            raise CacheError(ErrorKind.UNAVAILABLE, str(full)) from error
        except Exception:
            return
