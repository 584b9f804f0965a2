"""Merges entries of a listing, or of one stat, into a directory: one page, one transaction.

State: what the page under way changed of its directory; `tree.Tree` makes one writer for each page. Called from fetch's loop.
"""

from __future__ import annotations

from collections.abc import Sequence

from fusecache.fetch.tree_rows import Changes, TreeRows, inode_row, size_of
from fusecache.index.directories import Directory, DirectoryFlag
from fusecache.index.environment import Transaction
from fusecache.index.index import Index
from fusecache.index.inodes import Inode, InodeFlag, InodeNo
from fusecache.index.names import NameRow
from fusecache.source.protocol import Entry, EntryKind


class PageWriter:
    """Applies entries to one directory inside one transaction; keeps the directory's row in hand meanwhile."""

    def __init__(
        self,
        rows: TreeRows,
        index: Index,
        txn: Transaction,
        parent: InodeNo,
        parent_row: Inode,
        directory: Directory,
        listing_pass: int,
        changes: Changes,
        checked_at: int = 0,
    ) -> None:
        """`checked_at`: 0 for pages of a listing, else when the one name was asked for."""
        self._rows = rows
        self._index = index
        self._txn = txn
        self._parent = parent
        self._parent_row = parent_row
        self._pass = listing_pass
        self._changes = changes
        self._checked_at = checked_at
        self._directory = directory
        self._next_seq = directory.next_seq
        self._changed = 0
        self._new_inodes: list[tuple[InodeNo, Inode]] = []
        self._new_names: list[tuple[bytes, NameRow]] = []
        self.noticed = 0  # names that this pass had not seen before
        self._prefix = parent_row.path + b"/" if parent_row.path else b""

    def hide(self, count: int) -> None:
        self._rows.hidden += count
        self._directory = self._directory._replace(hidden=self._directory.hidden + count)

    def apply(self, entries: Sequence[Entry]) -> None:
        """Merge entries, in their order. Names that are new are collected and stored together."""
        known = self._index.names.get_many(self._txn, self._parent, [entry.name for entry in entries])
        seen: set[bytes] = set()
        for entry in entries:
            name = entry.name
            row = known.get(name)
            if name in seen:  # twice on one page
                self._store_new()
                row = self._index.names.get(self._txn, self._parent, name)
            seen.add(name)
            if entry.needs_stat and not self._directory.flags & DirectoryFlag.INEXACT:
                self._directory = self._directory._replace(flags=self._directory.flags | DirectoryFlag.INEXACT)
            if row is None and not entry.file_id:
                self._add(entry)
            else:
                self._merge(entry, row)
        self._store_new()

    def _add(self, entry: Entry) -> None:
        """Collect a name that is new, and no hard link."""
        rows = self._rows
        path = self._prefix + entry.name
        inode = rows.new_inode()
        if entry.kind == EntryKind.DIRECTORY:
            rows.put_directory(self._txn, inode, self._parent, self._parent_row.source, path, 0, entry)
        else:
            self._new_inodes.append((inode, inode_row(entry, self._parent, self._parent_row.source, path)))
        if entry.kind == EntryKind.FILE:
            rows.files += 1
            rows.total_bytes += 0 if entry.needs_stat else entry.size
        self._new_names.append((entry.name, NameRow(inode, entry.kind, self._next_seq, self._pass, self._checked_at)))
        self._next_seq += 1

    def _store_new(self) -> None:
        if self._new_names:
            self._index.inodes.put_many(self._txn, self._new_inodes)
            self._index.names.put_many(self._txn, self._parent, self._new_names)
            self.noticed += len(self._new_names)
            self._changed += len(self._new_names)
            self._changes.directories.add(self._parent)
            self._new_inodes, self._new_names = [], []

    def _merge(self, entry: Entry, known: NameRow | None) -> None:
        if known is not None:
            if entry.kind == EntryKind.DIRECTORY == known.kind:
                self._seen(entry.name, known)
                return
            if known.kind == entry.kind:
                row = self._index.inodes.get(self._txn, known.inode)
                if row is not None and self._is_same(entry, known, row):
                    return
            elif known.kind == EntryKind.DIRECTORY and (
                (known.listing_pass == self._pass and not self._checked_at) or self._rows.is_from_spec(self._txn, known)
            ):
                self.hide(1)  # a directory shadows a file of the same name
                return
        self._put(entry, known)

    def _is_same(self, entry: Entry, known: NameRow, row: Inode) -> bool:
        if entry.needs_stat:
            # The listing cannot tell whether the object changed: the name stays, but is only as good as its last stat.
            self._seen(entry.name, known)
            return True
        if row.flags & InodeFlag.NEEDS_STAT:
            self._fill_in(entry, known, row)
            return True
        if row.version == entry.version and row.size == size_of(entry) and row.target == entry.target:
            if row.flags & InodeFlag.GONE:
                if row.path != self._prefix + entry.name:
                    return False  # the link by which it was read is gone: read it by this one
                row = row._replace(flags=row.flags & ~InodeFlag.GONE)  # the source has that very version again
                self._index.inodes.put(self._txn, known.inode, row)
            if entry.mode is not None and row.mode != entry.mode:
                self._index.inodes.put(self._txn, known.inode, row._replace(mode=entry.mode))
            self._seen(entry.name, known)
            return True
        return False

    def see(self, name: bytes, known: NameRow) -> None:
        """The name is there, whatever the source says of it."""
        self._seen(name, known)

    def _seen(self, name: bytes, known: NameRow) -> None:
        checked = self._checked_at or known.checked_at
        self.noticed += known.listing_pass != self._pass
        if known.listing_pass != self._pass or checked != known.checked_at:
            self._index.names.touch(self._txn, self._parent, name, known._replace(listing_pass=self._pass, checked_at=checked))

    def _fill_in(self, entry: Entry, known: NameRow, row: Inode) -> None:
        """An inode that was known by name only gets its size and version: no attribute of it was answered before."""
        full = inode_row(entry, self._parent, row.source, row.path)
        self._index.inodes.put(self._txn, known.inode, full._replace(flags=full.flags | (row.flags & InodeFlag.CHECK_BY_NAME)))
        if entry.kind == EntryKind.FILE:
            self._rows.total_bytes += entry.size
        self._seen(entry.name, known)

    def _put(self, entry: Entry, known: NameRow | None) -> None:
        rows, txn = self._rows, self._txn
        path = self._prefix + entry.name
        source = self._parent_row.source
        row = inode_row(entry, self._parent, source, path)
        if known is not None:
            old = self._index.inodes.get(txn, known.inode)
            if old is not None and old.flags & InodeFlag.CHECK_BY_NAME:
                row = row._replace(flags=row.flags | InodeFlag.CHECK_BY_NAME)
        inode = self._linked_inode(entry, source)
        if inode is None:
            inode = rows.new_inode()
            if entry.kind == EntryKind.DIRECTORY:
                rows.put_directory(txn, inode, self._parent, source, path, 0, entry)
            else:
                self._index.inodes.put(txn, inode, row)
            self._remember_link(entry, source, inode)
        if entry.file_id and entry.kind != EntryKind.DIRECTORY:
            rows.count_names(txn, inode, 1)
        if entry.kind == EntryKind.FILE:
            rows.files += 1
            rows.total_bytes += 0 if entry.needs_stat else entry.size
        seq = known.seq if known is not None else self._next_seq
        if known is None or known.listing_pass != self._pass:
            self.noticed += 1
        self._index.names.put(txn, self._parent, entry.name, NameRow(inode, entry.kind, seq, self._pass, self._checked_at))
        self._changed += 1
        if known is None:
            self._next_seq += 1
            self._changes.directories.add(self._parent)
        else:
            self._changes.entries.append((self._parent, entry.name))
            self._changes.directories.add(self._parent)
            rows.orphan(txn, known.inode, known.kind, self._changes)

    def _linked_inode(self, entry: Entry, source: int) -> InodeNo | None:
        """Two names of one file share an inode, if its version is still the same."""
        if not entry.file_id:
            return None
        inode = self._index.meta.get(self._txn, f"link:{source:x}:{entry.file_id.hex()}")
        row = self._index.inodes.get(self._txn, inode) if inode else None
        return inode if row is not None and row.version == entry.version and not row.flags & InodeFlag.GONE else None

    def _remember_link(self, entry: Entry, source: int, inode: InodeNo) -> None:
        if entry.file_id:
            self._index.meta.put(self._txn, f"link:{source:x}:{entry.file_id.hex()}", inode)

    def finish(self) -> None:
        row = self._directory
        added = self._next_seq - row.next_seq
        row = row._replace(next_seq=self._next_seq, entries=row.entries + added, changes=row.changes + self._changed)
        self._index.dirs.put(self._txn, self._parent, row)
