"""Whether a mount answers OPEN: decided once, before the first request, kept by custody.

Without OPEN small files cost one request less each; with it large files can be handed to the kernel. The mean size of the files
decides: from the counters of a warm index, else from the first listings.
"""

from __future__ import annotations

import time

import trio

from fusecache.contract.errors import CacheError
from fusecache.contract.mount_spec import Access, MountSpec, Verify
from fusecache.contract.shared_memory import ACCESS_OPENLESS, ACCESS_PASSTHROUGH
from fusecache.fetch.cache import Cache
from fusecache.index.inodes import ROOT, InodeNo
from fusecache.source.protocol import EntryKind

MEAN_BYTES = 8 << 20  # above it an OPEN (some 30 µs) is nothing beside the copies that passthrough saves
LOOK_SECONDS = 1.0
LOOK_DIRECTORIES = 8


def wants_passthrough(spec: MountSpec, *, possible: bool) -> bool:
    return possible and spec.access is not Access.OPENLESS and spec.verify is not Verify.ALWAYS


async def decide_access(spec: MountSpec, cache: Cache, *, possible: bool) -> int:
    """Return ACCESS_OPENLESS or ACCESS_PASSTHROUGH."""
    if spec.access is Access.PASSTHROUGH:
        return ACCESS_PASSTHROUGH
    if not wants_passthrough(spec, possible=possible):
        return ACCESS_OPENLESS
    if cache.tree.files == 0:
        with trio.move_on_after(LOOK_SECONDS):
            await _look_around(cache)
    files = cache.tree.files
    return ACCESS_PASSTHROUGH if files and cache.tree.total_bytes / files >= MEAN_BYTES else ACCESS_OPENLESS


async def _look_around(cache: Cache) -> None:
    """List breadth first until a directory with files was seen."""
    line: list[InodeNo] = [ROOT]
    deadline = time.monotonic() + LOOK_SECONDS
    for _ in range(LOOK_DIRECTORIES):
        if not line or cache.tree.files or time.monotonic() > deadline:
            return
        inode = line.pop(0)
        try:
            await cache.listing.list_more(inode, 0, cache.has_row_after, ahead=False)
        except CacheError:
            continue
        with cache.index.read() as txn:
            line += [row.inode for row in cache.index.names.after(txn, inode, 0, 1000) if row.kind == EntryKind.DIRECTORY]
