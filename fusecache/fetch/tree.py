"""The tree of names: turning listings into rows of the index.

Every method is one index transaction, called from fetch's loop without a checkpoint. What may be about very many names is an
iterator of steps, each a transaction of some milliseconds: the caller lets the loop turn in between. A name is committed before
anybody can answer it to the kernel. What writes raises CacheError(NO_SPACE) where the index cannot grow.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import mmap
import struct
import time
from collections.abc import Callable, Collection, Iterable, Iterator

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import H_NEXT_INODE
from fusecache.fetch.own_changes import OwnChanges
from fusecache.fetch.page_writer import PageWriter
from fusecache.fetch.tree_rows import Changes, TreeRows
from fusecache.index.directories import Directory, DirectoryFlag
from fusecache.index.environment import NoSpaceError, Transaction
from fusecache.index.index import Index
from fusecache.index.inodes import ROOT, Inode, InodeFlag, InodeNo
from fusecache.index.names import NameRow, SeqRow
from fusecache.source.protocol import Entry, EntryKind

_U64 = struct.Struct("<Q")
UNCERTAIN = -(1 << 62)
# One step: on a busy machine looking at a name takes up to 5 us, removing one up to 80 us, so that both are about 10 ms.
STEP_NAMES = 2000
STEP_REMOVALS = 150


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
        self._rows = TreeRows(index, clock)
        self.own_changes = OwnChanges()

    @property
    def rows(self) -> TreeRows:
        """For who makes changes of his own, inside `change`."""
        return self._rows

    @property
    def files(self) -> int:
        return self._rows.files

    @property
    def total_bytes(self) -> int:
        return self._rows.total_bytes

    @property
    def hidden(self) -> int:
        return self._rows.hidden

    # -- reading

    def inode(self, number: InodeNo) -> Inode | None:
        with self._index.read() as txn:
            return self._index.inodes.get(txn, number)

    def is_written(self, number: InodeNo) -> bool:
        if not self.own_changes.are_possible:
            return False
        with self._index.read() as txn:
            return self._index.writes.stage_of(txn, number) is not None

    def directory(self, number: InodeNo) -> Directory | None:
        with self._index.read() as txn:
            return self._index.dirs.get(txn, number)

    def name(self, parent: InodeNo, name: bytes) -> NameRow | None:
        with self._index.read() as txn:
            return self._index.names.get(txn, parent, name)

    def has_names(self, number: InodeNo) -> bool:
        with self._index.read() as txn:
            return bool(self._index.names.after(txn, number, 0, 1))

    def children(self, number: InodeNo) -> list[NameRow]:
        with self._index.read() as txn:
            return [row for _, row in self._index.names.iterate(txn, number)]

    def is_below(self, number: InodeNo, directory: InodeNo) -> bool:
        while (row := self.inode(number)) is not None and number != ROOT:
            number = row.parent
            if number == directory:
                return True
        return False

    def is_from_spec_inode(self, number: InodeNo) -> bool:
        directory = self.directory(number)
        return directory is not None and bool(directory.flags & (DirectoryFlag.SYNTHETIC | DirectoryFlag.SOURCE_ROOT))

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

    def inexact_names(self, parent: InodeNo, after_seq: int, count: int) -> tuple[list[bytes], int]:
        """Return those of the next `count` names of a directory whose size and version are not known exactly, and the number
        to go on after: 0 at the end."""
        with self._index.read() as txn:
            rows = self._index.names.after(txn, parent, after_seq, count)
            inexact = [
                row.name
                for row in rows
                if (inode := self._index.inodes.get(txn, row.inode)) is not None and inode.flags & InodeFlag.NEEDS_STAT
            ]
            return inexact, rows[-1].seq if len(rows) == count else 0

    def unlisted_near(self, parent: InodeNo, name: bytes, count: int, without: Collection[InodeNo] = ()) -> list[InodeNo]:
        """Return up to `count` directories that were never listed, but those `without`: those that follow a name in readdir
        order, then those before it, the nearest first (a program that keeps its directories on a stack comes from the end)."""
        with self._index.read() as txn:
            row = self._index.names.get(txn, parent, name)
            seq = row.seq if row else 0
            reach = 16 * count + len(without)
            found = self._unlisted(txn, self._index.names.after(txn, parent, seq, reach), without)[:count]
            if len(found) < count:
                found += self._unlisted(txn, self._index.names.before(txn, parent, seq, reach), without)[: count - len(found)]
        return found

    def _unlisted(self, txn: Transaction, rows: Iterable[SeqRow], without: Collection[InodeNo]) -> list[InodeNo]:
        return [
            row.inode
            for row in rows
            if row.kind == EntryKind.DIRECTORY
            and row.inode not in without
            and (found := self._index.dirs.get(txn, row.inode)) is not None
            and not found.is_complete
        ]

    # -- making

    def add_name(
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
    def change(self) -> Iterator[Transaction]:
        """One transaction with the counters; if it fails, they are what they were."""
        rows = self._rows
        before = rows.files, rows.total_bytes, rows.hidden
        try:
            with self._write() as txn:
                yield txn
                rows.store_totals(txn)
        except BaseException:
            rows.files, rows.total_bytes, rows.hidden = before
            raise
        # After the commit: if fetch dies in between, the index is ahead of this, as it may be. The other way round a new fetch
        # would find its index older than what readers have seen, and drop it.
        _U64.pack_into(self._memory, H_NEXT_INODE, self._rows.next_inode)

    # -- listings

    def begin_pass(self, inode: InodeNo) -> int:
        """Start a listing pass of a directory; return its number, 0 if the directory is gone."""
        with self.change() as txn:
            directory = self._index.dirs.get(txn, inode)
            if directory is None:
                return 0
            number = directory.listing_pass + 1
            self._noticed[inode] = 0
            self._rows.hidden -= directory.hidden
            self._index.dirs.put(txn, inode, directory._replace(listing_pass=number, hidden=0, token=b""))
            return number

    def apply_page(
        self, parent: InodeNo, entries: Iterable[Entry], listing_pass: int, hidden: int = 0, asked_at: float = 0.0
    ) -> Changes:
        """Merge a page of a listing into a directory. `asked_at`: when the source was asked, on the clock of `own_changes`."""
        changes = Changes()
        with self.change() as txn:
            parent_row = self._index.inodes.get(txn, parent)
            directory = self._index.dirs.get(txn, parent)
            if parent_row is None or directory is None:
                return changes  # removed while it was listed
            writer = PageWriter(self._rows, self._index, txn, parent, parent_row, directory, listing_pass, changes)
            writer.hide(hidden)
            writer.apply(self._not_ours(txn, parent, entries, asked_at, writer))
            writer.finish()
        if parent in self._noticed:
            self._noticed[parent] += writer.noticed
        return changes

    def _not_ours(
        self, txn: Transaction, parent: InodeNo, entries: Iterable[Entry], asked_at: float, writer: PageWriter
    ) -> list[Entry]:
        """Leave out what we know better: names that are being written, or that we changed after the source was asked."""
        if not self.own_changes.are_possible:
            return list(entries)
        left = []
        for entry in entries:
            known = self._index.names.get(txn, parent, entry.name)
            if known is not None and self._index.writes.stage_of(txn, known.inode) is not None:
                writer.see(entry.name, known)
            elif self.own_changes.is_newer(parent, entry.name, asked_at):
                if known is not None:
                    writer.see(entry.name, known)
            else:
                left.append(entry)
        return left

    def seen_names(self, inode: InodeNo) -> int:
        """A number that grows with each name that the pass under way had not seen before."""
        return self._noticed.get(inode, 0)

    def end_pass(self, inode: InodeNo, listing_pass: int, began_at: float, asked_at: float = 0.0) -> Iterator[Changes]:
        """All pages were applied: what this pass did not see is gone, then the directory is complete as of `began_at`. In
        steps; if they are not all taken, the next pass does the rest."""
        noticed = self._noticed.pop(inode, 0)
        found = self.directory(inode)
        if found is not None and noticed != found.entries:  # else every name there is was seen
            yield from self._remove_unseen(inode, listing_pass, asked_at)
        with self._write() as txn:
            directory = self._index.dirs.get(txn, inode)
            if directory is not None:
                flags = directory.flags | DirectoryFlag.COMPLETE
                self._index.dirs.put(txn, inode, directory._replace(flags=flags, listed_at=began_at, token=b""))

    def forget_pass(self, inode: InodeNo) -> None:
        """A pass is over, whether it came to its end or not."""
        self._noticed.pop(inode, None)

    def _is_kept(self, txn: Transaction, parent: InodeNo, name: bytes, row: NameRow, asked_at: float) -> bool:
        """Whether a name stays although the source does not have it: it leads to another source, or it is our own."""
        if self._rows.is_from_spec(txn, row):
            return True
        if not self.own_changes.are_possible:
            return False
        return self._index.writes.stage_of(txn, row.inode) is not None or self.own_changes.is_newer(parent, name, asked_at)

    def _remove_unseen(self, inode: InodeNo, listing_pass: int, asked_at: float) -> Iterator[Changes]:
        start: bytes | None = b""
        while start is not None:
            stale: list[tuple[bytes, NameRow]] = []
            with self._index.read() as txn:
                names, start = self._some_names(txn, inode, start)
                for name, row in names:
                    if len(stale) == STEP_REMOVALS:
                        start = name
                        break
                    if row.listing_pass < listing_pass and not self._is_kept(txn, inode, name, row, asked_at):
                        stale.append((name, row))
            for _, row in stale:
                if row.kind == EntryKind.DIRECTORY:
                    yield from self.empty(row.inode)
            changes = Changes()
            with self.change() as txn:
                for name, row in stale:
                    if self._index.names.get(txn, inode, name) == row:  # else somebody has asked for it meanwhile
                        self._rows.remove_name(txn, inode, name, row, changes)
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
            with self.change() as txn:
                for name, row in list(itertools.islice(self._index.names.iterate(txn, directory, start), STEP_REMOVALS)):
                    start = name + b"\0"
                    if row.kind == EntryKind.DIRECTORY and next(self._index.names.iterate(txn, row.inode), None) is not None:
                        if row.inode not in been_in and not self._rows.is_from_spec(txn, row):
                            been_in.add(row.inode)
                            line += [(directory, name), (row.inode, b"")]
                            break
                        continue
                    if not self._rows.is_from_spec(txn, row):
                        self._rows.remove_name(txn, directory, name, row, changes)
                else:
                    if next(self._index.names.iterate(txn, directory, start), None) is not None:
                        line.append((directory, start))
            yield changes

    def is_from_spec(self, row: NameRow) -> bool:
        """Whether a name leads to the place of a source: it is there whatever another source says."""
        with self._index.read() as txn:
            return self._rows.is_from_spec(txn, row)

    def postpone(self, inode: InodeNo, listed_at: float) -> None:
        """The source cannot be asked now: what is known counts as listed then."""
        with self._write() as txn:
            directory = self._index.dirs.get(txn, inode)
            if directory is not None:
                self._index.dirs.put(txn, inode, directory._replace(listed_at=listed_at))

    def apply_stat(self, parent: InodeNo, name: bytes, entry: Entry | None, asked_at: float = 0.0) -> Changes:
        """A single name was asked for: what is there now (None: nothing). `asked_at`: as for `apply_page`."""
        changes = Changes()
        now = int(self._clock())
        if parent in self._noticed:
            self._noticed[parent] = UNCERTAIN
        with self.change() as txn:
            parent_row = self._index.inodes.get(txn, parent)
            directory = self._index.dirs.get(txn, parent)
            if parent_row is None or directory is None:
                return changes
            known = self._index.names.get(txn, parent, name)
            if known is not None and self._is_kept(txn, parent, name, known, asked_at):
                self._index.names.touch(txn, parent, name, known._replace(checked_at=now))
                return changes
            if known is None and self.own_changes.is_newer(parent, name, asked_at):
                return changes
            if entry is None:
                if known is not None:
                    self._rows.remove_name(txn, parent, name, known, changes)
            else:
                writer = PageWriter(
                    self._rows, self._index, txn, parent, parent_row, directory, directory.listing_pass, changes, now
                )
                writer.apply([entry])
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
