"""The places of sources in the tree of names: the tree is made to have those of the spec when a life of the cache begins.

An index outlives the mount it was made for, and mounts change: a source gets another URL, goes, or comes, be it between two
mounts or under a FUSE connection that programs use. What is below a place is of one source only, so that what an earlier one
left there goes before the place is handed over. A place keeps its inode through that (a directory that is bound elsewhere goes
on as the new one); names below get new ones, so that no open file and no cached block changes its source.

State: none but in the index. Called by fetch before it serves anybody: nothing else changes the tree meanwhile.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence

from xxhash import xxh3_64_intdigest

from fusecache.fetch.tree import STEP_NAMES, Tree
from fusecache.fetch.tree_rows import Changes
from fusecache.index.directories import Directory, DirectoryFlag
from fusecache.index.environment import Transaction
from fusecache.index.index import Index
from fusecache.index.inodes import ROOT, InodeNo
from fusecache.source.protocol import EntryKind

Parts = tuple[bytes, ...]

_FROM_SPEC = DirectoryFlag.SYNTHETIC | DirectoryFlag.SOURCE_ROOT
_NO_SOURCE = 0


class Roots:
    """Invariant: `meta.places` is there only while the tree has exactly the places that it stands for: who dies in the middle
    leaves work that the next life finds."""

    def __init__(self, index: Index, tree: Tree) -> None:
        self._index = index
        self._tree = tree

    def arrange(self, places: Sequence[tuple[int, Parts]]) -> Iterator[Changes]:
        """Make the tree have these places, (source id, components), and no others. In steps of some milliseconds, all of which
        have to be taken before anybody is served; none if nothing changed. Raises: CacheError(NO_SPACE)."""
        wanted = _wanted(places)
        digest = _digest(wanted)
        if self._has(wanted, digest):
            return
        with self._tree.change() as txn:
            self._index.meta.delete(txn, "places")
            if self._index.inodes.get(txn, ROOT) is None:
                source = wanted[()]
                self._tree.rows.put_directory(txn, ROOT, ROOT, source, b"", _flags(source))
        yield from self._remove_others(wanted)
        for parts in sorted(wanted, key=len):
            yield from self._make(parts, wanted[parts])
        with self._tree.change() as txn:
            self._index.meta.put(txn, "places", digest)

    def _has(self, wanted: Mapping[Parts, int], digest: int) -> bool:
        with self._index.read() as txn:
            if self._index.meta.get(txn, "places") != digest:
                return False
            found = {parts: self._find(txn, parts) for parts in wanted}
            return all(inode is not None and self._is(txn, inode, wanted[parts]) for parts, inode in found.items())

    def _find(self, txn: Transaction, parts: Parts) -> InodeNo | None:
        inode = ROOT
        for part in parts:
            row = self._index.names.get(txn, inode, part)
            if row is None or row.kind != EntryKind.DIRECTORY:
                return None
            inode = row.inode
        return inode

    def _is(self, txn: Transaction, inode: InodeNo, source: int) -> bool:
        row, directory = self._index.inodes.get(txn, inode), self._index.dirs.get(txn, inode)
        if row is None or directory is None:
            return False
        return row.source == source and directory.flags & _FROM_SPEC == _flags(source) & _FROM_SPEC

    def _empty(self, inode: InodeNo) -> Iterator[Changes]:
        """Remove what is below. It is nobody's from the first step on: a successor must take what is left neither for all there
        is, nor for another source's, also if the spec has the old source again by then."""
        with self._tree.change() as txn:
            row, directory = self._index.inodes.get(txn, inode), self._index.dirs.get(txn, inode)
            if row is not None and directory is not None:
                self._index.inodes.put(txn, inode, row._replace(source=_NO_SOURCE))
                self._index.dirs.put(txn, inode, directory._replace(flags=DirectoryFlag.SOURCE_ROOT, listed_at=0.0))
        yield from self._tree.empty(inode)

    # -- places that are no more

    def _remove_others(self, wanted: Mapping[Parts, int]) -> Iterator[Changes]:
        """Remove what a spec put into the tree and this one does not, the deepest first: none is in the way of another."""
        found: list[InodeNo] = []
        yield from self._collect(found)
        with self._index.read() as txn:
            kept = {self._find(txn, parts) for parts in wanted}
            others = sorted(set(found) - kept, key=lambda inode: self._depth(txn, inode), reverse=True)
        for inode in others:
            yield from self._empty(inode)
            yield self._remove(inode)

    def _collect(self, found: list[InodeNo]) -> Iterator[Changes]:
        """Find all directories that a spec made. Their paths are not known: they may lie anywhere."""
        start = 0
        while True:
            with self._index.read() as txn:
                step = list(itertools.islice(self._index.dirs.iterate(txn, start), STEP_NAMES))
            found += [inode for inode, directory in step if directory.flags & _FROM_SPEC]
            if len(step) < STEP_NAMES:
                return
            start = step[-1][0] + 1
            yield Changes()

    def _depth(self, txn: Transaction, inode: InodeNo) -> int:
        depth = 0
        while inode != ROOT and (row := self._index.inodes.get(txn, inode)) is not None:
            inode, depth = row.parent, depth + 1
        return depth

    def _remove(self, inode: InodeNo) -> Changes:
        changes = Changes()
        with self._tree.change() as txn:
            row = self._index.inodes.get(txn, inode)
            assert row is not None, "a directory has an inode"
            names = self._index.names.iterate(txn, row.parent)
            known = next(((name, one) for name, one in names if one.inode == inode), None)
            if known is not None:
                self._tree.rows.remove_name(txn, row.parent, *known, changes)
            parent = self._index.dirs.get(txn, row.parent)
            if parent is not None:  # a source that has it may have had something of that name all the time: ask it
                self._index.dirs.put(txn, row.parent, parent._replace(listed_at=0.0))
        return changes

    # -- places that are to be

    def _make(self, parts: Parts, source: int) -> Iterator[Changes]:
        """Make one place, whose parent is one already."""
        with self._index.read() as txn:
            inode = self._find(txn, parts)
            if inode is not None and self._is(txn, inode, source):
                return
        if inode is None:
            yield self._add(parts, source)
            return
        yield from self._empty(inode)
        yield self._hand_over(inode, source)

    def _add(self, parts: Parts, source: int) -> Changes:
        changes = Changes()
        rows = self._tree.rows
        with self._tree.change() as txn:
            parent = self._find(txn, parts[:-1])
            assert parent is not None, "shorter paths come first"
            known = self._index.names.get(txn, parent, parts[-1])
            if known is not None:  # a file of the source above
                rows.remove_name(txn, parent, parts[-1], known, changes)
            inode = rows.new_inode()
            rows.put_directory(txn, inode, parent, source, b"", _flags(source))
            self._tree.add_name(txn, parent, parts[-1], inode, EntryKind.DIRECTORY, listing_pass=0)
        # The kernel may remember that there is no such name, programs may have read the directory.
        if (parent, parts[-1]) not in changes.entries:
            changes.entries.append((parent, parts[-1]))
        changes.directories.add(parent)
        return changes

    def _hand_over(self, inode: InodeNo, source: int) -> Changes:
        """A directory, empty but for other places, becomes another source's, or nobody's."""
        rows = self._tree.rows
        with self._tree.change() as txn:
            row, directory = self._index.inodes.get(txn, inode), self._index.dirs.get(txn, inode)
            assert row is not None, "it was found by its name"
            directory = directory or Directory()
            rows.hidden -= directory.hidden
            rows.put_directory(txn, inode, row.parent, source, b"", _flags(source))
            handed = Directory(
                flags=_flags(source),
                listing_pass=directory.listing_pass,
                next_seq=directory.next_seq,  # a listing that is being read goes on behind what it has seen
                entries=directory.entries,
                changes=directory.changes + 1,
            )
            self._index.dirs.put(txn, inode, handed)
        return Changes(directories={inode})


def _wanted(places: Sequence[tuple[int, Parts]]) -> dict[Parts, int]:
    """Return the source of each place, and _NO_SOURCE for what only leads to them."""
    wanted: dict[Parts, int] = {(): _NO_SOURCE}
    for source, parts in places:
        for length in range(len(parts)):
            wanted.setdefault(parts[:length], _NO_SOURCE)
        wanted[parts] = source
    return wanted


def _digest(wanted: Mapping[Parts, int]) -> int:
    text = b"\n".join(b"%x %s" % (wanted[parts], b"/".join(parts)) for parts in sorted(wanted))
    return xxh3_64_intdigest(text)


def _flags(source: int) -> DirectoryFlag:
    return DirectoryFlag.SOURCE_ROOT if source else DirectoryFlag.SYNTHETIC | DirectoryFlag.COMPLETE
