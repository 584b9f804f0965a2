"""Whether the index and the tiers can be trusted, and what to do when not. Runs once, before anything is served.

| situation | index | MEM tiers |
|---|---|---|
| same boot (process died or was stopped) | trusted: the page cache still holds what was written | trusted |
| other boot, clean marker there | trusted | extents dropped |
| other boot, no marker | dropped | dropped |
| damaged, other schema, other geometry, other tiers, or told to | dropped | dropped |

A dropped index gets a new epoch, the high bits of its inode numbers: so an inode the kernel still knows never becomes another
file. Within one FUSE connection custody's memory says which epoch and which numbers were given out; an index that disagrees is
dropped too.
"""

from __future__ import annotations

import hashlib
import logging
import mmap
import os
import secrets
import shutil
import struct
from collections.abc import Sequence
from pathlib import Path

from fusecache.contract.mount_spec import MountSpec
from fusecache.contract.run_files import BOOT_ID, CLEAN_MARKER, INDEX_DIR, MARKS
from fusecache.contract.shared_memory import H_EPOCH, H_NEXT_INODE
from fusecache.index.environment import SCHEMA_VERSION, NoSpaceError
from fusecache.index.index import Index
from fusecache.index.sealed import IndexDamagedError
from fusecache.index.writes import WriteFlag
from fusecache.tiers.block_store import BlockStore
from fusecache.tiers.tier import Tier

log = logging.getLogger(__name__)

MAX_EPOCH = 0xFFFF
_U64 = struct.Struct("<Q")


def open_index(spec: MountSpec, tiers: Sequence[Tier], memory: mmap.mmap, *, drop: bool) -> Index:
    """Return the index to go on with, writable. Raises: OSError, NoSpaceError."""
    state = Path(spec.state_dir)
    state.mkdir(mode=0o700, parents=True, exist_ok=True)
    same_boot = _read(state / BOOT_ID) == _boot_id()
    clean = (state / CLEAN_MARKER).exists()
    if clean:
        _remove(state / CLEAN_MARKER)
        _sync_directory(state)  # a marker that comes back after a power cut would vouch for what was never synced
    index: Index | None = None
    previous_epoch = _U64.unpack_from(memory, H_EPOCH)[0]
    reason = (
        "told to"
        if drop
        else ""
        if same_boot or clean or not (state / INDEX_DIR).exists()
        else "the machine stopped without a clean stop"
    )
    if not reason and (state / INDEX_DIR / "data.mdb").exists():
        index, reason = _try_open(spec, tiers, memory, state / INDEX_DIR)
    if index is None:
        if reason:
            log.warning("the cache index is dropped and built again: %s", reason)
        for tier in tiers:
            tier.wipe()
        previous_epoch = previous_epoch or _stored_epoch(state)
        index = _create(spec, tiers, state, previous_epoch)
    elif not same_boot:
        _drop_memory_tiers(index, tiers)
        _distrust_containers(index)
    _finish(index, tiers, memory, state)
    return index


def _try_open(spec: MountSpec, tiers: Sequence[Tier], memory: mmap.mmap, path: Path) -> tuple[Index | None, str]:
    index: Index | None = None
    try:
        index = Index(path, writable=True)
        index.index_id()
        reason = _disagreement(index, spec, tiers, memory)
    except IndexDamagedError as error:
        reason = str(error)
    if not reason:
        return index, ""
    if index is not None:
        index.close()
    return None, reason


def _disagreement(index: Index, spec: MountSpec, tiers: Sequence[Tier], memory: mmap.mmap) -> str:
    with index.read() as txn:
        meta = index.meta
        if meta.get(txn, "block_size") != spec.block_size_bytes or meta.get(txn, "granule_size") != spec.granule_size_bytes:
            return "it was written with another block size"
        if meta.get(txn, "tiers") != _tiers_hash(tiers):
            return "it was written for other tiers"
        epoch = _U64.unpack_from(memory, H_EPOCH)[0]
        next_inode = _U64.unpack_from(memory, H_NEXT_INODE)[0]
        if epoch and (meta.get(txn, "epoch") != epoch or meta.get(txn, "next_inode") < next_inode):
            return "it is older than what readers of this mount have seen"
    return ""


def _create(spec: MountSpec, tiers: Sequence[Tier], state: Path, previous_epoch: int) -> Index:
    path = state / INDEX_DIR
    shutil.rmtree(path, ignore_errors=True)
    index = Index(path, writable=True)
    epoch = (previous_epoch or secrets.randbelow(MAX_EPOCH)) % MAX_EPOCH + 1
    with index.write() as txn:
        meta = index.meta
        meta.put_id(txn, secrets.token_bytes(16))
        meta.put(txn, "schema", SCHEMA_VERSION)
        meta.put(txn, "epoch", epoch)
        meta.put(txn, "block_size", spec.block_size_bytes)
        meta.put(txn, "granule_size", spec.granule_size_bytes)
        meta.put(txn, "tiers", _tiers_hash(tiers))
        meta.put(txn, "next_inode", 2)
        # Containers of an earlier index may still be open in readers: numbers go on from a place that was never reached.
        meta.put(txn, "next_container", epoch << 40 | 1)
        meta.put(txn, "next_order", 1)
    return index


