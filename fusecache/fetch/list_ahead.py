"""Read-ahead for listings: a program that walks a tree finds the next directories listed already.

A walk is recognised when a directory is listed soon after its parent or a sibling was: its nearest siblings are then listed too,
a few at a time. Runs in fetch's loop, without checkpoints; memory is a table of fixed size.
"""

from __future__ import annotations

import collections
import time
from collections.abc import Callable, Collection

from fusecache.fetch.tree import Tree
from fusecache.index.inodes import ROOT, InodeNo

WALK_SECONDS = 5.0  # between the listing of a directory and of one in it, for a program that walks
SIBLINGS = 16  # listed ahead of the one that is read, when the walk has gone on for a while
FIRST_SIBLINGS = 4  # at its beginning: it may be no walk, and what is read next must not wait for the rest
MAX_UNDER_WAY = 24  # listings at once, those that readers wait for included
REMEMBERED = 256


class ListAhead:
    def __init__(self, tree: Tree, start: Callable[[InodeNo], None], under_way: Collection[InodeNo]) -> None:
        """`start` lists a directory that nobody waits for; `under_way`: those that are listed now."""
        self._tree = tree
        self._start = start
        self._under_way = under_way
        self._siblings = FIRST_SIBLINGS
        self._walked_at = -WALK_SECONDS
        self._listed: collections.OrderedDict[InodeNo, float] = collections.OrderedDict()

    def note(self, inode: InodeNo) -> None:
        """A reader lists this directory."""
        now = time.monotonic()
        self._remember(inode, now)
        row = self._tree.inode(inode)
        if row is None or inode == ROOT:
            return
        is_walk = now - self._listed.get(row.parent, -WALK_SECONDS) <= WALK_SECONDS
        self._remember(row.parent, now)  # the walk goes on, or the next sibling makes it one: the parent may be known for long
        if not is_walk:
            return
        goes_on = now - self._walked_at < WALK_SECONDS
        self._siblings = min(SIBLINGS, 2 * self._siblings) if goes_on else FIRST_SIBLINGS
        self._walked_at = now
        # Those that are under way are passed over: the reader is among them, and as many as before are to be ahead of it.
        count = min(self._siblings, MAX_UNDER_WAY - len(self._under_way))
        if count > 0:
            for sibling in self._tree.unlisted_near(row.parent, row.path.rpartition(b"/")[2], count, self._under_way):
                self._start(sibling)
                self._remember(sibling, now)  # the reader will be there soon, and then in what lies below

    def _remember(self, inode: InodeNo, now: float) -> None:
        self._listed[inode] = now
        self._listed.move_to_end(inode)
        if len(self._listed) > REMEMBERED:
            self._listed.popitem(last=False)
