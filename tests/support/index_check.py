"""An independent check of a cache on disk, as fsck is for a file system: recomputes every invariant from tables and files.

It unpacks rows by itself, from the tables in the docstrings of fusecache.index, and shares no code with the writers, so that
one mistake is not made twice. Reads one snapshot; the writer should be at rest, or its loop be the caller.
"""

from __future__ import annotations

import collections
import itertools
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from xxhash import xxh3_64_intdigest, xxh32_intdigest

from fusecache.index.index import Index
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.tier import Tier

PAGE = 4096
FILE, DIRECTORY = 1, 2
NEEDS_STAT, ORPHAN, HARD_LINKED = 1, 2, 8
WHOLE_FILE = 2
ON_PROBATION, PROBATION_QUEUE = 2, 0x80  # an extent's flag, and what its tier's number is increased by in `order`
ROOT = 1


class _Inode(NamedTuple):
    kind: int
    flags: int
    size: int
    identity: int
    path: bytes


class _Extent(NamedTuple):
    tier: int
    flags: int
    container: int
    offset: int
    length: int
    order: int
    checksums: tuple[int, ...]


class _Container(NamedTuple):
    tier: int
    kind: int
    inode: int
    end: int
    live_bytes: int
    live_blocks: int
    written_ns: int


@dataclass
class Report:
    problems: list[str] = field(default_factory=list)
    damaged: list[tuple[int, int]] = field(default_factory=list)  # (inode, block) whose bytes do not match
    extents: int = 0
    names: int = 0

    def expect(self, condition: bool, problem: str) -> None:
        if not condition:
            self.problems.append(problem)


def check_index(index: Index, tiers: Sequence[Tier], store: BlockStore | None = None, *, damage: bool = False) -> Report:
    """Return the report; raise AssertionError if it has problems.

    Args:
        store: the living writer's, at rest (nothing reserved): then its accounting is compared too.
        damage: blocks may be damaged or their files missing (a test did it); they are only listed in the report then.
    """
    report = Report()
    tables = _Tables(index)
    _check_names(tables, report)
    _check_extents(tables, report)
    # The segment that is being filled has no row before its first block, and may have lost all it had.
    filling = {container for container, _ in store._segments.values()} if store is not None else set()
    _check_files(tables, tiers, report, damage, filling)
    if store is not None:
        _check_accounting(tables, tiers, store, report)
    assert not report.problems, "the index is inconsistent:\n  " + "\n  ".join(report.problems[:30])
    return report


class _Tables:
    """Everything, unpacked."""

    def __init__(self, index: Index) -> None:
        self._index = index
        self.meta = {
            key.decode(): int.from_bytes(value, "little") for key, value in self._rows("meta") if key != b"id" and len(value) == 8
        }
        self.inodes = dict(self._inodes())
        self.names = {
            (int.from_bytes(key[:8], "big"), key[8:]): struct.unpack("<QBQII", value) for key, value in self._rows("names")
        }
        self.dirseq = {
            struct.unpack(">QQ", key): (*struct.unpack_from("<QB", value), value[9:]) for key, value in self._rows("dirseq")
        }
        self.dirs = {int.from_bytes(key, "big"): struct.unpack_from("<BIdQQQ", value) for key, value in self._rows("dirs")}
        self.extents = dict(self._extents())
        self.containers = {
            int.from_bytes(key, "big"): _Container(*struct.unpack("<BBQQQIq", value)) for key, value in self._rows("containers")
        }
        self.order = {struct.unpack(">BQ", key): struct.unpack("<QI", value) for key, value in self._rows("order")}
        with index.env.read() as txn:
            self.orphans = {int.from_bytes(key, "big") for key, _ in txn.cursor(db=index.env.db["orphans"])}

    def _rows(self, table: str) -> Iterator[tuple[bytes, bytes]]:
        with self._index.env.read() as txn:
            rows = [(bytes(key), bytes(value)) for key, value in txn.cursor(db=self._index.env.db[table])]
        for key, sealed in rows:
            value, seal = sealed[:-4], int.from_bytes(sealed[-4:], "little")
            assert xxh32_intdigest(value, xxh32_intdigest(key)) == seal, f"row {key!r} of {table} is damaged"
            yield key, value

    def _inodes(self) -> Iterator[tuple[int, _Inode]]:
        head = struct.Struct("<BBHIIIQqqQQQHBH")
        for key, value in self._rows("inodes"):
            fields = head.unpack_from(value)
            assert head.size + sum(fields[12:]) == len(value), f"inode {key!r} has a wrong length"
            path = value[head.size : head.size + fields[12]]
            yield int.from_bytes(key, "big"), _Inode(fields[0], fields[1], fields[6], fields[11], path)

    def _extents(self) -> Iterator[tuple[tuple[int, int], _Extent]]:
        head = struct.Struct("<BBQQIQ")
        for key, value in self._rows("extents"):
            tier, flags, container, offset, length, order = head.unpack_from(value)
            count = (len(value) - head.size) // 8
            sums = struct.unpack_from(f"<{count}Q", value, head.size)
            yield struct.unpack(">QI", key), _Extent(tier, flags, container, offset, length, order, sums)


