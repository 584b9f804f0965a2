"""A real cache on disk, made without fetch: index, containers and segments through the writers of fusecache.index and
fusecache.tiers.

Owns the index (opened writable: LMDB allows one Environment a file and process, so readers under test share it until
`close_index`) and the directories under `path`. One thread."""

from __future__ import annotations

import hashlib
import os
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fusecache.contract import run_files
from fusecache.contract.mount_spec import Medium, MountSpec, SourceSpec, TierSpec
from fusecache.index.containers import Container, ContainerKind
from fusecache.index.directories import FIRST_SEQ, Directory, DirectoryFlag
from fusecache.index.environment import SCHEMA_VERSION, Transaction
from fusecache.index.extents import Extent
from fusecache.index.index import Index
from fusecache.index.inodes import EPOCH_SHIFT, NO_MODE, NO_OWNER, ROOT, Inode, identity_of
from fusecache.index.names import NameRow
from fusecache.index.source_ids import source_urls
from fusecache.source.protocol import EntryKind
from fusecache.tiers.checksums import block_checksums
from fusecache.tiers.container_files import container_path
from fusecache.tiers.marks import Marks

EPOCH = 5
SEGMENT = 1  # container of all small objects


def content(name: str, size: int) -> bytes:
    """Bytes of a file: the same for the same name, different at every offset."""
    return hashlib.shake_128(name.encode()).digest(size)


@dataclass
class BuiltFile:
    inode: int
    data: bytes
    row: Inode


