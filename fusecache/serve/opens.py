"""open(2): refusing to write, telling fetch which large files are being read, and finding containers for passthrough.

State: which inodes were opened lately. Any thread.
"""

from __future__ import annotations

import os

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import Op, Request
from fusecache.fuse.filesystem_protocol import Miss, MissClient, OpenAnswer
from fusecache.index.containers import ContainerKind
from fusecache.index.environment import Transaction
from fusecache.index.extents import Extent
from fusecache.index.index import Index
from fusecache.index.inodes import Inode, InodeFlag, InodeNo
from fusecache.serve.attributes import DIRECTORY, FILE
from fusecache.serve.recently import Recently
from fusecache.tiers.container_files import OpenContainers
from fusecache.tiers.marks import Marks

_WRITING_FLAGS = os.O_TRUNC | os.O_CREAT | os.O_APPEND
_OPENED_SECONDS = 5.0  # many workers open the same file at once; fetch needs to hear of it once. A guess
_REMEMBERED_OPENS = 4096
_NOTHING = OpenAnswer()


class Opens:
    def __init__(
        self,
        index: Index,
        containers: OpenContainers,
        marks: Marks,
        misses: MissClient,
        block_size: int,
        passthrough: bool,
    ) -> None:
        self._index = index
        self._containers = containers
        self._marks = marks
        self._misses = misses
        self._block_size = block_size
        self._passthrough = passthrough
        self._opened = Recently(_OPENED_SECONDS, _REMEMBERED_OPENS)

    def open(self, inode: InodeNo, flags: int) -> OpenAnswer:
        """As `Filesystem.open`."""
        if flags & os.O_ACCMODE != os.O_RDONLY or flags & _WRITING_FLAGS:
            raise CacheError(ErrorKind.READ_ONLY, "the mount is read-only")
        with self._index.begin_read() as txn:
            row = self._index.inodes.get(txn, inode)
            if row is None:
                raise CacheError(ErrorKind.STALE, f"inode {inode} is not in the index; look its name up again")
            if row.kind == DIRECTORY:
                raise CacheError(ErrorKind.IS_A_DIRECTORY, f"inode {inode} is a directory")
            if row.kind != FILE:
                raise CacheError(ErrorKind.INVALID, f"inode {inode} is a symbolic link")
            if row.flags & InodeFlag.NEEDS_STAT:
                raise Miss(Op.ATTRIBUTES, inode)
            is_new = row.size > self._block_size and self._opened.first_time(inode)
            fd = self._verified_container(txn, inode, row, is_new) if self._passthrough and row.size else -1
        if is_new:
            self._misses.tell(Request(Op.OPENED, inode=inode))
        return OpenAnswer(fd) if fd >= 0 else _NOTHING

    def _verified_container(self, txn: Transaction, inode: InodeNo, row: Inode, set_marks: bool) -> int:
        """Return a descriptor of the container that holds the whole object, verified by fetch and untouched since, or -1."""
        first = self._index.extents.get(txn, inode, 0)
        if first is None:
            return -1
        container = self._index.containers.get(txn, first.container)
        if (
            container is None
            or container.kind != ContainerKind.WHOLE_FILE
            or container.inode != inode
            or container.live_bytes != row.size
            or not container.written_ns
        ):
            return -1
        fd = self._open_untouched(first, container.written_ns, row.size)
        if fd >= 0 and set_marks:
            for _, extent in self._index.extents.of_inode(txn, inode):  # passthrough reads leave no marks
                self._marks.set(extent.order)
        return fd

    def _open_untouched(self, extent: Extent, written_ns: int, size: int) -> int:
        try:
            fd = self._containers.open_copy(extent.tier, extent.container)
        except (OSError, IndexError):
            return -1
        status = os.fstat(fd)
        if status.st_ctime_ns != written_ns or status.st_size != size:
            os.close(fd)
            return -1
        return fd
