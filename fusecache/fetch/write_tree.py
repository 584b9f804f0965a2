"""What changes of names, attributes and versions do to the index: each method is one transaction, with the outcome that a
request must find again when it is repeated. Called from fetch's loop without a checkpoint.

A file that is written keeps its inode X while it is open: the kernel knows it by that number. What is uploaded of it becomes an
inode Y of its own, as each version does. When it is closed, its name leads to Y, and X is an alias of it.
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from fusecache.contract.changes import NOT_SET, TIME_NOT_SET, Change
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.tree import Tree
from fusecache.fetch.tree_rows import Changes, inode_row
from fusecache.fetch.written import Note, new_operation
from fusecache.index.directories import DirectoryFlag
from fusecache.index.environment import Transaction
from fusecache.index.index import Index
from fusecache.index.inodes import Inode, InodeFlag, InodeNo, identity_of
from fusecache.index.names import NameRow
from fusecache.index.writes import WriteFlag, WriteRow
from fusecache.source.protocol import Entry, EntryKind

_NOT_CHECKED = -1  # no value of a row


@dataclass(frozen=True, slots=True)
class Place:
    """A name: `row` of its directory, and what it leads to now (0, None: nothing)."""

    parent: InodeNo
    parent_row: Inode
    name: bytes
    inode: InodeNo
    row: Inode | None

    @property
    def path(self) -> bytes:
        return self.parent_row.path + b"/" + self.name if self.parent_row.path else self.name


class WriteTree:
    def __init__(self, index: Index, tree: Tree, clock: Callable[[], float] = time.time) -> None:
        self._index = index
        self._tree = tree
        self._clock = clock
        self._settled: list[int] = []

    # -- changing

    @contextlib.contextmanager
    def _change(self) -> Iterator[Transaction]:
        with self._tree.change() as txn:
            yield txn
            settled, self._settled = self._settled, []
            for unique in settled:
                self._index.writes.forget(txn, unique)

    # -- looking

    def resolve(self, inode: InodeNo) -> InodeNo:
        with self._index.read() as txn:
            return self._index.writes.resolve(txn, inode)

    def written(self, inode: InodeNo) -> WriteRow | None:
        with self._index.read() as txn:
            return self._index.writes.get(txn, inode)

    def all_written(self) -> list[tuple[InodeNo, WriteRow]]:
        with self._index.read() as txn:
            return list(self._index.writes.iterate(txn))

    def owner_of_base(self, base: InodeNo) -> InodeNo | None:
        return next((inode for inode, row in self.all_written() if row.base == base), None)

    def is_open(self, inode: InodeNo) -> bool:
        with self._index.read() as txn:
            return self._index.writes.is_open(txn, inode)

    def outcome(self, unique: int) -> dict[str, object] | None:
        with self._index.read() as txn:
            return self._index.writes.outcome(txn, unique)

    def place(self, parent: InodeNo, name: bytes) -> Place:
        """Raises: STALE, NOT_A_DIRECTORY."""
        with self._index.read() as txn:
            parent_row = self._index.inodes.get(txn, parent)
            if parent_row is None or parent_row.flags & InodeFlag.ORPHAN:
                raise CacheError(ErrorKind.STALE, "the directory is gone")
            if parent_row.kind != EntryKind.DIRECTORY:
                raise CacheError(ErrorKind.NOT_A_DIRECTORY, "not a directory")
            known = self._index.names.get(txn, parent, name)
            row = None if known is None else self._index.inodes.get(txn, known.inode)
            return Place(parent, parent_row, name, 0 if known is None else known.inode, row)

    def has_other_names(self, place: Place) -> bool:
        """Whether the directory has a name beside this one."""
        with self._index.read() as txn:
            return any(row.name != place.name for row in self._index.names.after(txn, place.parent, 0, 2))

    # -- the connection

    @property
    def connection(self) -> int:
        """A number for the kernel's numbers to be told from those of other mounts and times."""
        with self._index.read() as txn:
            return self._index.meta.get(txn, "connection")

    def forget_handles(self) -> None:
        """A new connection: nobody has anything open, and its requests have new numbers."""
        with self._change() as txn:
            self._index.writes.forget_handles(txn)
            self._index.meta.put(txn, "connection", secrets.randbits(48))

    def close_handles(self) -> None:
        """The mount is gone, and with it whoever had something open."""
        with self._change() as txn:
            self._index.writes.close_handles(txn)

    def found(self, source: int) -> int | None:
        """Return what the check of a source's writer found out, None if there was none."""
        with self._index.read() as txn:
            found = self._index.meta.get(txn, f"writer:{source:x}", _NOT_CHECKED)
        return None if found == _NOT_CHECKED else found

    def put_found(self, source: int, found: int) -> None:
        with self._change() as txn:
            self._index.meta.put(txn, f"writer:{source:x}", found)

    def remember(self, unique: int, value: dict[str, object]) -> None:
        with self._change() as txn:
            self._index.writes.remember(txn, unique, value)

    def forget(self, unique: int) -> None:
        """What was asked for has failed: whoever asks again does it anew."""
        with self._change() as txn:
            self._index.writes.forget(txn, unique)

    def settle(self, unique: int) -> None:
        """Nobody asks again. It is forgotten with the next change: one that stays because fetch dies harms nothing."""
        self._settled.append(unique)

    # -- extended attributes

    def xattrs(self, inode: InodeNo) -> dict[str, str] | None:
        with self._index.read() as txn:
            return self._index.writes.xattrs(txn, inode)

    def put_xattrs(self, inode: InodeNo, values: Mapping[str, str]) -> None:
        with self._change() as txn:
            written = self._index.writes.get(txn, inode)
            for one in {inode} if written is None else {inode, written.base}:  # as `set_attributes`
                self._index.writes.put_xattrs(txn, one, values)

    # -- opening

    def create(self, change: Change, place: Place, stage: int, *, handle: int) -> InodeNo:
        """Add a file that the store does not have yet. `handle` 0: it is not opened."""
        rows = self._tree.rows
        now_ns = int(self._clock() * 1e9)
        with self._change() as txn:
            inode = rows.new_inode()
            entry = Entry(place.name, EntryKind.FILE, 0, now_ns, mode=change.mode, uid=change.uid, gid=change.gid)
            row = inode_row(entry, place.parent, place.parent_row.source, place.path)
            self._index.inodes.put(txn, inode, row)
            rows.files += 1
            self._put_name(txn, place, inode, EntryKind.FILE)
            self._index.writes.put(
                txn, inode, WriteRow(stage, inode, 0, Note(None, -1, operation=new_operation(), xattrs={}).to_json())
            )
            self._open(txn, handle, inode)
            self._index.writes.remember(txn, change.unique, {"inode": inode})
        return inode

    def begin(self, change: Change | None, inode: InodeNo, stage: int, note: Note, *, handle: int) -> None:
        """A file that is there gets a stage. `change`: what that is all of."""
        with self._change() as txn:
            self._index.writes.put(txn, inode, WriteRow(stage, inode, 0, note.to_json()))
            self._open(txn, handle, inode)
            if change is not None:
                self._index.writes.remember(txn, change.unique, {"inode": inode})

    def open_again(self, change: Change, inode: InodeNo, *, handle: int) -> None:
        with self._change() as txn:
            self._open(txn, handle, inode)
            self._index.writes.remember(txn, change.unique, {"inode": inode})

    def release(self, change: Change) -> InodeNo | None:
        """Return what the handle was of; None if it has been released."""
        with self._change() as txn:
            inode = self._index.writes.inode_of(txn, change.handle)
            self._index.writes.remove_handle(txn, change.handle)
        return inode

    def _open(self, txn: Transaction, handle: int, inode: InodeNo) -> None:
        if handle:
            self._index.writes.add_handle(txn, handle, inode)

    # -- uploads

    def set_note(self, inode: InodeNo, note: Note) -> None:
        with self._change() as txn:
            row = self._index.writes.get(txn, inode)
            if row is not None:
                self._index.writes.put(txn, inode, row._replace(note=note.to_json()))

    def put_part(self, inode: InodeNo, number: int, value: dict[str, object]) -> None:
        with self._change() as txn:
            self._index.writes.put_part(txn, inode, number, value)

    def forget_parts(self, inode: InodeNo) -> None:
        with self._change() as txn:
            self._index.writes.delete_parts(txn, inode)

    def parts(self, inode: InodeNo) -> dict[int, dict[str, object]]:
        with self._index.read() as txn:
            return self._index.writes.parts(txn, inode)

    def commit_version(self, inode: InodeNo, entry: Entry, note: Note) -> InodeNo:
        """A version was uploaded: it becomes an inode without a name, and the base of what is written from now on."""
        rows = self._tree.rows
        with self._change() as txn:
            own = self._index.inodes.get(txn, inode)
            written = self._index.writes.get(txn, inode)
            if own is None or written is None:
                raise CacheError(ErrorKind.BUG, f"inode {inode} was uploaded and is not written; please report this")
            version = rows.new_inode()
            row = own._replace(
                flags=int(InodeFlag.ORPHAN), size=entry.size, mtime_ns=entry.mtime_ns, version=entry.version,
                ctime_ns=max(entry.mtime_ns, own.ctime_ns), identity=identity_of(own.source, own.path, entry.version),
            )  # fmt: skip
            self._index.inodes.put(txn, version, row)
            if note.xattrs is not None:
                self._index.writes.put_xattrs(txn, version, note.xattrs)
            self._index.writes.put(txn, inode, WriteRow(written.stage, version, written.flags, note.to_json()))
            self._index.writes.delete_parts(txn, inode)
        return version

    def finish(self, inode: InodeNo) -> Changes:
        """The file is closed, and its base is what it is: that takes the name, and the stage is not needed any more."""
        changes = Changes()
        rows = self._tree.rows
        with self._change() as txn:
            written = self._index.writes.get(txn, inode)
            own = self._index.inodes.get(txn, inode)
            if written is None or own is None:
                return changes
            version = written.base
            self._index.writes.delete(txn, inode)
            if version == inode:
                return changes
            if written.flags & WriteFlag.UNLINKED:
                self._index.writes.add_alias(txn, inode, version)
                return changes
            row = self._index.inodes.get(txn, version)
            name = own.path.rpartition(b"/")[2]
            known = self._index.names.get(txn, own.parent, name)
            if row is None or known is None or known.inode != inode:
                return changes
            self._index.inodes.put(
                txn, version, row._replace(flags=row.flags & ~int(InodeFlag.ORPHAN), path=own.path, parent=own.parent)
            )
            self._index.names.put(txn, own.parent, name, known._replace(inode=version, checked_at=int(self._clock())))
            self._index.writes.add_alias(txn, inode, version)
            rows.orphan(txn, inode, EntryKind.FILE, changes)
            rows.files += 1
            rows.total_bytes += row.size
            cached = sum(extent.length for _, extent in self._index.extents.of_inode(txn, version))
            meta = self._index.meta
            meta.put(txn, "cached_bytes", meta.get(txn, "cached_bytes") + cached)
        self._tree.own_changes.note(own.parent, name)
        changes.entries.clear()  # the kernel may go on calling it by the old number: it is the same file
        return changes

    def set_version(self, inode: InodeNo, version: bytes) -> None:
        """The object under a file that is open has another version since its metadata were changed."""
        with self._change() as txn:
            written = self._index.writes.get(txn, inode)
            if written is None:
                return
            note = replace(Note.of(written), expected=version)
            self._index.writes.put(txn, inode, written._replace(note=note.to_json()))
            base = self._index.inodes.get(txn, written.base)
            if base is not None:
                self._index.inodes.put(txn, written.base, base._replace(version=version))

    def lose(self, inode: InodeNo) -> Changes:
        """The store has another version, which whoever looks the name up is to see; whoever has the file open gets ESTALE."""
        changes = Changes()
        with self._change() as txn:
            self._index.writes.delete(txn, inode)
            row = self._index.inodes.get(txn, inode)
            if row is None:
                return changes
            name = row.path.rpartition(b"/")[2]
            known = self._index.names.get(txn, row.parent, name)
            if known is not None and known.inode == inode:
                self._tree.rows.remove_name(txn, row.parent, name, known, changes)
            directory = self._index.dirs.get(txn, row.parent)
            if directory is not None:
                self._index.dirs.put(txn, row.parent, directory._replace(listed_at=0.0))
        self._tree.own_changes.forget(row.parent, name)
        return changes

    def drop_stage(self, inode: InodeNo) -> None:
        """Nobody wants what was written to the file any more."""
        with self._change() as txn:
            self._index.writes.delete(txn, inode)

    # -- names

    def add(self, change: Change, place: Place, entry: Entry) -> InodeNo:
        """A directory or symbolic link was made at the source."""
        rows = self._tree.rows
        with self._change() as txn:
            inode = rows.new_inode()
            path, source = place.path, place.parent_row.source
            given = entry._replace(
                mode=change.mode if change.mode != NOT_SET and entry.mode is None else entry.mode,
                uid=change.uid if entry.uid is None else entry.uid,
                gid=change.gid if entry.gid is None else entry.gid,
            )
            if entry.kind == EntryKind.DIRECTORY:
                rows.put_directory(txn, inode, place.parent, source, path, 0, given)
                directory = self._index.dirs.get(txn, inode)
                assert directory is not None
                complete = directory._replace(flags=directory.flags | DirectoryFlag.COMPLETE, listed_at=self._clock())
                self._index.dirs.put(txn, inode, complete)
            else:
                self._index.inodes.put(txn, inode, inode_row(given, place.parent, source, path))
            self._put_name(txn, place, inode, entry.kind)
            self._index.writes.remember(txn, change.unique, {"inode": inode})
        return inode

    def remove(self, change: Change, place: Place) -> Changes:
        """A name was removed at the source."""
        changes = Changes()
        with self._change() as txn:
            known = self._index.names.get(txn, place.parent, place.name)
            if known is not None:
                written = self._index.writes.get(txn, known.inode)
                if written is not None:
                    self._index.writes.put(txn, known.inode, written._replace(flags=written.flags | WriteFlag.UNLINKED))
                self._tree.rows.remove_name(txn, place.parent, place.name, known, changes)
                self._touch(txn, place.parent)
            self._index.writes.remember(txn, change.unique, {"inode": 0})
        self._tree.own_changes.note(place.parent, place.name)
        changes.entries.clear()  # the kernel asked for it
        return changes

    def move(self, change: Change, place: Place, target: Place, entry: Entry | None, expected: bytes | None = None) -> Changes:
        """A file was renamed at the source (`entry`: what it is there now), or before it was uploaded (None; `expected`: what the
        upload will find at the target). Its cached blocks stay: their checksums go by the identity that the row keeps."""
        changes = Changes()
        with self._change() as txn:
            self._replace_target(txn, target, changes)
            known = self._index.names.get(txn, place.parent, place.name)
            if known is not None:
                self._move_name(txn, place, target, known)
                self._move_rows(txn, known.inode, target, entry, expected)
            self._index.writes.remember(txn, change.unique, {"inode": 0})
        for one in (place, target):
            self._tree.own_changes.note(one.parent, one.name)
            changes.directories.add(one.parent)
        return changes

    def _move_name(self, txn: Transaction, place: Place, target: Place, known: NameRow) -> None:
        self._index.names.delete(txn, place.parent, place.name)
        directory = self._index.dirs.get(txn, place.parent)
        if directory is not None:
            entries, count = max(0, directory.entries - 1), directory.changes + 1
            self._index.dirs.put(txn, place.parent, directory._replace(entries=entries, changes=count))
        self._touch(txn, place.parent)
        self._put_name(txn, target, known.inode, known.kind)

    def _replace_target(self, txn: Transaction, target: Place, changes: Changes) -> None:
        known = self._index.names.get(txn, target.parent, target.name)
        if known is None:
            return
        written = self._index.writes.get(txn, known.inode)
        if written is not None:
            self._index.writes.put(txn, known.inode, written._replace(flags=written.flags | WriteFlag.UNLINKED))
        self._tree.rows.remove_name(txn, target.parent, target.name, known, changes)
        changes.entries.clear()

    def _move_rows(self, txn: Transaction, inode: InodeNo, target: Place, entry: Entry | None, expected: bytes | None) -> None:
        written = self._index.writes.get(txn, inode)
        for one in {inode} if written is None else {inode, written.base}:
            row = self._index.inodes.get(txn, one)
            if row is None:
                continue
            moved = row._replace(path=target.path, parent=target.parent)
            if entry is not None and row.kind == EntryKind.FILE and (written is None or one == written.base):
                moved = moved._replace(version=entry.version)
            self._index.inodes.put(txn, one, moved)
        if written is not None:
            note = replace(Note.of(written), expected=expected if entry is None else entry.version)
            self._index.writes.put(txn, inode, written._replace(note=note.to_json()))

    def move_directory(self, change: Change, place: Place, target: Place, versions: dict[bytes, bytes]) -> Changes:
        """A directory was renamed at the source. `versions`: of files below it that have others now, by their new paths."""
        changes = Changes()
        with self._change() as txn:
            self._replace_target(txn, target, changes)
            known = self._index.names.get(txn, place.parent, place.name)
            if known is not None:
                self._move_name(txn, place, target, known)
                self._move_below(txn, known.inode, place.path, target, versions)
            self._index.writes.remember(txn, change.unique, {"inode": 0})
        for one in (place, target):
            self._tree.own_changes.note(one.parent, one.name)
            changes.directories.add(one.parent)
        return changes

    def _move_below(self, txn: Transaction, inode: InodeNo, old: bytes, target: Place, versions: dict[bytes, bytes]) -> None:
        new = target.path
        line = [inode]
        while line:
            one = line.pop()
            row = self._index.inodes.get(txn, one)
            if row is None:
                continue
            path = new + row.path[len(old) :]
            moved = row._replace(path=path, version=versions.get(path, row.version))
            if one == inode:
                moved = moved._replace(parent=target.parent)
            self._index.inodes.put(txn, one, moved)
            written = self._index.writes.get(txn, one)
            if written is not None:
                if written.base != one:
                    line.append(written.base)
                if path in versions:
                    note = replace(Note.of(written), expected=versions[path])
                    self._index.writes.put(txn, one, written._replace(note=note.to_json()))
            if row.kind == EntryKind.DIRECTORY:
                line += [child.inode for _, child in self._index.names.iterate(txn, one)]

    # -- attributes

    def set_attributes(self, change: Change, inode: InodeNo, entry: Entry | None) -> None:
        """`entry`: the object as it is since its metadata were changed; None: they go with the next upload, or are kept here
        only."""
        with self._change() as txn:
            row = self._index.inodes.get(txn, inode)
            if row is None:
                raise CacheError(ErrorKind.STALE, "the file is gone")
            now_ns = int(self._clock() * 1e9)
            changed = _changed(row, change, now_ns)
            if entry is not None and row.kind == EntryKind.FILE:
                changed = changed._replace(version=entry.version)
            self._index.inodes.put(txn, inode, changed)
            written = self._index.writes.get(txn, inode)
            base = None if written is None or written.base == inode else self._index.inodes.get(txn, written.base)
            if written is not None and base is not None:  # a version that was uploaded takes the name when the file is closed
                self._index.inodes.put(txn, written.base, _changed(base, change, now_ns))
            self._index.writes.remember(txn, change.unique, {"inode": inode})
        self._tree.own_changes.note(row.parent, row.path.rpartition(b"/")[2])

    def _touch(self, txn: Transaction, directory: InodeNo) -> None:
        """A name in it was changed: its times are now, whether or not its source keeps any."""
        row = self._index.inodes.get(txn, directory)
        if row is not None:
            now_ns = int(self._clock() * 1e9)
            self._index.inodes.put(txn, directory, row._replace(mtime_ns=now_ns, ctime_ns=now_ns))

    def _put_name(self, txn: Transaction, place: Place, inode: InodeNo, kind: int) -> None:
        known = self._index.names.get(txn, place.parent, place.name)
        if known is not None:
            raise CacheError(ErrorKind.EXISTS, "the name came about meanwhile")
        directory = self._index.dirs.get(txn, place.parent)
        listing_pass = 0 if directory is None else directory.listing_pass
        self._tree.add_name(txn, place.parent, place.name, inode, kind, listing_pass=listing_pass, checked_at=int(self._clock()))
        self._touch(txn, place.parent)
        self._tree.own_changes.note(place.parent, place.name)


def _changed(row: Inode, change: Change, now_ns: int) -> Inode:
    return row._replace(
        mode=row.mode if change.mode == NOT_SET else change.mode,
        uid=row.uid if change.uid == NOT_SET else change.uid,
        gid=row.gid if change.gid == NOT_SET else change.gid,
        mtime_ns=row.mtime_ns if change.mtime_ns == TIME_NOT_SET else change.mtime_ns,
        ctime_ns=now_ns,
    )
