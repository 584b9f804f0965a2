"""Directories: listing them in pages, keeping them fresh, looking single names up.

One listing pass per directory at a time; whoever needs more of it waits on the pass's condition. A pass that was started runs
to its end (at background priority once nobody waits), so that the directory becomes complete. When the store does not answer,
what is known stays valid for a grace period: names outlive an outage as the cached data does. The question goes on without
those who waited for it (questions.py), and what its answer changes is passed on whenever it comes.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import trio

from fusecache.base.counters import CounterPage
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.shared_memory import Counter
from fusecache.fetch.list_ahead import ListAhead
from fusecache.fetch.listing_progress import ListingProgress
from fusecache.fetch.page_ahead import PageAhead
from fusecache.fetch.questions import Question, Questions, is_outage
from fusecache.fetch.sources import OpenSource, Sources
from fusecache.fetch.tree import Tree
from fusecache.fetch.tree_rows import Changes
from fusecache.fetch.workers import Priority
from fusecache.index.directories import DirectoryFlag
from fusecache.index.inodes import Inode, InodeFlag, InodeNo
from fusecache.index.names import NameRow
from fusecache.source.protocol import Entry, EntryKind, Page, StatMany

log = logging.getLogger(__name__)

PAGE_LIMIT = 1000  # what S3 gives at most
LARGE_DIRECTORY = 5000  # names; above it a stale name is asked for alone, not with its whole directory
RELIST_FACTOR = 20  # a directory is not listed again sooner than this many times what its listing took
STALE_GRACE_SECONDS = 5.0  # for how long a name or listing that could not be revalidated is told without another question
STAT_SIBLINGS = 64  # how many inexact names are made exact together


@dataclass(slots=True, eq=False, kw_only=True)
class _Pass(Question):
    inode: InodeNo
    number: int
    began_at: float
    asked_at: float  # on the clock of tree.own_changes
    wanted: bool = False  # a reader waits, or waited, for it


class Listing:
    def __init__(
        self,
        spec: MountSpec,
        tree: Tree,
        sources: Sources,
        nursery: trio.Nursery,
        counters: CounterPage,
        on_changes: Callable[[Changes], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`on_changes` passes on to the kernel what it may have cached."""
        self._spec = spec
        self._tree = tree
        self._sources = sources
        self._nursery = nursery
        self._counters = counters
        self._on_changes = on_changes
        self._clock = clock
        self._passes: dict[InodeNo, _Pass] = {}
        self._durations: dict[InodeNo, float] = {}
        self._bursts: set[InodeNo] = set()
        self.questions = Questions(spec.deadline_seconds, counters)
        self._hidden_logged: set[tuple[int, bytes]] = set()
        self._ahead = ListAhead(tree, self._list_ahead, self._passes.keys())

    async def give_way(self) -> None:
        """Return when no reader waits for a listing."""
        while wanted := next((one for one in self._passes.values() if one.wanted), None):
            await wanted.progress.wait()

    # -- what misses ask for

    async def list_more(
        self, inode: InodeNo, after_seq: int, row_after: Callable[[InodeNo, int], bool], *, ahead: bool = True
    ) -> None:
        """Return when `row_after(inode, after_seq)` says there is another row, or the directory is complete and fresh. `ahead`:
        a program asks, which may go on with others.

        Raises: NOT_FOUND, NOT_A_DIRECTORY, UNAVAILABLE (after the mount's deadline)."""
        self._must_be_directory(inode)
        if not self.is_fresh(inode):
            await self._list_rows(inode, after_seq, row_after)
        if ahead and after_seq == 0 and self._spec.prefetch:
            # After it, and after the answer: sixteen listings at once would take turns with the one that is waited for.
            self._nursery.start_soon(self._note_ahead, inode)

    async def _note_ahead(self, inode: InodeNo) -> None:
        self._ahead.note(inode)

    async def _list_rows(self, inode: InodeNo, after_seq: int, row_after: Callable[[InodeNo, int], bool]) -> None:
        directory = self._tree.directory(inode)
        if after_seq and directory is not None and directory.is_complete and inode not in self._passes:
            return  # a reader that is half through gets to the end of what it began with
        # A refresh of a complete directory is waited for as a whole: the reader must see what is there now. A first listing
        # is shown page by page.
        page_by_page = directory is None or not directory.is_complete
        await self._listed(inode, lambda current: page_by_page and current.pages > 0 and row_after(inode, after_seq), wanted=True)

    async def look_up(self, parent: InodeNo, name: bytes) -> None:
        """Return when the index can say what the name is. Raises: NOT_FOUND if it is nothing; UNAVAILABLE."""
        own = self._must_be_directory(parent)
        if self._spec.close_to_open and own.source and self._tree.name(parent, name) is None:
            await self._stat_name(parent, name)
            return
        if self._is_name_fresh(parent, name):
            return
        directory = self._tree.directory(parent)
        known = self._tree.name(parent, name)
        if known is not None and self._tree.is_written(known.inode):  # the store knows less of it than we do
            self._tree.touch_name(parent, name, self._clock())
            return
        if known is not None and self._tree.is_from_spec(known):
            self._tree.touch_name(parent, name, self._clock())
            return
        if known is not None and self._checks_by_name(known.inode):
            await self._stat_name(parent, name)
            return
        if directory is not None and directory.entries > LARGE_DIRECTORY and directory.is_complete:
            self._refresh_in_background(parent)
            await self._stat_name(parent, name)
            return
        current = await self._listed(parent, lambda current: current.pages > 0, wanted=True)
        if current is None or current.finished:
            row = self._tree.name(parent, name)
            if row is not None and self._checks_by_name(row.inode):
                await self._stat_name(parent, name)
            return
        row = self._tree.name(parent, name)
        if row is None or row.listing_pass != current.number or self._checks_by_name(row.inode):
            await self._stat_name(parent, name)
        else:
            self._tree.touch_name(parent, name, self._clock())

    async def make_exact(self, inode: InodeNo) -> None:
        """Stat an inode that is known by an inexact listing only, and some of its siblings, which are likely to be next."""
        row = self._tree.inode(inode)
        if row is None:
            raise CacheError(ErrorKind.STALE, "the file was replaced")
        name = row.path.rpartition(b"/")[2]
        if row.flags & InodeFlag.NEEDS_STAT:
            await self._stat_name(row.parent, name)
            self._stat_siblings(row.parent, name)

    def _stat_siblings(self, parent: InodeNo, name: bytes) -> None:
        """In the background, one burst per directory at a time: names after this one that are still inexact."""
        row = self._tree.inode(parent)
        known = self._tree.name(parent, name)
        if row is None or known is None or parent in self._bursts:
            return
        opened = self._sources.of(row.source)
        source = opened.source
        names, _ = self._tree.inexact_names(parent, known.seq, STAT_SIBLINGS)
        if isinstance(source, StatMany) and names:
            self._bursts.add(parent)
            self._nursery.start_soon(self._stat_burst, opened, source, row, parent, names)

    async def _stat_burst(self, opened: OpenSource, source: StatMany, row: Inode, parent: InodeNo, names: list[bytes]) -> None:
        try:
            await self._stat_names(opened, source, row, parent, names)
        except CacheError:
            return  # only read-ahead: whoever needs a name asks for it and gets the error
        finally:
            self._bursts.discard(parent)

    async def _stat_names(self, opened: OpenSource, source: StatMany, row: Inode, parent: InodeNo, names: list[bytes]) -> None:
        """Stat names at background priority. Those that the source refuses stay as they are. Raises: UNAVAILABLE."""
        paths = [row.path + b"/" + name if row.path else name for name in names]
        asked_at = self._tree.own_changes.now()
        self._counters.add(Counter.REMOTE_REQUESTS, len(paths))
        entries = await opened.gate.call(lambda: source.stat_many(paths), Priority.PREFETCH)
        for name, entry in zip(names, entries, strict=True):
            if not isinstance(entry, CacheError):
                with contextlib.suppress(CacheError):
                    self._tree.apply_stat(parent, name, entry, asked_at)

    async def make_names_exact(self, parent: InodeNo, names: list[bytes]) -> None:
        """Stat names of a directory that are known by an inexact listing only. Raises: UNAVAILABLE, STALE: it is gone."""
        row = self._tree.inode(parent)
        if row is None:
            raise CacheError(ErrorKind.STALE, "the directory was replaced")
        opened = self._sources.of(row.source)
        if isinstance(opened.source, StatMany):
            await self._stat_names(opened, opened.source, row, parent, names)
            return
        for name in names:
            try:
                await self._stat_name(parent, name)
            except CacheError as error:
                if is_outage(error):
                    raise

    # -- freshness

    def is_fresh(self, inode: InodeNo) -> bool:
        directory = self._tree.directory(inode)
        if directory is None:
            return False
        if directory.flags & DirectoryFlag.SYNTHETIC:
            return True
        return directory.is_complete and directory.listed_at + self._spec.ttl_seconds > self._clock()

    def _is_name_fresh(self, parent: InodeNo, name: bytes) -> bool:
        known = self._tree.name(parent, name)
        if known is not None and known.checked_at + self._spec.ttl_seconds > self._clock():
            return True
        if known is not None and self._checks_by_name(known.inode):
            return False
        return self.is_fresh(parent)

    def _checks_by_name(self, inode: InodeNo) -> bool:
        row = self._tree.inode(inode)
        return row is not None and bool(row.flags & InodeFlag.CHECK_BY_NAME)

    def _may_keep(self, inode: InodeNo, error: CacheError) -> bool:
        """Whether what is known may be shown although the source could not be asked; if so it counts as fresh for a moment."""
        directory = self._tree.directory(inode)
        if directory is None or not directory.is_complete or not is_outage(error):
            return False
        self._tree.postpone(inode, self._clock() - self._spec.ttl_seconds + STALE_GRACE_SECONDS)
        return True

    def _must_be_directory(self, inode: InodeNo) -> Inode:
        row = self._tree.inode(inode)
        if row is None or row.flags & InodeFlag.ORPHAN:
            raise CacheError(ErrorKind.STALE, "the directory is gone")
        if row.kind != EntryKind.DIRECTORY:
            raise CacheError(ErrorKind.NOT_A_DIRECTORY, "not a directory")
        return row

    # -- passes

    def refresh(self, inode: InodeNo) -> _Pass:
        """Start a pass whatever the age of what is known (or join the one under way)."""
        return self._pass_of(inode)

    async def complete(self, inode: InodeNo, *, force: bool = False) -> None:
        """Return when the directory is complete and fresh. Raises as `list_more`."""
        self._must_be_directory(inode)
        if self.is_fresh(inode) and not force:
            return
        directory = self._tree.directory(inode)
        if directory is not None and directory.flags & DirectoryFlag.SYNTHETIC:
            return
        if force:
            self.questions.outages.forget_all()
            under_way = self._passes.get(inode)  # it may have begun before what the caller wants to see
            while under_way is not None and not under_way.finished:
                await under_way.progress.wait()
        if not force:
            await self._listed(inode, lambda _: False)
            return
        current = self._pass_of(inode)
        while not current.finished:
            await current.progress.wait()
        if current.error is not None:
            raise current.error

    async def _listed(self, inode: InodeNo, is_enough: Callable[[_Pass], bool], *, wanted: bool = False) -> _Pass | None:
        """Wait for a pass of a directory to end, or until it is enough. Return it, or None where what is known has to do.
        `wanted`: for a reader.

        Raises: the error of the pass if nothing is known."""
        directory = self._tree.directory(inode)
        row = self._tree.inode(inode)
        pass_of = self._wanted_pass_of if wanted else self._pass_of
        try:
            if directory is not None and directory.is_complete and row is not None:
                return await self.questions.ask_again(self._sources.of(row.source), lambda: pass_of(inode), is_enough)
            current = pass_of(inode)
            while not current.finished and not is_enough(current):
                await current.progress.wait()
            if current.error is not None:
                raise current.error
            return current
        except CacheError as error:
            if not self._may_keep(inode, error):
                raise
            return None

    def _list_ahead(self, inode: InodeNo) -> None:
        self._pass_of(inode)

    def _refresh_in_background(self, inode: InodeNo) -> None:
        directory = self._tree.directory(inode)
        row = self._tree.inode(inode)
        if row is None or self.questions.outages.of(self._sources.of(row.source)) is not None:
            return
        wait = self._durations.get(inode, 0.0) * RELIST_FACTOR
        if directory is not None and self._clock() - directory.listed_at > max(wait, self._spec.ttl_seconds):
            self._pass_of(inode)

    def _wanted_pass_of(self, inode: InodeNo) -> _Pass:
        current = self._pass_of(inode)
        current.wanted = True
        return current

    def _pass_of(self, inode: InodeNo) -> _Pass:
        current = self._passes.get(inode)
        if current is None:
            number = self._tree.begin_pass(inode)
            current = _Pass(inode=inode, number=number, began_at=self._clock(), asked_at=self._tree.own_changes.now())
            self._passes[inode] = current
            self._nursery.start_soon(self._run_pass, current)
        return current

    async def _run_pass(self, current: _Pass) -> None:
        row = self._tree.inode(current.inode)
        failure: CacheError | None = None
        try:
            if row is None or not current.number:
                raise CacheError(ErrorKind.STALE, "the directory is gone")
            opened = self._sources.of(row.source)
            was_complete = bool(self._tree_flags(current.inode) & DirectoryFlag.COMPLETE)
            deadline = self.questions.deadline(is_known=was_complete)
            await self._list_pages(current, row, opened, deadline, was_complete)
            for changes in self._tree.end_pass(current.inode, current.number, current.began_at, current.asked_at):
                if was_complete and changes:
                    self._on_changes(changes)
                await trio.lowlevel.checkpoint()
            if was_complete and self._tree.is_large(current.inode, LARGE_DIRECTORY):
                self._durations[current.inode] = self._clock() - current.began_at
        except CacheError as error:
            failure = error
            self.questions.note_error(error)
            if error.kind is ErrorKind.NOT_A_DIRECTORY:  # a file took its place: who holds the directory holds one that is gone
                failure = CacheError(ErrorKind.NOT_FOUND, str(error))
            if failure.kind is ErrorKind.NOT_FOUND:
                with contextlib.suppress(CacheError):  # a full index: the next listing removes it
                    await self._directory_is_gone(current.inode, row)
        finally:
            self._tree.forget_pass(current.inode)
            self._passes.pop(current.inode, None)
            current.end(failure)

    def _tree_flags(self, inode: InodeNo) -> int:
        directory = self._tree.directory(inode)
        return directory.flags if directory is not None else 0

    async def _list_pages(self, current: _Pass, row: Inode, opened: OpenSource, deadline: float, was_complete: bool) -> None:
        """The next page is asked for while this one is stored: the store, and whoever reads its answer, work meanwhile."""
        progress = ListingProgress()
        page = await self._page(opened, row.path, None, deadline, _page_priority(current))
        while True:
            ahead: PageAhead | None = None
            if page.next_token is not None:
                deadline = max(deadline, time.monotonic() + self._spec.deadline_seconds)
                ask = functools.partial(self._page, opened, row.path, page.next_token, deadline, _page_priority(current))
                ahead = PageAhead(ask)
                self._nursery.start_soon(ahead.run)
                await ahead.begun.wait()
            seen = self._tree.seen_names(current.inode)
            changes = self._tree.apply_page(current.inode, page.entries, current.number, len(page.hidden), current.asked_at)
            self._note_hidden(opened, page)
            if was_complete and changes:
                self._on_changes(changes)
            current.pages += 1
            current.advance()
            if ahead is None or page.next_token is None:
                return
            has_names = bool(page.hidden) or self._tree.seen_names(current.inode) != seen
            if not progress.goes_on(page.next_token, has_names=has_names):
                raise CacheError(
                    ErrorKind.UNAVAILABLE,
                    f"{opened.source.url}: the listing of {row.path!r} does not end: its continuation tokens lead nowhere",
                )
            page = await ahead.result()

    async def _page(self, opened: OpenSource, path: bytes, token: str | None, deadline: float, priority: Priority) -> Page:
        return await self.questions.call(opened, lambda: opened.source.list_page(path, token, PAGE_LIMIT), deadline, priority)

    async def _empty(self, inode: InodeNo) -> None:
        """A directory is gone: remove what is below, however much, before its own name goes."""
        for changes in self._tree.empty(inode):
            self._on_changes(changes)
            await trio.lowlevel.checkpoint()

    async def _directory_is_gone(self, inode: InodeNo, row: Inode | None) -> None:
        if row is None or self._tree_flags(inode) & (DirectoryFlag.SYNTHETIC | DirectoryFlag.SOURCE_ROOT):
            return
        await self._empty(inode)
        changes = self._tree.apply_stat(row.parent, row.path.rpartition(b"/")[2], None)
        self._on_changes(changes)

    def _note_hidden(self, opened: OpenSource, page: Page) -> None:
        for hidden in page.hidden:
            key = (opened.id, hidden.name)
            if len(self._hidden_logged) < 100 and key not in self._hidden_logged:  # enough to find the pattern; `status` counts
                log.warning("%s: %r is not shown: %s", opened.source.url, hidden.name, hidden.reason)
                self._hidden_logged.add(key)
        self._counters.set(Counter.HIDDEN, self._tree.hidden)

    # -- single names

    async def check_name(self, parent: InodeNo, name: bytes) -> None:
        """Ask the source about a name, however lately it was asked before. Raises: NOT_FOUND; not for a store that is away."""
        known, directory = self._tree.name(parent, name), self._tree.directory(parent)
        if known is not None and self._tree.is_from_spec(known):
            return
        if directory is not None and directory.flags & DirectoryFlag.SYNTHETIC:
            raise CacheError(ErrorKind.NOT_FOUND, "no source has this place")
        await self._stat_name(parent, name)

    async def _stat_name(self, parent: InodeNo, name: bytes) -> None:
        row = self._must_be_directory(parent)
        opened = self._sources.of(row.source)
        known = self._tree.name(parent, name)
        question = Question()
        if known is None or self._needs_stat(known.inode):
            await self._run_stat(question, opened, row, parent, name, known)
            if question.error is not None:
                raise question.error
            return

        def ask() -> Question:
            self._nursery.start_soon(self._run_stat, question, opened, row, parent, name, known)
            return question

        try:
            await self.questions.ask_again(opened, ask, lambda _: False)
        except CacheError as error:
            if not is_outage(error):
                raise
            self._tree.touch_name(parent, name, self._clock() - self._spec.ttl_seconds + STALE_GRACE_SECONDS)

    async def _run_stat(
        self, question: Question, opened: OpenSource, row: Inode, parent: InodeNo, name: bytes, known: NameRow | None
    ) -> None:
        """`known` is what the index said of the name when the question was put."""
        path = row.path + b"/" + name if row.path else name
        failure: CacheError | None = None
        asked_at = self._tree.own_changes.now()
        try:
            entry: Entry | None = None
            try:
                deadline = self.questions.deadline(is_known=known is not None and not self._needs_stat(known.inode))
                entry = await self.questions.call(opened, lambda: opened.source.stat(path), deadline)
            except CacheError as error:
                if error.kind is not ErrorKind.NOT_FOUND:
                    raise
                failure = CacheError(ErrorKind.NOT_FOUND, "no such object")
            if entry is None and known is not None and known.kind == EntryKind.DIRECTORY and not self._tree.is_from_spec(known):
                await self._empty(known.inode)
            now = self._tree.name(parent, name)
            if question.is_left and known is not None and now is not None and now.inode != known.inode:
                return  # a late answer, and somebody else has heard since that it was replaced: this may be older
            changes = self._tree.apply_stat(parent, name, entry, asked_at)
            if known is not None and changes:
                self._on_changes(changes)
            if failure is not None and self._tree.name(parent, name) is not None:
                failure = None  # made by ourselves meanwhile
        except CacheError as error:
            failure = error
        finally:
            question.end(failure)

    def _needs_stat(self, inode: InodeNo) -> bool:
        row = self._tree.inode(inode)
        return row is None or bool(row.flags & InodeFlag.NEEDS_STAT)


def _page_priority(current: _Pass) -> Priority:
    return Priority.DEMAND if current.wanted and current.pages < 4 else Priority.PREFETCH
