"""Which source a row of the index means. No state.

The number is made by fetch (fetch/sources.py, `source_id`), which readers do not import; a test holds the two together.
"""

from __future__ import annotations

import struct

from xxhash import xxh3_64_intdigest

from fusecache.contract.mount_spec import MountSpec


def source_urls(spec: MountSpec) -> dict[int, str]:
    """Return the URL of each source by the `source` field of inode rows."""
    return {
        xxh3_64_intdigest(struct.pack("<H", len(source.subdir)) + source.subdir.encode() + source.url.encode()): source.url
        for source in spec.sources
    }
