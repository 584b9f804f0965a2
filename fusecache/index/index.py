"""The open index: all tables over one environment."""

from __future__ import annotations

from pathlib import Path

from fusecache.index.containers import Containers
from fusecache.index.directories import Directories
from fusecache.index.environment import SCHEMA_VERSION, Environment
from fusecache.index.extents import Extents
from fusecache.index.inodes import Inodes
from fusecache.index.meta import Meta
from fusecache.index.names import Names
from fusecache.index.order import Order
from fusecache.index.sealed import IndexDamagedError
from fusecache.index.writes import Writes


class Index:
    """Invariant: `read()` blocks see one snapshot; only the process that opened it writable changes it."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        self.env = Environment(path, writable=writable)
        self.meta = Meta(self.env)
        self.inodes = Inodes(self.env)
        self.names = Names(self.env)
        self.dirs = Directories(self.env)
        self.extents = Extents(self.env)
        self.containers = Containers(self.env)
        self.order = Order(self.env)
        self.writes = Writes(self.env)
        self.read = self.env.read
        self.write = self.env.write
        self.begin_read = self.env.begin_read

    def index_id(self) -> bytes:
        """Raises: IndexDamagedError if this is no index of this schema."""
        with self.read() as txn:
            found = self.meta.get_id(txn)
            if found is None or self.meta.get(txn, "schema") != SCHEMA_VERSION:
                raise IndexDamagedError(f"{self.env.path}: no index of schema {SCHEMA_VERSION}")
            return found

    def close(self) -> None:
        self.env.close()
