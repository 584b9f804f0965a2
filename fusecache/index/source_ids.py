"""Which source a row of the index means: one number for each, the same over mounts and in every process. No state.

What makes a source another one: its place in the tree, its URL, and the endpoint that its options name, as `s3://bucket` of
another store is another bucket. Not the other options: they say how a store is asked (keys, time-outs, TLS), or in which region
it keeps the same bytes, and a key that is rotated must not empty a cache. An endpoint is host, port and path: with TLS or
without, and in whatever spelling, it is the same store.

A source whose number the index does not have where it belongs is a new one: what is below its place goes, and is listed anew
(fetch/roots.py). Sources without an endpoint have the numbers that they had before endpoints counted, so that their caches
were kept; those with one began anew once. An endpoint that comes from the environment is not seen here: `fusecache mount` has a
cache directory for each, and in a cluster the options name it.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Mapping

from xxhash import xxh3_64_intdigest

from fusecache.contract.mount_spec import MountSpec, SourceSpec
from fusecache.index.inodes import SourceId

# All spellings that sources take (a test compares with their tables), those for one bucket of OSS among them.
_ENDPOINT_OPTION = re.compile(r"(?:.+\.)?endpoint(?:_url)?|url|minio-url")


def source_id(spec: SourceSpec) -> SourceId:
    """Return the number that the `source` field of inode rows holds."""
    identity = struct.pack("<H", len(spec.subdir)) + spec.subdir.encode() + spec.url.encode()
    endpoint = endpoint_of(spec.options)
    return SourceId(xxh3_64_intdigest(identity + b"\0" + endpoint.encode() if endpoint else identity))


def endpoint_of(options: Mapping[str, str]) -> str:
    """Return `host[:port][/path]` of the endpoint that the options name, or ""; of several spellings that differ, all."""
    found = {_plain(value) for name, value in options.items() if _ENDPOINT_OPTION.fullmatch(name)}
    return " ".join(sorted(found - {""}))


def _plain(endpoint: str) -> str:
    host, slash, path = endpoint.strip().rpartition("://")[2].rstrip("/").partition("/")
    return host.lower() + slash + path


def source_urls(spec: MountSpec) -> dict[int, str]:
    """Return the URL of each source by that number."""
    return {source_id(source): source.url for source in spec.sources}
