"""Payloads of answers: from the filesystem's values to the bytes the kernel expects. Pure functions, called from any thread."""

from __future__ import annotations

import functools
import struct
from collections.abc import Sequence

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fuse.filesystem_protocol import Attributes, DirectoryPart, EntryAnswer, Statfs
from fusecache.fuse.native.protocol import ATTR_OUT, DIRENT, ENTRY_OUT, STATFS_OUT

_BLOCK_SIZE_BYTES = 4096  # st_blksize; what local file systems say
_NS = 1_000_000_000
_LONGEST_TTL_SECONDS = float(2**32)
_DOTS = (b".", b"..")


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
    entry, entry_ns = split_seconds(part.entry_ttl_seconds)
    valid, valid_ns = split_seconds(part.attributes_ttl_seconds)
    for name, inode, kind_mode, offset, attributes in part.entries:
        place = used
        row = _directory_entry(len(name))
        used += row.size + (ENTRY_OUT.size if plus else 0)
        if used > size:
            used = place
            break
        if plus:
            if attributes is not None and name not in _DOTS:  # else zeros: the kernel looks it up
                ENTRY_OUT.pack_into(reply, place, inode, 0, entry, valid, entry_ns, valid_ns, *_attributes(attributes))
            place += ENTRY_OUT.size
        row.pack_into(reply, place, inode, offset, len(name), kind_mode >> 12, name)
    if part.entries and not used:
        raise CacheError(ErrorKind.INVALID, f"a directory buffer of {size} bytes holds not one entry; read with a larger one")
    return memoryview(reply)[:used]


@functools.cache  # names have up to 255 bytes
def _directory_entry(name_bytes: int) -> struct.Struct:
    """Return the format of a DIRENT with its name and padding."""
    return struct.Struct(f"{DIRENT.format}{name_bytes}s{-name_bytes % 8}x")


def directory_entry_bytes(name_bytes: int, plus: bool) -> int:
    """Size of one entry in the answer."""
    return (ENTRY_OUT.size if plus else 0) + _directory_entry(name_bytes).size


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
