"""How much lies in one directory of the tree, from what is listed already: the source is not asked. Stateless.

A large directory is counted in steps, with the loop turning in between; what changes meanwhile may be counted or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.cache import Cache
from fusecache.index.inodes import InodeNo
from fusecache.source.protocol import EntryKind

STEP_NAMES = 2000  # some 10 ms


@dataclass(slots=True)
class Usage:
    """`listing_complete`: every directory below was listed at least once; else the numbers will grow."""

    files: int = 0
    total_bytes: int = 0
    listing_complete: bool = True


async def usage_of(cache: Cache, path: bytes) -> Usage:
    """Count the files of a directory and all below it. Raises: CacheError(NOT_FOUND) if it is not known."""
    found = cache.tree.resolve(path)
    if found is None:
        raise CacheError(ErrorKind.NOT_FOUND, f"{path.decode('utf-8', 'surrogateescape')!r} is not known in the dataset")
    usage = Usage()
    directories = [found[0]]
    while directories:
        await _count(cache, directories.pop(), usage, directories)
        await trio.lowlevel.checkpoint()
    return usage


async def _count(cache: Cache, directory: InodeNo, usage: Usage, more: list[InodeNo]) -> None:
    row = cache.tree.directory(directory)
    usage.listing_complete &= row is not None and row.is_complete
    after = 0
    while True:
        with cache.index.read() as txn:
            rows = cache.index.names.after(txn, directory, after, STEP_NAMES)
            files = [row.inode for row in rows if row.kind == EntryKind.FILE]
            heads = cache.index.inodes.heads(txn, files)
        usage.files += len(files)
        usage.total_bytes += sum(head.size for head in heads.values())
        more.extend(row.inode for row in rows if row.kind == EntryKind.DIRECTORY)
        if len(rows) < STEP_NAMES:
            return
        after = rows[-1].seq
        await trio.lowlevel.checkpoint()
