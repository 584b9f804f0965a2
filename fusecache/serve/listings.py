"""opendir and readdir out of the index: listings that grow while they are read, and whether the kernel's copy is still right.

State: which `changes` of a directory this process saw at its last opendir, bounded. Any thread.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.messages import Op
from fusecache.fuse.filesystem_protocol import Attributes, DirectoryEntry, DirectoryPart, Miss
from fusecache.index.directories import FIRST_SEQ
from fusecache.index.environment import Transaction
from fusecache.index.index import Index
from fusecache.index.inodes import ROOT, Inode, InodeFlag, InodeHead, InodeNo
from fusecache.index.names import SeqRow
from fusecache.serve.attributes import DIRECTORY, KIND_MODES
from fusecache.serve.freshness import Freshness

_MAX_ENTRIES = 4096  # of one answer, whatever is asked for: a READDIR of 1 MiB holds more, but comes again
_REMEMBERED_DIRECTORIES = 16384  # about 2 MB; a directory that is forgotten costs the kernel one more readdir
_OWN, _PARENT = 1, 2  # offsets after "." and ".."
_CHECK_BY_NAME = int(InodeFlag.CHECK_BY_NAME)
_NEEDS_STAT = int(InodeFlag.NEEDS_STAT)


class Listings:
    def __init__(
        self,
        index: Index,
        freshness: Freshness,
        attributes: Callable[[InodeNo, Inode | InodeHead], Attributes],
        ttl_seconds: float,
        *,
        read_write: bool = False,
    ) -> None:
        """`read_write`: files may be written, and known to the kernel by other numbers than their versions have."""
        self._index = index
        self._freshness = freshness
        self._attributes = attributes
        self._ttl = ttl_seconds
        self._read_write = read_write
        self._seen_changes: dict[InodeNo, int] = {}
        self._lock = threading.Lock()

    def opendir(self, inode: InodeNo) -> bool:
        """As `Filesystem.opendir`.

        True only if this very process saw the same `changes` at its previous opendir: it answered then that the kernel's copy
        be dropped (or, by induction, that it is right), and what filled it since came from listings without any change in
        between."""
        with self._index.begin_read() as txn:
            self._directory_row(txn, inode)
            directory = self._index.dirs.get(txn, inode)
        if directory is None or not directory.is_complete:
            return False
        is_fresh = self._freshness.check_listing(inode, directory) > 0.0
        with self._lock:
            seen = self._seen_changes.pop(inode, None)
            self._seen_changes[inode] = directory.changes
            if len(self._seen_changes) > _REMEMBERED_DIRECTORIES:
                del self._seen_changes[next(iter(self._seen_changes))]
        return is_fresh and seen == directory.changes

    def readdir(self, inode: InodeNo, offset: int, count: int, plus: bool) -> DirectoryPart:
        """As `Filesystem.readdir`. Memory: `count` entries, 4096 at most."""
        count = max(1, min(count, _MAX_ENTRIES))
        with self._index.begin_read() as txn:
            own = self._directory_row(txn, inode)
            directory = self._index.dirs.get(txn, inode)
            seconds = self._freshness.check_listing(inode, directory) if offset == 0 else None
            if directory is None:
                raise Miss(Op.LIST, inode, offset)
            if seconds is None:
                seconds = self._freshness.listing_seconds_left(directory)
            entries = _dots(inode, own, offset, count)
            wanted = count - len(entries)
            rows = self._index.names.after(txn, inode, max(offset, FIRST_SEQ - 1), wanted) if wanted else []
            if not rows and not entries and not directory.is_complete:
                raise Miss(Op.LIST, inode, offset)
            if self._read_write:
                entries += [self._written_entry(txn, row, plus) for row in rows]
            elif plus:
                seconds = self._add_with_attributes(entries, txn, inode, rows, seconds)
            else:
                entries += [DirectoryEntry(name, child, KIND_MODES[kind], seq, None) for seq, child, kind, name in rows]
        return DirectoryPart(entries, seconds, self._ttl)

    def _directory_row(self, txn: Transaction, inode: InodeNo) -> Inode:
        row = self._index.inodes.get(txn, inode)
        if row is None:
            raise CacheError(ErrorKind.STALE, f"inode {inode} is not in the index; look its name up again")
        if row.kind != DIRECTORY:
            raise CacheError(ErrorKind.NOT_A_DIRECTORY, f"inode {inode} is not a directory")
        return row

    def _add_with_attributes(
        self, entries: list[DirectoryEntry], txn: Transaction, parent: InodeNo, rows: list[SeqRow], seconds: float
    ) -> float:
        """Add entries with the attributes that the kernel may be told; return for how long it may keep the names, these among
        them."""
        heads = self._index.inodes.heads(txn, [row.inode for row in rows])
        for seq, inode, kind, name in rows:
            head = heads.get(inode)
            attributes = None
            if head is not None and not head.flags & _NEEDS_STAT:
                attributes = self._attributes(inode, head)
                if head.flags & _CHECK_BY_NAME:
                    left = self._freshness.name_seconds_left(self._index.names.get(txn, parent, name))
                    seconds, attributes = (min(seconds, left), attributes) if left > 0.0 else (seconds, None)
            entries.append(DirectoryEntry(name, inode, KIND_MODES[kind], seq, attributes))
        return seconds

    def _written_entry(self, txn: Transaction, row: SeqRow, plus: bool) -> DirectoryEntry:
        """Of a name on a mount that may be written: attributes of a file that is being written are asked for."""
        writes = self._index.writes
        number = writes.known_as(txn, row.inode)
        attributes = None
        if plus and writes.stage_of(txn, row.inode) is None:
            own = self._index.inodes.get(txn, row.inode)
            if own is not None and not own.flags & (_NEEDS_STAT | _CHECK_BY_NAME):
                attributes = self._attributes(number, own)
        return DirectoryEntry(row.name, number, KIND_MODES[row.kind], row.seq, attributes)


def _dots(inode: InodeNo, own: Inode, offset: int, count: int) -> list[DirectoryEntry]:
    entries = []
    if offset < _OWN:
        entries.append(DirectoryEntry(b".", inode, KIND_MODES[DIRECTORY], _OWN, None))
    if offset < _PARENT and len(entries) < count:
        entries.append(DirectoryEntry(b"..", own.parent or ROOT, KIND_MODES[DIRECTORY], _PARENT, None))
    return entries
