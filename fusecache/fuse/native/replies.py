"""Payloads of answers: from the filesystem's values to the bytes the kernel expects. Pure functions, called from any thread."""

from __future__ import annotations

import functools
from collections.abc import Sequence

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fuse.filesystem_protocol import Attributes, DirectoryEntry, DirectoryPart, EntryAnswer, Statfs
from fusecache.fuse.native.protocol import ATTR_OUT, DIRENT, DIRENT_NO_ENTRY, ENTRY_OUT, STATFS_OUT

_BLOCK_SIZE_BYTES = 4096  # st_blksize; what local file systems say
_NS = 1_000_000_000
_LONGEST_TTL_SECONDS = float(2**32)


@functools.lru_cache(maxsize=64)  # a mount knows a handful of TTLs
def split_seconds(seconds: float) -> tuple[int, int]:
    """Return whole seconds and nanoseconds of a non-negative time to live."""
    clipped = min(max(seconds, 0.0), _LONGEST_TTL_SECONDS)
    whole = int(clipped)
    return whole, min(int((clipped - whole) * _NS), _NS - 1)


def _signed_seconds(time_ns: int) -> tuple[int, int]:
    """Return a time as the kernel reads it: seconds as u64 (two's complement before 1970), nanoseconds."""
    seconds, nanoseconds = divmod(time_ns, _NS)
    return seconds & 0xFFFFFFFFFFFFFFFF, nanoseconds


def _attributes(attributes: Attributes) -> tuple[int, ...]:
    modified, modified_ns = _signed_seconds(attributes.mtime_ns)
    changed, changed_ns = (
        (modified, modified_ns) if attributes.ctime_ns == attributes.mtime_ns else _signed_seconds(attributes.ctime_ns)
    )
    return (
        attributes.inode,
        attributes.size,
        attributes.blocks,
        modified,  # access times are not kept: the mount is noatime in effect
        modified,
        changed,
        modified_ns,
        modified_ns,
        changed_ns,
        attributes.mode,
        attributes.nlink,
        attributes.uid,
        attributes.gid,
        0,
        _BLOCK_SIZE_BYTES,
        0,
    )


def pack_attributes(attributes: Attributes, ttl_seconds: float) -> bytes:
    """Answer to GETATTR."""
    return ATTR_OUT.pack(*split_seconds(ttl_seconds), 0, *_attributes(attributes))


def pack_entry(answer: EntryAnswer) -> bytes:
    """Answer to LOOKUP; nodeid 0 with a time to live is a negative entry. Generation is 0: inode numbers are never used twice."""
    entry, entry_ns = split_seconds(answer.entry_ttl_seconds)
    attributes = answer.attributes
    if attributes is None:
        return ENTRY_OUT.pack(0, 0, entry, 0, entry_ns, *(0,) * 17)
    valid, valid_ns = split_seconds(answer.attributes_ttl_seconds)
    return ENTRY_OUT.pack(attributes.inode, 0, entry, valid, entry_ns, valid_ns, *_attributes(attributes))


def pack_directory(part: DirectoryPart, size: int, plus: bool) -> memoryview:
    """Answer to READDIR or READDIRPLUS: as many entries as fit into `size` bytes.

    Raises: CacheError(INVALID) if not even the first one fits."""
    reply = bytearray(size)
    used = 0
    for entry in part.entries:
        end = used + directory_entry_bytes(len(entry.name), plus)
        if end > size:
            break
        if plus:
            reply[used : used + ENTRY_OUT.size] = _plus_entry(entry, part)
            used += ENTRY_OUT.size
        DIRENT.pack_into(reply, used, entry.inode, entry.offset, len(entry.name), entry.kind_mode >> 12)
        used += DIRENT.size
        reply[used : used + len(entry.name)] = entry.name
        used = end
    if part.entries and not used:
        raise CacheError(ErrorKind.INVALID, f"a directory buffer of {size} bytes holds not one entry; read with a larger one")
    return memoryview(reply)[:used]


def directory_entry_bytes(name_bytes: int, plus: bool) -> int:
    """Size of one entry in the answer."""
    return (ENTRY_OUT.size if plus else 0) + (DIRENT.size + name_bytes + 7 & ~7)


def _plus_entry(entry: DirectoryEntry, part: DirectoryPart) -> bytes:
    if entry.attributes is None or entry.name in (b".", b".."):
        return DIRENT_NO_ENTRY
    return pack_entry(EntryAnswer(entry.attributes, part.entry_ttl_seconds, part.attributes_ttl_seconds))


def pack_statfs(statfs: Statfs) -> bytes:
    return STATFS_OUT.pack(
        statfs.blocks,
        statfs.blocks_free,
        statfs.blocks_free,
        statfs.files,
        statfs.files_free,
        statfs.block_size,
        statfs.name_max,
        statfs.block_size,
    )


def pack_xattr_names(names: Sequence[bytes]) -> bytes:
    return b"".join(name + b"\0" for name in names)