def _finish(index: Index, tiers: Sequence[Tier], memory: mmap.mmap, state: Path) -> None:
    for tier in tiers:
        try:
            tier.prepare()
        except OSError as error:
            tier.note_failure(error)
    with index.read() as txn:
        epoch = index.meta.get(txn, "epoch")
        _U64.pack_into(memory, H_EPOCH, epoch)
        _U64.pack_into(memory, H_NEXT_INODE, index.meta.get(txn, "next_inode"))
    _store(state / "epoch", str(epoch))
    _store(state / BOOT_ID, _boot_id())


def _drop_memory_tiers(index: Index, tiers: Sequence[Tier]) -> None:
    """The machine was started again: what was in memory is gone."""
    gone = {tier.number for tier in tiers if tier.is_memory}
    if not gone:
        return
    with index.read() as txn:
        lost = [(inode, block, extent) for inode, block, extent in index.extents.iterate(txn) if extent.tier in gone]
    with index.write() as txn:
        for inode, block, extent in lost:
            index.extents.delete(txn, inode, block)
            index.order.delete(txn, extent.tier, extent.order)
        for number in [number for number, row in index.containers.iterate(txn) if row.tier in gone]:
            index.containers.delete(txn, number)
        orphans = set(index.inodes.orphans(txn, index.inodes.count(txn)))
        cached = sum(extent.length for inode, _, extent in lost if inode not in orphans)
        index.meta.put(txn, "cached_bytes", max(0, index.meta.get(txn, "cached_bytes") - cached))
        for number in gone:
            index.meta.put(txn, f"used:{number}", 0)
    for tier in tiers:
        if tier.number in gone:
            tier.wipe()


def _distrust_containers(index: Index) -> None:
    """Bytes on disk are verified again before the kernel reads them on its own."""
    with index.write() as txn:
        for number, row in [(number, row) for number, row in index.containers.iterate(txn) if row.written_ns]:
            index.containers.put(txn, number, row._replace(written_ns=0))


def drop_orphans(index: Index, store: BlockStore) -> None:
    """Remove inodes that no name points to, with their blocks; only before a new FUSE connection, when no kernel knows them.

    What was written and is not uploaded yet is needed, also where its source is gone (it is set aside), and so are the versions
    that lie under it."""
    with index.read() as txn:
        written = [(inode, row.base) for inode, row in index.writes.iterate(txn) if not row.flags & WriteFlag.UNLINKED]
        needed = {inode for pair in written for inode in pair}
    while True:
        with index.read() as txn:
            orphans = [inode for inode in index.inodes.orphans(txn, 1000 + len(needed)) if inode not in needed]
            blocks = [(inode, block) for inode in orphans for block, _ in index.extents.of_inode(txn, inode)]
        if not orphans:
            return
        store.forget(blocks)  # first: a block of an inode that is gone would never be found again
        with index.write() as txn:
            for inode in orphans:
                index.inodes.delete(txn, inode)
                index.dirs.delete(txn, inode)


def mark_clean(index: Index, tiers: Sequence[Tier], state: Path) -> None:
    """The last thing a stopping fetch does: everything is on disk, then the marker says so."""
    index.env.sync()
    for tier in tiers:
        if not tier.is_memory:
            tier.sync()
    fd = os.open(state / CLEAN_MARKER, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
    _sync_directory(state)


def _sync_directory(path: Path) -> None:
    directory = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def marks_path(spec: MountSpec) -> Path:
    return Path(spec.state_dir) / MARKS


def _tiers_hash(tiers: Sequence[Tier]) -> int:
    text = "\n".join(f"{tier.medium}:{tier.path}" for tier in tiers)
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()[:8], "little")


def _stored_epoch(state: Path) -> int:
    text = _read(state / "epoch")
    return int(text) if text.isdigit() else 0


def _boot_id() -> str:
    return _read(Path("/proc/sys/kernel/random/boot_id"))


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""


def _store(path: Path, text: str) -> None:
    """Whoever is killed meanwhile leaves the old text or the new one: with none, the successor would take this for another boot
    and drop the index under its readers."""
    if _read(path) != text:
        new = path.with_name(path.name + ".new")
        new.write_text(text)
        new.replace(path)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except FileNotFoundError:
        pass
    except OSError as error:
        log.warning("cannot remove %s: %s", path, error)


__all__ = [
    "NoSpaceError",
    "drop_orphans",
    "mark_clean",
    "open_index",
]
