"""The tree of names: turning listings into rows of the index.

Every method is one index transaction, called from fetch's loop without a checkpoint. What may be about very many names is an
iterator of steps, each a transaction of some milliseconds: the caller lets the loop turn in between. A name is committed before
anybody can answer it to the kernel. What writes raises CacheError(NO_SPACE) where the index cannot grow.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import logging
import mmap
import struct
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import H_NEXT_INODE
from fusecache.index.directories import Directory, DirectoryFlag
from fusecache.index.environment import NoSpaceError, Transaction
from fusecache.index.index import Index
from fusecache.index.inodes import EPOCH_SHIFT, NO_MODE, NO_OWNER, ROOT, Inode, InodeFlag, InodeNo, identity_of
from fusecache.index.names import NameRow, SeqRow
from fusecache.source.protocol import Entry, EntryKind

log = logging.getLogger(__name__)

_U64 = struct.Struct("<Q")


UNCERTAIN = -(1 << 62)
# One step: on a busy machine looking at a name takes up to 5 us, removing one up to 80 us, so that both are about 10 ms.
STEP_NAMES = 2000
STEP_REMOVALS = 150


@dataclass(slots=True)
class Changes:
    """What a transaction changed of what the kernel may know."""

    directories: set[InodeNo] = field(default_factory=set)
    entries: list[tuple[InodeNo, bytes]] = field(default_factory=list)
    orphans: list[InodeNo] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.directories or self.entries or self.orphans)


class Tree:
    """Invariants: a path has one inode at a time; `files` and `total_bytes` equal the sums over FILE names, `hidden` the sum over
    directories; inode numbers only grow; what the spec put into the tree (synthetic directories) no source can remove."""

    def __init__(self, index: Index, memory: mmap.mmap, clock: Callable[[], float] = time.time) -> None:
        self._index = index
        self._memory = memory
        self._clock = clock
        # Names seen by the pass under way in each directory: if it saw as many as there are, none is stale. UNCERTAIN after
        # anything else changed the directory meanwhile.
        self._noticed: collections.Counter[InodeNo] = collections.Counter()
        with index.read() as txn:
            self._epoch = index.meta.get(txn, "epoch")
            self._next = index.meta.get(txn, "next_inode", 2)
            self.files = index.meta.get(txn, "files")
            self.total_bytes = index.meta.get(txn, "total_bytes")
            self.hidden = index.meta.get(txn, "hidden")

    # -- reading

    def inode(self, number: InodeNo) -> Inode | None:
        with self._index.read() as txn:
            return self._index.inodes.get(txn, number)

    def directory(self, number: InodeNo) -> Directory | None:
        with self._index.read() as txn:
            return self._index.dirs.get(txn, number)

    def name(self, parent: InodeNo, name: bytes) -> NameRow | None:
        with self._index.read() as txn:
            return self._index.names.get(txn, parent, name)

    def is_large(self, number: InodeNo, names: int) -> bool:
        directory = self.directory(number)
        return directory is not None and directory.entries > names

    def resolve(self, path: bytes) -> tuple[InodeNo, InodeNo, bytes] | None:
        """Return (inode, parent, name) of a path of known names, or None."""
        inode, parent, last = ROOT, ROOT, b""
        for part in (part for part in path.split(b"/") if part):
            row = self.name(inode, part)
            if row is None:
                return None
            inode, parent, last = row.inode, inode, part
        return inode, parent, last

    def inexact_names(self, parent: InodeNo, after_seq: int, count: int) -> list[bytes]:
        """Return those of the next `count` names of a directory whose size and version are not known exactly."""
        with self._index.read() as txn:
            rows = self._index.names.after(txn, parent, after_seq, count)
            return [
                row.name
                for row in rows
                if (inode := self._index.inodes.get(txn, row.inode)) is not None and inode.flags & InodeFlag.NEEDS_STAT
            ]

    def unlisted_near(self, parent: InodeNo, name: bytes, count: int) -> list[InodeNo]:
        """Return up to `count` directories that were never listed: those that follow a name in readdir order, then those before
        it, the nearest first (a program that keeps its directories on a stack comes from the end)."""
        with self._index.read() as txn:
            row = self._index.names.get(txn, parent, name)
            seq = row.seq if row else 0
            found = self._unlisted(txn, self._index.names.after(txn, parent, seq, 16 * count))[:count]
            if len(found) < count:
                found += self._unlisted(txn, self._index.names.before(txn, parent, seq, 16 * count))[: count - len(found)]
        return found

    def _unlisted(self, txn: Transaction, rows: Iterable[SeqRow]) -> list[InodeNo]:
        return [
            row.inode
            for row in rows
            if row.kind == EntryKind.DIRECTORY
            and (found := self._index.dirs.get(txn, row.inode)) is not None
            and not found.is_complete
        ]

    # -- making

    def make_roots(self, places: Sequence[tuple[int, tuple[bytes, ...]]]) -> None:
        """Make the directories that lead to each source: (source id, components). Idempotent."""
        with self._change() as txn:
            if self._index.inodes.get(txn, ROOT) is None:
                self._put_directory(txn, ROOT, ROOT, 0, b"", DirectoryFlag.SYNTHETIC | DirectoryFlag.COMPLETE)
            for source, parts in sorted(places, key=lambda place: len(place[1])):
                inode = ROOT
                for part in parts:
                    inode = self._make_synthetic(txn, inode, part)
                self._adopt_root(txn, inode, source)

    def _make_synthetic(self, txn: Transaction, parent: InodeNo, name: bytes) -> InodeNo:
        known = self._index.names.get(txn, parent, name)
        if known is not None and known.kind == EntryKind.DIRECTORY:
            return known.inode
        inode = self._new_inode()
        self._put_directory(txn, inode, parent, 0, b"", DirectoryFlag.SYNTHETIC | DirectoryFlag.COMPLETE)
        self._add_name(txn, parent, name, inode, EntryKind.DIRECTORY, listing_pass=0)
        return inode

    def _adopt_root(self, txn: Transaction, inode: InodeNo, source: int) -> None:
        row = self._index.inodes.get(txn, inode)
        directory = self._index.dirs.get(txn, inode)
        assert row is not None
        assert directory is not None
        if row.source != source:
            self._index.inodes.put(txn, inode, row._replace(source=source, path=b""))
            flags = DirectoryFlag.SOURCE_ROOT
            self._index.dirs.put(txn, inode, directory._replace(flags=flags, listed_at=0.0))

    def _put_directory(
        self, txn: Transaction, inode: InodeNo, parent: InodeNo, source: int, path: bytes, flags: int, entry: Entry | None = None
    ) -> None:
        row = _inode_row(entry or Entry(b"", EntryKind.DIRECTORY), parent, source, path)
        if not row.mtime_ns:  # flat stores know no time of a prefix: the moment it was first seen is better than 1970
            row = row._replace(mtime_ns=int(self._clock() * 1e9), ctime_ns=int(self._clock() * 1e9))
        self._index.inodes.put(txn, inode, row)
        if self._index.dirs.get(txn, inode) is None:
            self._index.dirs.put(txn, inode, Directory(flags=flags))

    def _new_inode(self) -> InodeNo:
        inode = (self._epoch << EPOCH_SHIFT) | self._next
        self._next += 1
        return inode

    def _add_name(
        self, txn: Transaction, parent: InodeNo, name: bytes, inode: InodeNo, kind: int, *, listing_pass: int, checked_at: int = 0
    ) -> None:
        directory = self._index.dirs.get(txn, parent) or Directory()
        self._index.names.put(txn, parent, name, NameRow(inode, kind, directory.next_seq, listing_pass, checked_at))
        changed = directory._replace(
            next_seq=directory.next_seq + 1, entries=directory.entries + 1, changes=directory.changes + 1
        )
        self._index.dirs.put(txn, parent, changed)

    @contextlib.contextmanager
    def _write(self) -> Iterator[Transaction]:
        """One transaction. Raises: CacheError(NO_SPACE) if the index cannot grow; nothing was changed then."""
        try:
            with self._index.write() as txn:
                yield txn
        except NoSpaceError as error:
            raise CacheError(ErrorKind.NO_SPACE, f"names cannot be stored: {error}") from error

    @contextlib.contextmanager
    def _change(self) -> Iterator[Transaction]:
        """One transaction with the counters; if it fails, they are what they were."""
        before = self.files, self.total_bytes, self.hidden
        try:
            with self._write() as txn:
                yield txn
                meta = self._index.meta
                meta.put(txn, "next_inode", self._next)
                meta.put(txn, "files", self.files)
                meta.put(txn, "total_bytes", self.total_bytes)
                meta.put(txn, "hidden", self.hidden)
        except BaseException:
            self.files, self.total_bytes, self.hidden = before
            raise
        # After the commit: if fetch dies in between, the index is ahead of this, as it may be. The other way round a new fetch
        # would find its index older than what readers have seen, and drop it.
        _U64.pack_into(self._memory, H_NEXT_INODE, self._next)

    # -- listings

    def begin_pass(self, inode: InodeNo) -> int:
        """Start a listing pass of a directory; return its number, 0 if the directory is gone."""
        with self._change() as txn:
            directory = self._index.dirs.get(txn, inode)
            if directory is None:
                return 0
            number = directory.listing_pass + 1
            self._noticed[inode] = 0
            self.hidden -= directory.hidden
            self._index.dirs.put(txn, inode, directory._replace(listing_pass=number, hidden=0, token=b""))
            return number

    def apply_page(self, parent: InodeNo, entries: Iterable[Entry], listing_pass: int, hidden: int = 0) -> Changes:
        """Merge a page of a listing into a directory."""
        changes = Changes()
        with self._change() as txn:
            parent_row = self._index.inodes.get(txn, parent)
            directory = self._index.dirs.get(txn, parent)
            if parent_row is None or directory is None:
                return changes  # removed while it was listed
            writer = _PageWriter(self, self._index, txn, parent, parent_row, directory, listing_pass, changes)
            writer.hide(hidden)
            for entry in entries:
                writer.apply(entry)
            writer.finish()
        if parent in self._noticed:
            self._noticed[parent] += writer.noticed
        return changes

    def end_pass(self, inode: InodeNo, listing_pass: int, began_at: float) -> Iterator[Changes]:
        """All pages were applied: what this pass did not see is gone, then the directory is complete as of `began_at`. In
        steps; if they are not all taken, the next pass does the rest."""
        noticed = self._noticed.pop(inode, 0)
        found = self.directory(inode)
        if found is not None and noticed != found.entries:  # else every name there is was seen
            yield from self._remove_unseen(inode, listing_pass)
        with self._write() as txn:
            directory = self._index.dirs.get(txn, inode)
            if directory is not None:
                flags = directory.flags | DirectoryFlag.COMPLETE
                self._index.dirs.put(txn, inode, directory._replace(flags=flags, listed_at=began_at, token=b""))

    def forget_pass(self, inode: InodeNo) -> None:
        """A pass is over, whether it came to its end or not."""
        self._noticed.pop(inode, None)

    def _remove_unseen(self, inode: InodeNo, listing_pass: int) -> Iterator[Changes]:
        start: bytes | None = b""
        while start is not None:
            stale: list[tuple[bytes, NameRow]] = []
            with self._index.read() as txn:
                names, start = self._some_names(txn, inode, start)
                for name, row in names:
                    if len(stale) == STEP_REMOVALS:
                        start = name
                        break
                    if row.listing_pass < listing_pass and not self._is_from_spec(txn, row):
                        stale.append((name, row))
            for _, row in stale:
                if row.kind == EntryKind.DIRECTORY:
                    yield from self.empty(row.inode)
            changes = Changes()
            with self._change() as txn:
                for name, row in stale:
                    if self._index.names.get(txn, inode, name) == row:  # else somebody has asked for it meanwhile
                        self._remove_name(txn, inode, name, row, changes)
            yield changes

    def _some_names(self, txn: Transaction, inode: InodeNo, start: bytes) -> tuple[list[tuple[bytes, NameRow]], bytes | None]:
        """Return names of a directory for one step, and where the next begins (None: these were the last)."""
        names = list(itertools.islice(self._index.names.iterate(txn, inode, start), STEP_NAMES))
        return names, names[-1][0] + b"\0" if len(names) == STEP_NAMES else None

    def empty(self, inode: InodeNo) -> Iterator[Changes]:
        """Remove what is below a directory that is gone, from the leaves up: its own name is then removed at once. If the steps
        are not all taken, what is left is found when it is asked for."""
        line = [(inode, b"")]  # directories, each with the name to go on with
        been_in = {inode}
        while line:
            directory, start = line.pop()
            changes = Changes()
            with self._change() as txn:
                for name, row in list(itertools.islice(self._index.names.iterate(txn, directory, start), STEP_REMOVALS)):
                    start = name + b"\0"
                    if row.kind == EntryKind.DIRECTORY and next(self._index.names.iterate(txn, row.inode), None) is not None:
                        if row.inode not in been_in and not self._is_from_spec(txn, row):
                            been_in.add(row.inode)
                            line += [(directory, name), (row.inode, b"")]
                            break
                        continue
                    if not self._is_from_spec(txn, row):
                        self._remove_name(txn, directory, name, row, changes)
                else:
                    if next(self._index.names.iterate(txn, directory, start), None) is not None:
                        line.append((directory, start))
            yield changes

    def is_from_spec(self, row: NameRow) -> bool:
        """Whether a name leads to the place of a source: it is there whatever another source says."""
        with self._index.read() as txn:
            return self._is_from_spec(txn, row)

    def _is_from_spec(self, txn: Transaction, row: NameRow) -> bool:
        if row.kind != EntryKind.DIRECTORY:
            return False
        directory = self._index.dirs.get(txn, row.inode)
        return directory is not None and bool(directory.flags & (DirectoryFlag.SYNTHETIC | DirectoryFlag.SOURCE_ROOT))

    def postpone(self, inode: InodeNo, listed_at: float) -> None:
        """The source cannot be asked now: what is known counts as listed then."""
        with self._write() as txn:
            directory = self._index.dirs.get(txn, inode)
            if directory is not None:
                self._index.dirs.put(txn, inode, directory._replace(listed_at=listed_at))

    def apply_stat(self, parent: InodeNo, name: bytes, entry: Entry | None) -> Changes:
        """A single name was asked for: what is there now (None: nothing)."""
        changes = Changes()
        now = int(self._clock())
        if parent in self._noticed:
            self._noticed[parent] = UNCERTAIN
        with self._change() as txn:
            parent_row = self._index.inodes.get(txn, parent)
            directory = self._index.dirs.get(txn, parent)
            if parent_row is None or directory is None:
                return changes
            known = self._index.names.get(txn, parent, name)
            if known is not None and self._is_from_spec(txn, known):
                return changes
            if entry is None:
                if known is not None:
                    self._remove_name(txn, parent, name, known, changes)
            else:
                writer = _PageWriter(self, self._index, txn, parent, parent_row, directory, directory.listing_pass, changes, now)
                writer.apply(entry)
                writer.finish()
        return changes

    def expire_names(self, inode: InodeNo) -> Iterator[Changes]:
        """Names whose listing tells nothing of their version count as never checked: whoever wants one asks for it. In steps."""
        directory = self.directory(inode)
        start: bytes | None = b""
        while start is not None and directory is not None and directory.flags & DirectoryFlag.INEXACT:
            changes = Changes()
            with self._write() as txn:
                names, start = self._some_names(txn, inode, start)
                for name, row in names:
                    if len(changes.entries) == STEP_REMOVALS:
                        start = name
                        break
                    if row.checked_at:
                        self._index.names.touch(txn, inode, name, row._replace(checked_at=0))
                        changes.entries.append((inode, name))
            yield changes

    def touch_name(self, parent: InodeNo, name: bytes, checked_at: float) -> None:
        """The name counts as checked then, whatever the source would say."""
        with self._write() as txn:
            row = self._index.names.get(txn, parent, name)
            if row is not None:
                self._index.names.touch(txn, parent, name, row._replace(checked_at=int(checked_at)))

    def mark_gone(self, inode: InodeNo) -> None:
        with self._write() as txn:
            row = self._index.inodes.get(txn, inode)
            if row is not None and not row.flags & InodeFlag.GONE:
                self._index.inodes.put(txn, inode, row._replace(flags=row.flags | InodeFlag.GONE))

    def _remove_name(self, txn: Transaction, parent: InodeNo, name: bytes, row: NameRow, changes: Changes) -> None:
        self._index.names.delete(txn, parent, name)
        directory = self._index.dirs.get(txn, parent)
        if directory is not None:
            self._index.dirs.put(
                txn, parent, directory._replace(entries=max(0, directory.entries - 1), changes=directory.changes + 1)
            )
        changes.directories.add(parent)
        changes.entries.append((parent, name))
        self._orphan(txn, row.inode, row.kind, changes)

    def _orphan(self, txn: Transaction, inode: InodeNo, kind: int, changes: Changes) -> None:
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
        if row.flags & InodeFlag.HARD_LINKED and self._count_names(txn, inode, -1):
            return  # another name still points to it
        self._index.inodes.put(txn, inode, row._replace(flags=row.flags | InodeFlag.GONE))
        self._index.inodes.mark_orphan(txn, inode)
        cached = sum(extent.length for _, extent in self._index.extents.of_inode(txn, inode))
        if cached:  # it may still be read, but nothing that is there now is cached with it
            meta = self._index.meta
            meta.put(txn, "cached_bytes", meta.get(txn, "cached_bytes") - cached)
        changes.orphans.append(inode)

    def _count_names(self, txn: Transaction, inode: InodeNo, more: int) -> int:
        """Count the names of a hard linked inode; return how many there are now."""
        key = f"names:{inode:x}"
        count = max(0, self._index.meta.get(txn, key) + more)
        if count:
            self._index.meta.put(txn, key, count)
        else:
            self._index.meta.delete(txn, key)
        return count


class _PageWriter:
    """Applies entries to one directory inside one transaction; keeps the directory's row in hand meanwhile."""

    def __init__(
        self,
        tree: Tree,
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
        self._tree = tree
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
        self.noticed = 0  # names that this pass had not seen before
        self._prefix = parent_row.path + b"/" if parent_row.path else b""

    def hide(self, count: int) -> None:
        self._tree.hidden += count
        self._directory = self._directory._replace(hidden=self._directory.hidden + count)

    def apply(self, entry: Entry) -> None:
        if entry.needs_stat and not self._directory.flags & DirectoryFlag.INEXACT:
            self._directory = self._directory._replace(flags=self._directory.flags | DirectoryFlag.INEXACT)
        known = self._index.names.get(self._txn, self._parent, entry.name)
        if known is not None:
            if entry.kind == EntryKind.DIRECTORY == known.kind:
                self._seen(entry.name, known)
                return
            if known.kind == entry.kind:
                row = self._index.inodes.get(self._txn, known.inode)
                if row is not None and self._is_same(entry, known, row):
                    return
            elif known.kind == EntryKind.DIRECTORY and (
                (known.listing_pass == self._pass and not self._checked_at) or self._tree._is_from_spec(self._txn, known)
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
        if row.version == entry.version and row.size == _size_of(entry) and row.target == entry.target:
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

    def _seen(self, name: bytes, known: NameRow) -> None:
        checked = self._checked_at or known.checked_at
        self.noticed += known.listing_pass != self._pass
        if known.listing_pass != self._pass or checked != known.checked_at:
            self._index.names.touch(self._txn, self._parent, name, known._replace(listing_pass=self._pass, checked_at=checked))

    def _fill_in(self, entry: Entry, known: NameRow, row: Inode) -> None:
        """An inode that was known by name only gets its size and version: no attribute of it was answered before."""
        full = _inode_row(entry, self._parent, row.source, row.path)
        self._index.inodes.put(self._txn, known.inode, full._replace(flags=full.flags | (row.flags & InodeFlag.CHECK_BY_NAME)))
        if entry.kind == EntryKind.FILE:
            self._tree.total_bytes += entry.size
        self._seen(entry.name, known)

    def _put(self, entry: Entry, known: NameRow | None) -> None:
        tree, txn = self._tree, self._txn
        path = self._prefix + entry.name
        source = self._parent_row.source
        row = _inode_row(entry, self._parent, source, path)
        if known is not None:
            old = self._index.inodes.get(txn, known.inode)
            if old is not None and old.flags & InodeFlag.CHECK_BY_NAME:
                row = row._replace(flags=row.flags | InodeFlag.CHECK_BY_NAME)
        inode = self._linked_inode(entry, source)
        if inode is None:
            inode = tree._new_inode()
            if entry.kind == EntryKind.DIRECTORY:
                tree._put_directory(txn, inode, self._parent, source, path, 0, entry)
            else:
                self._index.inodes.put(txn, inode, row)
            self._remember_link(entry, source, inode)
        if entry.file_id and entry.kind != EntryKind.DIRECTORY:
            tree._count_names(txn, inode, 1)
        if entry.kind == EntryKind.FILE:
            tree.files += 1
            tree.total_bytes += 0 if entry.needs_stat else entry.size
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
            tree._orphan(txn, known.inode, known.kind, self._changes)

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


def _size_of(entry: Entry) -> int:
    return len(entry.target) if entry.kind == EntryKind.SYMLINK else entry.size


def _inode_row(entry: Entry, parent: InodeNo, source: int, path: bytes) -> Inode:
    flags = 0
    if entry.needs_stat:
        flags |= InodeFlag.NEEDS_STAT | InodeFlag.CHECK_BY_NAME
    if entry.file_id:
        flags |= InodeFlag.HARD_LINKED
    return Inode(
        kind=entry.kind,
        flags=flags,
        mode=NO_MODE if entry.mode is None else entry.mode & 0o7777,
        uid=NO_OWNER if entry.uid is None else entry.uid,
        gid=NO_OWNER if entry.gid is None else entry.gid,
        nlink=entry.nlink,
        size=_size_of(entry),
        mtime_ns=entry.mtime_ns,
        ctime_ns=entry.mtime_ns,
        parent=parent,
        source=source,
        identity=identity_of(source, path, entry.version),
        path=path,
        version=entry.version,
        target=entry.target,
    )