def _check_names(tables: _Tables, report: Report) -> None:
    report.names = len(tables.names)
    entries: collections.Counter[int] = collections.Counter()
    named: set[int] = {ROOT}
    files = total = 0
    for (parent, name), (inode, kind, seq, _, _) in tables.names.items():
        what = f"name {name!r} in directory {parent:#x}"
        entries[parent] += 1
        named.add(inode)
        report.expect(tables.dirseq.get((parent, seq)) == (inode, kind, name), f"{what}: no such row in dirseq at {seq}")
        row = tables.inodes.get(inode)
        report.expect(row is not None, f"{what} points to inode {inode:#x}, which is missing")
        if row is not None:
            report.expect(row.kind == kind, f"{what}: kind {kind}, its inode says {row.kind}")
            report.expect(not row.flags & ORPHAN, f"{what} points to an orphan")
            files += kind == FILE
            total += row.size if kind == FILE and not row.flags & NEEDS_STAT else 0
        directory = tables.dirs.get(parent)
        report.expect(directory is not None, f"{what}: its directory has no row in dirs")
        if directory is not None:
            report.expect(3 <= seq < directory[3], f"{what}: seq {seq} was never given out (next is {directory[3]})")
    report.expect(len(tables.dirseq) == len(tables.names), f"{len(tables.dirseq)} rows of dirseq for {len(tables.names)} names")
    report.expect(tables.meta.get("files", 0) == files, f"files is {tables.meta.get('files')}, there are {files}")
    report.expect(tables.meta.get("total_bytes", 0) == total, f"total_bytes is {tables.meta.get('total_bytes')}, sum is {total}")
    for inode, directory in tables.dirs.items():
        row = tables.inodes.get(inode)
        report.expect(row is not None and row.kind == DIRECTORY, f"dirs has {inode:#x}, which is no directory")
        report.expect(inode in named, f"directory {inode:#x} has a row in dirs and no name")
        report.expect(directory[4] == entries[inode], f"directory {inode:#x} says {directory[4]} entries, has {entries[inode]}")
    epoch, next_inode = tables.meta.get("epoch", 0), tables.meta.get("next_inode", 0)
    for inode, row in tables.inodes.items():
        is_orphan = bool(row.flags & ORPHAN)
        report.expect(is_orphan == (inode in tables.orphans), f"inode {inode:#x}: flags and table disagree on being an orphan")
        what = f"inode {inode:#x} ({row.path!r})"
        report.expect(is_orphan != (inode in named), f"{what}: orphan {is_orphan}, named {inode in named}")
        if inode != ROOT:
            report.expect(inode >> 48 == epoch, f"inode {inode:#x} is not of epoch {epoch}")
            report.expect(inode & ((1 << 48) - 1) < next_inode, f"inode {inode:#x} was never given out")
    report.expect(tables.orphans <= set(tables.inodes), "orphans names inodes that are missing")


