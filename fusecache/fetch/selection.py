"""What of the tree a warm is about: paths, patterns, names that match, and a list that lies in the tree itself.

State: the request, and what its paths were found to be. A file comes once, whatever names it: what lies below a path is left to
that path by patterns, and what an earlier pattern matches is left to that one. Used from fetch's loop.
"""

from __future__ import annotations

import fnmatch
from collections.abc import AsyncIterator, Callable, Container, Iterable

import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.warm_request import WarmRequest, fixed_part
from fusecache.fetch.cache import Cache
from fusecache.fetch.tree_walk import PAGE, find, walk_files
from fusecache.fetch.workers import Priority
from fusecache.index.inodes import ROOT, Inode, InodeNo
from fusecache.source.protocol import EntryKind

MAX_LIST_BYTES = 64 << 20  # of a file that names files: half a million long names

OnError = Callable[[Inode, CacheError], None]
Files = AsyncIterator[tuple[InodeNo, Inode]]


class PathPattern:
    """`*` and `?` stand for anything within a name, `**` for any number of directories. Positions are those before a name of the
    pattern; len(parts) is behind the last: what is there matches, with all below it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = [_encode(part) for part in text.split("/")]
        self._end = len(self._parts)
        self.fixed = [_encode(part) for part in fixed_part(text)]

    @property
    def start(self) -> frozenset[int]:
        """Return the positions in the directory of `fixed`."""
        return self._closed({len(self.fixed)})

    def step(self, at: frozenset[int], name: bytes) -> frozenset[int]:
        """Return the positions behind a name; none: nothing that begins like this matches."""
        found = set()
        for position in at:
            if position == self._end or self._parts[position] == b"**":
                found.add(position)
            elif _matches(name, self._parts[position]):
                found.add(position + 1)
        return self._closed(found)

    def is_match(self, at: frozenset[int]) -> bool:
        return self._end in at

    def names(self, at: frozenset[int]) -> list[bytes] | None:
        """Return the only names that go on from here, None if it takes a listing to know."""
        parts = [self._parts[position] for position in sorted(at) if position < self._end]
        return None if any(b"*" in part or b"?" in part for part in parts) else parts

    def covers(self, path: bytes) -> bool:
        """Whether a path of the tree matches, or a directory that it lies in."""
        at = self._closed({0})
        for name in path.split(b"/"):
            at = self.step(at, name)
        return self.is_match(at)

    def _closed(self, positions: set[int]) -> frozenset[int]:
        """`**` stands for no directory, too."""
        line = list(positions)
        while line:
            position = line.pop()
            if position < self._end and self._parts[position] == b"**" and position + 1 not in positions:
                positions.add(position + 1)
                line.append(position + 1)
        return frozenset(positions)


class Selection:
    """Call `look` once, then `files` as often as needed."""

    def __init__(self, cache: Cache, request: WarmRequest) -> None:
        self._cache = cache
        self._request = request
        self._patterns = [PathPattern(one) for one in request.patterns]
        self._roots: dict[bytes, InodeNo] = {}  # in the order in which they were named
        self._filter = _encode(request.name_filter)

    @property
    def is_everything(self) -> bool:
        return ROOT in self._roots.values() and not self._filter

    async def look(self, on_missing: Callable[[bytes, CacheError], None]) -> None:
        """Find what is named. `on_missing`: told of lines of the list that name nothing.

        Raises: CacheError(NOT_FOUND) for a path, and whatever keeps the list from being read."""
        request = self._request
        paths = [_encode(path) for path in request.paths]
        if not paths and not self._patterns:
            paths = [b""]
        if not request.file_list:
            await self._add_roots(paths)
            return
        wanted = set(paths)
        for path in await self._listed():
            if not _covered(path, wanted) and not any(pattern.covers(path) for pattern in self._patterns):
                continue
            try:
                await self._add_roots([path])
            except CacheError as error:
                if error.kind is not ErrorKind.NOT_FOUND:
                    raise
                on_missing(path, error)
        self._patterns = []

    async def files(self, on_error: OnError) -> Files:
        """Yield every file that is meant, in the order of paths, then of patterns. Directories are listed on the way.

        Raises: CacheError(NOT_FOUND) for a pattern that nothing matches."""
        for path, root in self._roots.items():
            if path and _covered(path.rpartition(b"/")[0], self._roots):
                continue
            async for inode, row in walk_files(self._cache, root, on_error):
                if self._is_wanted(row):
                    yield inode, row
        for number, pattern in enumerate(self._patterns):
            async for inode, row in self._matching(pattern, on_error):
                if self._is_wanted(row) and not self._comes_elsewhere(self.path_of(row), number):
                    yield inode, row

    def path_of(self, row: Inode) -> bytes:
        """Return the path from the root of the tree; `row.path` begins at the source's."""
        subdir = next((one.subdir for one in self._cache.sources.all if one.id == row.source), ())
        return b"/".join((*subdir, row.path) if row.path else subdir)

    async def _add_roots(self, paths: Iterable[bytes]) -> None:
        for path in paths:
            self._roots[path] = await find(self._cache, path)

    def _is_wanted(self, row: Inode) -> bool:
        return not self._filter or _matches(row.path.rpartition(b"/")[2], self._filter, is_glob=True)

    def _comes_elsewhere(self, path: bytes, number: int) -> bool:
        return _covered(path, self._roots) or any(pattern.covers(path) for pattern in self._patterns[:number])

    async def _matching(self, pattern: PathPattern, on_error: OnError) -> Files:
        line = [(await find(self._cache, b"/".join(pattern.fixed)), pattern.start)]
        is_matched = False
        while line:
            directory, at = line.pop()
            names = pattern.names(at)
            if pattern.is_match(at):
                is_matched = True
                async for found in walk_files(self._cache, directory, on_error):
                    yield found
                continue
            try:
                children = await self._children(directory, names)
            except CacheError as error:
                row = self._cache.tree.inode(directory)
                if row is not None:
                    on_error(row, error)
                continue
            for name, inode, kind in children:
                after = pattern.step(at, name)
                if pattern.is_match(after):
                    is_matched = True
                    async for found in walk_files(self._cache, inode, on_error):
                        yield found
                elif after and kind == EntryKind.DIRECTORY:
                    line.append((inode, after))
        if not is_matched:
            raise CacheError(ErrorKind.NOT_FOUND, f"nothing in the dataset matches {pattern.text!r}; check the pattern")

    async def _children(self, directory: InodeNo, names: list[bytes] | None) -> list[tuple[bytes, InodeNo, int]]:
        """Return names, inodes and kinds: of these names, or of all that there are. Raises: CacheError."""
        cache = self._cache
        if names is not None:
            found = []
            for name in names:
                try:
                    await cache.listing.look_up(directory, name)
                except CacheError as error:
                    if error.kind is not ErrorKind.NOT_FOUND:
                        raise
                row = cache.tree.name(directory, name)
                if row is not None:
                    found.append((name, row.inode, row.kind))
            return found
        await cache.listing.complete(directory)
        children: list[tuple[bytes, InodeNo, int]] = []
        seq = 0
        while True:
            with cache.index.read() as txn:
                page = cache.index.names.after(txn, directory, seq, PAGE)
            if not page:
                return children
            seq = page[-1].seq
            children += [(one.name, one.inode, one.kind) for one in page]
            await trio.lowlevel.checkpoint()

    async def _listed(self) -> list[bytes]:
        """Return the paths that the list names. Raises: CacheError."""
        path = self._request.file_list
        row = self._cache.tree.inode(await find(self._cache, _encode(path)))
        if row is None or row.kind != EntryKind.FILE or row.size > MAX_LIST_BYTES:
            raise CacheError(
                ErrorKind.INVALID, f"the list {path!r} has to be a file of at most {MAX_LIST_BYTES >> 20} MiB with a path a line"
            )
        opened = self._cache.sources.of(row.source)
        text = b""
        if row.size:
            source, size = opened.source, row.size
            text = bytes(await opened.gate.call(lambda: source.read(row.path, row.version, 0, size), Priority.WARM))
        root = [_encode(part) for part in self._request.list_root.split("/") if part]
        found = []
        for line in text.split(b"\n"):
            parts = [part for part in line.strip().split(b"/") if part]
            if any(part in (b".", b"..") for part in parts):
                raise CacheError(ErrorKind.INVALID, f"the list {path!r} names a path with '.' or '..' in it")
            if parts:
                found.append(b"/".join((*root, *parts)))
        return found


def _covered(path: bytes, paths: Container[bytes]) -> bool:
    """Whether a path is one of these, or lies below one. `paths`: something that `in` is cheap for."""
    while path:
        if path in paths:
            return True
        path = path.rpartition(b"/")[0]
    return b"" in paths


def _matches(name: bytes, pattern: bytes, *, is_glob: bool = False) -> bool:
    return fnmatch.fnmatchcase(name, pattern if is_glob else pattern.replace(b"[", b"[[]"))


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
