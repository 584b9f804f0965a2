"""Ways through the tree that ask the source for what is not known yet: to one path, and to every file below a directory.

Stateless; used from fetch's loop by warm, drop and refresh.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.cache import Cache
from fusecache.index.inodes import ROOT, Inode, InodeNo
from fusecache.source.protocol import EntryKind

PAGE = 512
_MISSING = "check the name, and whether the source has it (fusecache refresh shows what is new there)"


async def find(cache: Cache, path: bytes, *, anew: bool = False) -> InodeNo:
    """Return the inode at a path of the tree, asking the source on the way; `anew`: also for what is known lately.

    Raises: NOT_FOUND, UNAVAILABLE.
    """
    inode = ROOT
    for part in (part for part in path.split(b"/") if part):
        missing = CacheError(
            ErrorKind.NOT_FOUND, f"{path.decode('utf-8', 'surrogateescape')!r} is not in the dataset; {_MISSING}"
        )
        try:
            await (cache.listing.check_name if anew else cache.listing.look_up)(inode, part)
        except CacheError as error:
            if error.kind is ErrorKind.NOT_FOUND:
                raise missing from error
            raise
        row = cache.tree.name(inode, part)
        if row is None:
            raise missing
        inode = row.inode
    return inode


async def walk_files(
    cache: Cache, root: InodeNo, on_error: Callable[[Inode, CacheError], None]
) -> AsyncIterator[tuple[InodeNo, Inode]]:
    """Yield every file below an inode, depth first; directories are listed on the way."""
    row = cache.tree.inode(root)
    if row is None:
        return
    if row.kind != EntryKind.DIRECTORY:
        if row.kind == EntryKind.FILE:
            yield root, row
        return
    line = [root]
    while line:
        directory = line.pop()
        try:
            await cache.listing.complete(directory)
        except CacheError as error:
            found = cache.tree.inode(directory)
            if found is not None:  # else it went with its parent
                on_error(found, error)
            continue
        seq = 0
        while True:
            with cache.index.read() as txn:
                names = cache.index.names.after(txn, directory, seq, PAGE)
                files = [
                    (name.inode, found)
                    for name in names
                    if name.kind == EntryKind.FILE and (found := cache.index.inodes.get(txn, name.inode)) is not None
                ]
            if not names:
                break
            seq = names[-1].seq
            line += [name.inode for name in names if name.kind == EntryKind.DIRECTORY]
            for inode, found_row in files:
                yield inode, found_row
            await trio.lowlevel.checkpoint()
