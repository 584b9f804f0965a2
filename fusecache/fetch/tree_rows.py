"""What all changes of the tree of names do alike: new inode numbers, totals, rows of directories, names that go.

State: the next inode number and the totals, as of the transaction under way; `tree.Tree` stores them with each commit. Called
from fetch's loop, inside one index transaction.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fusecache.index.directories import Directory, DirectoryFlag
from fusecache.index.environment import Transaction
from fusecache.index.index import Index
from fusecache.index.inodes import EPOCH_SHIFT, NO_MODE, NO_OWNER, Inode, InodeFlag, InodeNo, identity_of
from fusecache.index.names import NameRow
from fusecache.source.protocol import Entry, EntryKind

_SYMLINK = int(EntryKind.SYMLINK)
_INEXACT = int(InodeFlag.NEEDS_STAT | InodeFlag.CHECK_BY_NAME)
_HARD_LINKED = int(InodeFlag.HARD_LINKED)


@dataclass(slots=True)
class Changes:
    """What a transaction changed of what the kernel may know."""

    directories: set[InodeNo] = field(default_factory=set)
    entries: list[tuple[InodeNo, bytes]] = field(default_factory=list)
    orphans: list[InodeNo] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.directories or self.entries or self.orphans)


class TreeRows:
    """Invariants: those of `tree.Tree` for files, total_bytes and hidden."""

    def __init__(self, index: Index, clock: Callable[[], float]) -> None:
        self._index = index
        self._clock = clock
        with index.read() as txn:
            self._epoch = index.meta.get(txn, "epoch")
            self.next_inode = index.meta.get(txn, "next_inode", 2)
            self.files = index.meta.get(txn, "files")
            self.total_bytes = index.meta.get(txn, "total_bytes")
            self.hidden = index.meta.get(txn, "hidden")

    def store_totals(self, txn: Transaction) -> None:
        meta = self._index.meta
        meta.put(txn, "next_inode", self.next_inode)
        meta.put(txn, "files", self.files)
        meta.put(txn, "total_bytes", self.total_bytes)
        meta.put(txn, "hidden", self.hidden)

    def new_inode(self) -> InodeNo:
        inode = (self._epoch << EPOCH_SHIFT) | self.next_inode
        self.next_inode += 1
        return inode

    def put_directory(
        self, txn: Transaction, inode: InodeNo, parent: InodeNo, source: int, path: bytes, flags: int, entry: Entry | None = None
    ) -> None:
        row = inode_row(entry or Entry(b"", EntryKind.DIRECTORY), parent, source, path)
        if not row.mtime_ns:  # flat stores know no time of a prefix: the moment it was first seen is better than 1970
            row = row._replace(mtime_ns=int(self._clock() * 1e9), ctime_ns=int(self._clock() * 1e9))
        self._index.inodes.put(txn, inode, row)
        if self._index.dirs.get(txn, inode) is None:
            self._index.dirs.put(txn, inode, Directory(flags=flags))

    def is_from_spec(self, txn: Transaction, row: NameRow) -> bool:
        if row.kind != EntryKind.DIRECTORY:
            return False
        directory = self._index.dirs.get(txn, row.inode)
        return directory is not None and bool(directory.flags & (DirectoryFlag.SYNTHETIC | DirectoryFlag.SOURCE_ROOT))

    def remove_name(self, txn: Transaction, parent: InodeNo, name: bytes, row: NameRow, changes: Changes) -> None:
        self._index.names.delete(txn, parent, name)
        directory = self._index.dirs.get(txn, parent)
        if directory is not None:
            self._index.dirs.put(
                txn, parent, directory._replace(entries=max(0, directory.entries - 1), changes=directory.changes + 1)
            )
        changes.directories.add(parent)
        changes.entries.append((parent, name))
        self.orphan(txn, row.inode, row.kind, changes)

    def orphan(self, txn: Transaction, inode: InodeNo, kind: int, changes: Changes) -> None:
        """A name that pointed here is gone. Below a directory everything goes with it."""
        line = [(inode, kind)]  # no recursion: keys of object stores may be deeper than Python's stack
        while line:
            inode, kind = line.pop()
            if kind != EntryKind.DIRECTORY:
                self._orphan_file(txn, inode, kind, changes)
                continue
            for name, child in list(self._index.names.iterate(txn, inode)):
                self._index.names.delete(txn, inode, name)
                changes.entries.append((inode, name))
                line.append((child.inode, child.kind))
            directory = self._index.dirs.get(txn, inode)
            self.hidden -= 0 if directory is None else directory.hidden
            changes.directories.add(inode)
            self._index.inodes.mark_orphan(txn, inode)
            self._index.dirs.delete(txn, inode)

    def _orphan_file(self, txn: Transaction, inode: InodeNo, kind: int, changes: Changes) -> None:
        row = self._index.inodes.get(txn, inode)
        if row is None or row.flags & InodeFlag.ORPHAN:
            return
        if kind == EntryKind.FILE:
            self.files -= 1
            self.total_bytes -= row.size if not row.flags & InodeFlag.NEEDS_STAT else 0
        if row.flags & InodeFlag.HARD_LINKED and self.count_names(txn, inode, -1):
            return  # another name still points to it
        self._index.inodes.put(txn, inode, row._replace(flags=row.flags | InodeFlag.GONE))
        self._index.inodes.mark_orphan(txn, inode)
        cached = sum(extent.length for _, extent in self._index.extents.of_inode(txn, inode))
        if cached:  # it may still be read, but nothing that is there now is cached with it
            meta = self._index.meta
            meta.put(txn, "cached_bytes", meta.get(txn, "cached_bytes") - cached)
        changes.orphans.append(inode)

    def count_names(self, txn: Transaction, inode: InodeNo, more: int) -> int:
        """Count the names of a hard linked inode; return how many there are now."""
        key = f"names:{inode:x}"
        count = max(0, self._index.meta.get(txn, key) + more)
        if count:
            self._index.meta.put(txn, key, count)
        else:
            self._index.meta.delete(txn, key)
        return count


def size_of(entry: Entry) -> int:
    return len(entry.target) if entry.kind == _SYMLINK else entry.size


def inode_row(entry: Entry, parent: InodeNo, source: int, path: bytes) -> Inode:
    """By position, without enums: a third of the time, and a listing makes one for each name."""
    _, kind, _, mtime_ns, version, mode, uid, gid, nlink, target, file_id, needs_stat = entry
    return Inode(
        kind,
        (_INEXACT if needs_stat else 0) | (_HARD_LINKED if file_id else 0),
        NO_MODE if mode is None else mode & 0o7777,
        NO_OWNER if uid is None else uid,
        NO_OWNER if gid is None else gid,
        nlink,
        size_of(entry),
        mtime_ns,
        mtime_ns,
        parent,
        source,
        identity_of(source, path, version),
        path,
        version,
        target,
    )
