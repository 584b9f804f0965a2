"""Damages the cache of a mount from outside, the way a failing disk or another program might: every block it can find.

Reads the index (read-only, like a serve process); writes container files only. Used by tests, from one thread.
"""

from __future__ import annotations

import contextlib
import os
import random
from collections.abc import Iterator
from pathlib import Path

from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.run_files import INDEX_DIR, SPEC
from fusecache.index.extents import BlockIndex, Extent
from fusecache.index.index import Index
from fusecache.index.inodes import InodeNo
from fusecache.tiers.container_files import container_path
from tests.support.mounted import Mounted

Cached = tuple[InodeNo, BlockIndex, Extent]


class CacheTampering:
    """Knows where a mount's cache lies, also after it was unmounted. Make it while it is mounted."""

    def __init__(self, mounted: Mounted, seed: int = 0) -> None:
        spec = MountSpec.load(f"{mounted.record().run_dir}/{SPEC}")
        self.state_dir = Path(spec.state_dir)
        self.index_file = self.state_dir / INDEX_DIR / "data.mdb"
        self._tiers = [tier.path for tier in spec.tiers]
        self._random = random.Random(seed)

    def blocks(self) -> list[Cached]:
        """Return every cached block, in the order of inodes and blocks."""
        index = Index(self.state_dir / INDEX_DIR, writable=False)
        try:
            with index.read() as txn:
                return list(index.extents.iterate(txn))
        finally:
            index.close()

    def path(self, extent: Extent) -> Path:
        return Path(container_path(self._tiers[extent.tier], extent.container))

    def containers(self) -> list[Path]:
        return sorted({self.path(extent) for _, _, extent in self.blocks()})

    def read(self, extent: Extent) -> bytes:
        with self._opened(extent) as fd:
            return os.pread(fd, extent.length, extent.offset)

    def write(self, extent: Extent, data: bytes) -> None:
        with self._opened(extent) as fd:
            assert os.pwrite(fd, data, extent.offset) == len(data)

    def flip_a_bit_in_each(self) -> int:
        """Return how many blocks were changed."""
        blocks = self.blocks()
        for _, _, extent in blocks:
            position = extent.offset + self._random.randrange(extent.length)
            with self._opened(extent) as fd:
                byte = os.pread(fd, 1, position)[0]
                os.pwrite(fd, bytes([byte ^ 1 << self._random.randrange(8)]), position)
        return len(blocks)

    def swap(self, one: Extent, other: Extent) -> None:
        """Exchange the bytes of two blocks, as far as both have some."""
        length = min(one.length, other.length)
        first, second = self.read(one)[:length], self.read(other)[:length]
        self.write(one, second)
        self.write(other, first)

    @contextlib.contextmanager
    def _opened(self, extent: Extent) -> Iterator[int]:
        fd = os.open(self.path(extent), os.O_RDWR)
        try:
            yield fd
        finally:
            os.close(fd)


def drop_page_cache() -> None:
    """Needs root. What was written must reach the files first: dirty pages are not dropped."""
    os.sync()
    Path("/proc/sys/vm/drop_caches").write_text("3")