class CacheBuilder:
    def __init__(
        self, path: Path, *, block_size: int = 64, granule_size: int = 16, now: float | None = None, **spec: Any
    ) -> None:
        self.path = path
        self.now = time.time() if now is None else now
        defaults: dict[str, Any] = {
            "dataset_id": "0" * 32,
            "mountpoint": str(path / "mnt"),
            "sources": (SourceSpec("s3://bucket/data"),),
            "tiers": (TierSpec(str(path / "mem"), Medium.MEM, 1 << 20), TierSpec(str(path / "ssd"), Medium.SSD, 1 << 30)),
            "state_dir": str(path / "state"),
            "run_dir": str(path / "run"),
            "block_size_bytes": block_size,
            "granule_size_bytes": granule_size,
        }
        self.spec = MountSpec(**{**defaults, **spec})
        for directory in (self.spec.state_dir, self.spec.run_dir, self.spec.mountpoint, *(tier.path for tier in self.spec.tiers)):
            Path(directory).mkdir(parents=True, exist_ok=True)
        self.source = next(iter(source_urls(self.spec)), 0)
        self.index = Index(Path(self.spec.state_dir) / run_files.INDEX_DIR, writable=True)
        self.marks = Marks(Path(self.spec.state_dir) / run_files.MARKS, create=True)
        self._next_inode = 2
        self._next_order = 1
        self._next_container = SEGMENT + 1
        self._segment_end = 0
        self.index_id = os.urandom(16)
        with self.index.write() as txn:
            self.index.meta.put_id(txn, self.index_id)
            for key, value in (
                ("schema", SCHEMA_VERSION),
                ("block_size", block_size),
                ("granule_size", granule_size),
                ("epoch", EPOCH),
            ):
                self.index.meta.put(txn, key, value)
            self._put_directory(txn, ROOT, ROOT, b"", DirectoryFlag.SOURCE_ROOT | DirectoryFlag.COMPLETE, self.now)

    def new_inode(self) -> int:
        self._next_inode += 1
        return EPOCH << EPOCH_SHIFT | self._next_inode

    def directory(
        self, parent: int, name: bytes, *, listed_at: float | None = None, complete: bool = True, flags: int = 0
    ) -> int:
        """Return the inode of a new directory; `listed_at` None: just now; complete False: never listed, but for what is
        added."""
        inode = self.new_inode()
        state = (self.now if listed_at is None else listed_at) if complete else 0.0
        with self.index.write() as txn:
            self._put_directory(txn, inode, parent, name, flags | (DirectoryFlag.COMPLETE if complete else 0), state)
            self.add_name(txn, parent, name, inode, EntryKind.DIRECTORY)
        return inode

    def _put_directory(self, txn: Transaction, inode: int, parent: int, path: bytes, flags: int, listed_at: float) -> None:
        row = _row(EntryKind.DIRECTORY, parent, self.source, path, b"")
        self.index.inodes.put(txn, inode, row)
        self.index.dirs.put(txn, inode, Directory(flags=flags, listing_pass=1, listed_at=listed_at))

    def add_name(self, txn: Transaction, parent: int, name: bytes, inode: int, kind: int, checked_at: int = 0) -> None:
        directory = self.index.dirs.get(txn, parent) or Directory()
        old = self.index.names.delete(txn, parent, name)
        self.index.names.put(txn, parent, name, NameRow(inode, kind, directory.next_seq, directory.listing_pass, checked_at))
        self.index.dirs.put(
            txn,
            parent,
            directory._replace(
                next_seq=directory.next_seq + 1, entries=directory.entries + (old is None), changes=directory.changes + 1
            ),
        )

    def remove_name(self, parent: int, name: bytes) -> None:
        with self.index.write() as txn:
            self.index.names.delete(txn, parent, name)
        self.change_directory(parent, changes=self.directory_row(parent).changes + 1)

    def directory_row(self, inode: int) -> Directory:
        with self.index.read() as txn:
            row = self.index.dirs.get(txn, inode)
        assert row is not None
        return row

    def change_directory(self, inode: int, **fields: Any) -> None:
        row = self.directory_row(inode)._replace(**fields)
        with self.index.write() as txn:
            self.index.dirs.put(txn, inode, row)

    def change_inode(self, inode: int, **fields: Any) -> None:
        with self.index.write() as txn:
            row = self.index.inodes.get(txn, inode)
            assert row is not None
            self.index.inodes.put(txn, inode, row._replace(**fields))

    def file(
        self,
        parent: int,
        name: bytes,
        data: bytes,
        *,
        version: bytes = b"etag",
        tier: int = 0,
        cached: bool = True,
        checked_at: int = 0,
        **fields: Any,
    ) -> BuiltFile:
        """Add a file; all its blocks in a segment if it has one, in a container of its own if it has more."""
        inode = self.new_inode()
        row = _row(EntryKind.FILE, parent, self.source, name, version)._replace(size=len(data), **fields)
        with self.index.write() as txn:
            self.index.inodes.put(txn, inode, row)
            self.add_name(txn, parent, name, inode, EntryKind.FILE, checked_at)
            for key, more in (("files", 1), ("total_bytes", len(data))):
                self.index.meta.put(txn, key, self.index.meta.get(txn, key) + more)
        built = BuiltFile(inode, data, row)
        if cached:
            self.cache(built, tier=tier)
        return built

    def symlink(self, parent: int, name: bytes, target: bytes) -> int:
        inode = self.new_inode()
        row = _row(EntryKind.SYMLINK, parent, self.source, name, b"")._replace(size=len(target), target=target)
        with self.index.write() as txn:
            self.index.inodes.put(txn, inode, row)
            self.add_name(txn, parent, name, inode, EntryKind.SYMLINK)
        return inode

    def cache(self, file: BuiltFile, *, tier: int = 0, blocks: range | None = None, flags: int = 0) -> None:
        """Write blocks (all by default) into containers, and their extents after."""
        block_size, granule_size = self.spec.block_size_bytes, self.spec.granule_size_bytes
        whole = len(file.data) > block_size
        container = self._next_container if whole else SEGMENT
        self._next_container += whole
        path = Path(container_path(self.spec.tiers[tier].path, container))
        path.parent.mkdir(parents=True, exist_ok=True)
        live_bytes = live_blocks = 0
        extents = []
        with path.open("r+b" if path.exists() else "w+b") as out:
            for block in blocks or range(-(-len(file.data) // block_size)):
                start = block * block_size
                data = file.data[start : start + block_size]
                offset = start if whole else self._segment_end
                self._segment_end += 0 if whole else -(-len(data) // 4096) * 4096
                out.seek(offset)
                out.write(data)
                checksums = block_checksums(data, file.row.identity, start, granule_size)
                extents.append((block, Extent(tier, flags, container, offset, len(data), self._next_order, checksums)))
                self._next_order += 1
                live_bytes += len(data)
                live_blocks += 1
        kind = ContainerKind.WHOLE_FILE if whole else ContainerKind.SEGMENT
        written_ns = path.stat().st_ctime_ns if live_bytes == len(file.data) else 0
        with self.index.write() as txn:
            for block, extent in extents:
                self.index.extents.put(txn, file.inode, block, extent)
            row = Container(tier, kind, file.inode if whole else 0, len(file.data), live_bytes, live_blocks, written_ns)
            self.index.containers.put(txn, container, row)
            used = self.index.meta.get(txn, f"used:{tier}") + sum(-(-extent.length // 4096) * 4096 for _, extent in extents)
            self.index.meta.put(txn, f"used:{tier}", used)

    def extent(self, inode: int, block: int = 0) -> Extent:
        with self.index.read() as txn:
            found = self.index.extents.get(txn, inode, block)
        assert found is not None
        return found

    def put_extent(self, inode: int, block: int, extent: Extent) -> None:
        with self.index.write() as txn:
            self.index.extents.put(txn, inode, block, extent)

    def drop_extent(self, inode: int, block: int) -> None:
        with self.index.write() as txn:
            self.index.extents.delete(txn, inode, block)

    def container_file(self, inode: int, block: int = 0) -> Path:
        extent = self.extent(inode, block)
        return Path(container_path(self.spec.tiers[extent.tier].path, extent.container))

    def damage(self, inode: int, offset: int, block: int = 0) -> None:
        """Flip one bit of a cached block."""
        path, position = self.container_file(inode, block), self.extent(inode, block).offset + offset
        with path.open("r+b") as file:
            file.seek(position)
            byte = file.read(1)[0]
            file.seek(position)
            file.write(bytes([byte ^ 0x10]))

    def with_spec(self, **fields: Any) -> MountSpec:
        self.spec = replace(self.spec, **fields)
        return self.spec

    def write_spec(self) -> Path:
        path = Path(self.spec.run_dir) / run_files.SPEC
        path.write_text(self.spec.to_json())
        return path

    def close_index(self) -> None:
        self.index.close()
        self.marks.close()


def _row(kind: EntryKind, parent: int, source: int, path: bytes, version: bytes) -> Inode:
    return Inode(
        kind=kind,
        flags=0,
        mode=NO_MODE,
        uid=NO_OWNER,
        gid=NO_OWNER,
        nlink=1,
        size=0,
        mtime_ns=1_700_000_000_123_456_789,
        ctime_ns=0,
        parent=parent,
        source=source,
        identity=identity_of(source, path, version),
        path=path,
        version=version,
        target=b"",
    )


__all__ = ["EPOCH", "FIRST_SEQ", "SEGMENT", "BuiltFile", "CacheBuilder", "content"]
