"""A built cache and a filesystem over it, with a clock that tests move."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract.mount_spec import Access
from fusecache.contract.shared_memory import PAGE, Counter
from fusecache.index.sealed import IndexDamagedError
from fusecache.serve.filesystem import CacheFilesystem
from tests.support.cache_builder import CacheBuilder
from tests.support.recorded_misses import RecordedMisses


@dataclass
class Served:
    """What a test of the filesystem works with. `now` moves the clock of the filesystem."""

    cache: CacheBuilder
    misses: RecordedMisses
    counters: memoryview
    now: float
    fs: CacheFilesystem
    damages: list[IndexDamagedError]

    def reopen(self, access: Access = Access.OPENLESS, **spec: Any) -> CacheFilesystem:
        """A new filesystem, as after the process was replaced."""
        self.fs.close()
        self.fs = _filesystem(self, access, **spec)
        return self.fs

    @property
    def checksum_failures(self) -> int:
        return int(self.counters[Counter.CHECKSUM_FAILURES])


def _filesystem(served: Served, access: Access, **spec: Any) -> CacheFilesystem:
    return CacheFilesystem(
        served.cache.index,
        served.cache.marks,
        served.cache.with_spec(**spec),
        served.misses,
        served.counters,
        access=access,
        source_urls={served.cache.source: "s3://bucket/data"},
        clock=lambda: served.now,
        on_index_damaged=served.damages.append,
    )


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    cache = CacheBuilder(tmp_path, now=1_000_000.0)
    made = Served.__new__(Served)
    made.cache, made.misses, made.now, made.damages = cache, RecordedMisses(), cache.now, []
    made.counters = memoryview(bytearray(PAGE)).cast("Q")
    made.fs = _filesystem(made, Access.OPENLESS)
    yield made
    made.fs.close()
    cache.close_index()