def _check_extents(tables: _Tables, report: Report) -> None:
    block_size = tables.meta["block_size"]
    granule = tables.meta["granule_size"]
    report.extents = len(tables.extents)
    live_bytes: collections.Counter[int] = collections.Counter()
    live_blocks: collections.Counter[int] = collections.Counter()
    used: collections.Counter[str] = collections.Counter()
    ranges: dict[int, list[tuple[int, int]]] = collections.defaultdict(list)
    for (inode, block), extent in tables.extents.items():
        what = f"block {block} of inode {inode:#x}"
        row = tables.inodes.get(inode)
        report.expect(row is not None, f"{what} is cached, the inode is missing")
        if row is not None:
            length = min(block_size, row.size - block * block_size)
            report.expect(length > 0 and extent.length == length, f"{what} has {extent.length} bytes where {length} belong")
        report.expect(len(extent.checksums) == -(-extent.length // granule), f"{what} has {len(extent.checksums)} checksums")
        queue = extent.tier + (PROBATION_QUEUE if extent.flags & ON_PROBATION else 0)
        report.expect(tables.order.get((queue, extent.order)) == (inode, block), f"{what} is not in its tier's queue")
        report.expect(extent.order < tables.meta["next_order"], f"{what}: order {extent.order} was never given out")
        live_bytes[extent.container] += extent.length
        live_blocks[extent.container] += 1
        used[f"used:{extent.tier}"] += -(-extent.length // PAGE) * PAGE
        used[f"probation:{extent.tier}"] += -(-extent.length // PAGE) * PAGE if extent.flags & ON_PROBATION else 0
        ranges[extent.container].append((extent.offset, extent.length))
        container = tables.containers.get(extent.container)
        report.expect(container is not None, f"{what} lies in container {extent.container:#x}, which is missing")
        if container is not None:
            report.expect(container.tier == extent.tier, f"{what}: tier {extent.tier}, its container says {container.tier}")
            report.expect(extent.offset + extent.length <= container.end, f"{what} reaches past its container")
            if container.kind == WHOLE_FILE:
                right = container.inode == inode and extent.offset == block * block_size
                report.expect(right, f"{what} lies at {extent.offset} in the container of inode {container.inode:#x}")
            else:
                report.expect(extent.offset % PAGE == 0, f"{what} is not aligned in its segment")
    report.expect(len(tables.order) == len(tables.extents), f"{len(tables.order)} rows of order, {len(tables.extents)} extents")
    for number, pieces in ranges.items():
        pieces.sort()
        apart = all(first[0] + first[1] <= second[0] for first, second in itertools.pairwise(pieces))
        report.expect(apart, f"blocks overlap in container {number:#x}")
    for number, container in tables.containers.items():
        said = (container.live_bytes, container.live_blocks)
        found = (live_bytes[number], live_blocks[number])
        report.expect(said == found, f"container {number:#x} says {said} live bytes and blocks, has {found}")
        report.expect(number < tables.meta["next_container"], f"container {number:#x} was never given out")
    for key in {key for key in tables.meta if key.startswith(("used:", "probation:"))} | used.keys():
        said_used, sum_used = tables.meta.get(key, 0), used[key]
        report.expect(said_used == sum_used, f"{key} is {said_used}, the sum is {sum_used}")
    current = {inode for inode, row in tables.inodes.items() if not row.flags & ORPHAN}
    cached = sum(extent.length for (inode, _), extent in tables.extents.items() if inode in current)
    said_cached = tables.meta.get("cached_bytes", 0)
    report.expect(said_cached == cached, f"cached_bytes is {said_cached}, the sum is {cached}")


def _check_files(tables: _Tables, tiers: Sequence[Tier], report: Report, damage: bool, filling: set[int]) -> None:
    block_size, granule = tables.meta["block_size"], tables.meta["granule_size"]
    on_disk = {number: set(containers_on_disk(tier.path)) for number, tier in enumerate(tiers)}
    for number, found in on_disk.items():
        known = {container for container, row in tables.containers.items() if row.tier == number}
        found -= filling
        report.expect(found <= known, f"files of tier {number} that no row describes: {[hex(one) for one in found - known]}")
    for (inode, block), extent in tables.extents.items():
        row = tables.inodes.get(inode)
        if row is None:
            continue
        path = _path_of(tiers[extent.tier].path, extent.container)
        data = b""
        if path.exists():
            with path.open("rb") as file:
                data = os.pread(file.fileno(), extent.length, extent.offset)
        if _sums(data, row.identity, block * block_size, granule) != extent.checksums or len(data) != extent.length:
            report.damaged.append((inode, block))
            report.expect(damage, f"block {block} of inode {inode:#x}: bytes in container {extent.container:#x} do not match")


def _check_accounting(tables: _Tables, tiers: Sequence[Tier], store: BlockStore, report: Report) -> None:
    report.expect(not store._users, f"reservations are left: {dict(store._users)}")
    waiting: collections.Counter[int] = collections.Counter()
    for freed in store.forgotten.waiting():
        waiting[freed.tier] += freed.length
    for container, length in store.forgotten.kept():
        row = tables.containers.get(container)
        report.expect(row is not None, f"container {container:#x} has forgotten ranges and no row")
        waiting[row.tier if row else 0] += length
    for tier in tiers:
        live = tables.meta.get(f"used:{tier.number}", 0)
        said = (tier.used_bytes, live + waiting[tier.number])
        report.expect(said[0] == said[1], f"tier {tier.number}: used_bytes is {said[0]}; live and waiting ranges are {said[1]}")
        report.expect(tier.used_bytes <= tier.quota_bytes, f"tier {tier.number}: {tier.used_bytes} of {tier.quota_bytes} used")
        on_disk = allocated_bytes(tier.path)
        report.expect(on_disk <= tier.used_bytes, f"tier {tier.number}: {on_disk} bytes on disk, {tier.used_bytes} accounted for")


def containers_on_disk(tier_path: Path) -> Iterator[int]:
    for file in sorted((tier_path / "c").glob("*/*")):
        yield int(file.name, 16)


def allocated_bytes(tier_path: Path) -> int:
    """What `du` counts for the containers."""
    total = 0
    for file in (tier_path / "c").glob("*/*"):
        try:
            total += file.stat().st_blocks * 512
        except FileNotFoundError:
            continue
    return total


def _path_of(tier_path: Path, container: int) -> Path:
    return tier_path / "c" / f"{container & 0xFF:02x}" / f"{container:012x}"


def _sums(data: bytes, identity: int, offset: int, granule: int) -> tuple[int, ...]:
    def seed(start: int, length: int) -> int:
        return (identity + (offset + start) * 0x9E3779B97F4A7C15 + length * 0xC2B2AE3D27D4EB4F) % (1 << 64)

    pieces = [(start, data[start : start + granule]) for start in range(0, len(data), granule)]
    return tuple(xxh3_64_intdigest(piece, seed(start, len(piece))) for start, piece in pieces)
