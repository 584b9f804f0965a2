"""Which source a row of the index means: one number for each, the same over mounts and in every process. No state."""

from __future__ import annotations

import struct

from xxhash import xxh3_64_intdigest

from fusecache.contract.mount_spec import MountSpec, SourceSpec
from fusecache.index.inodes import SourceId


def source_id(spec: SourceSpec) -> SourceId:
    """Return the number that the `source` field of inode rows holds."""
    return SourceId(xxh3_64_intdigest(struct.pack("<H", len(spec.subdir)) + spec.subdir.encode() + spec.url.encode()))


def source_urls(spec: MountSpec) -> dict[int, str]:
    """Return the URL of each source by that number."""
    return {source_id(source): source.url for source in spec.sources}
