"""A file that is being written: its new bytes on a local disk, over the version it began with (its *base*), which stays in the
cache.

Two files: `NAME.data`, whose size is that of the file as it is now, and `NAME.map`, which says what of it is new. serve writes,
reads and truncates; fetch uploads. Everything is in files at any time, so that a process may die between any two steps: a WRITE
that was not answered is sent again, and repeats its steps. One writer at a time (the kernel holds the inode's lock); any number
of readers.

NAME.map, little-endian:

| at | field | meaning |
|---|---|---|
| 0 | magic, 8 bytes | |
| 8 | base limit, u64 | the base counts below this offset only; what was cut off never comes back |
| 16 | base size, u64 | as it was at the beginning |
| 24 | pending, u64 and u64 | first region and number of regions that a change of the size began with, 0 afterwards |
| 4096 | present, a bit for each `GRAIN` of the base | 1: these bytes are in NAME.data, whole |
| after the bits, at the next 4096 | change, u32 for each `REGION` | odd: a write is under way; it ends on another number |

Beyond the base limit everything is in NAME.data; a hole there is zeros, as in any file.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from fusecache.contract.errors import CacheError, ErrorKind

MAGIC = b"fusestg1"
RECORD_SUFFIX = ".record"
GRAIN = 4096
REGION = 1 << 20
_PAGE = 4096
_HEAD = struct.Struct("<8sQQQQ")
_LIMIT = struct.Struct("<Q")
_LIMIT_AT = 8
_PENDING = struct.Struct("<QQ")
_PENDING_AT = 24
_MARKED_AT_ONCE = 1 << 16  # regions
_CHANGE = struct.Struct("<I")

Buffer = bytes | bytearray | memoryview


class Run(NamedTuple):
    """Bytes [start, end) of the file, all from the same place."""

    start: int
    end: int
    is_new: bool  # in NAME.data; else in the base


class Stage:
    """An open stage. `close` it; the files stay."""

    def __init__(self, data_fd: int, map_fd: int, base_size: int, record: Path | None = None) -> None:
        self._record = record
        self._data = data_fd
        self._map = map_fd
        self.base_size = base_size
        self._changes_at = _PAGE + _round_up(_round_up(_grains(base_size), 8) // 8, _PAGE)

    @classmethod
    def create(cls, directory: Path, name: str, base_size: int, size: int | None = None) -> Stage:
        """Begin a stage over a base of that size; `size`: of the file, if it is another one (0: truncated when it was opened).
        One that is there is begun again."""
        data = os.open(directory / f"{name}.data", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            os.ftruncate(data, base_size if size is None else size)
            bits = os.open(directory / f"{name}.map", os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                limit = base_size if size is None else min(base_size, size)
                os.pwrite(bits, _HEAD.pack(MAGIC, limit, base_size, 0, 0), 0)
            except BaseException:
                os.close(bits)
                raise
        except BaseException:
            os.close(data)
            raise
        return cls(data, bits, base_size, directory / f"{name}{RECORD_SUFFIX}")

    @classmethod
    def open(cls, directory: Path, name: str) -> Stage:
        """Raises: NOT_FOUND; CORRUPT for what `create` did not make."""
        stage = cls.open_files(directory / f"{name}.data", directory / f"{name}.map")
        stage._record = directory / f"{name}{RECORD_SUFFIX}"
        return stage

    @classmethod
    def open_files(cls, data_path: Path, map_path: Path, *, writable: bool = True) -> Stage:
        """Open a stage whose files have other names, too. Raises: as `open`."""
        flags = (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC
        try:
            data = os.open(data_path, flags)
        except FileNotFoundError as error:
            raise CacheError(ErrorKind.NOT_FOUND, f"there is no stage {data_path}") from error
        try:
            bits = os.open(map_path, flags)
        except OSError as error:
            is_removed = os.fstat(data).st_nlink == 0
            os.close(data)
            if is_removed:  # since its data were opened: `remove` begins with them
                raise CacheError(ErrorKind.NOT_FOUND, f"the stage {data_path} was removed") from error
            raise CacheError(ErrorKind.CORRUPT, f"the stage {data_path} has no map: {error.strerror}") from error
        head = os.pread(bits, _HEAD.size, 0)
        if len(head) != _HEAD.size or not head.startswith(MAGIC):
            os.close(data)
            os.close(bits)
            raise CacheError(ErrorKind.CORRUPT, f"the stage {data_path} has a map that is none")
        return cls(data, bits, _HEAD.unpack(head)[2])

    @classmethod
    def restore(cls, directory: Path, name: str, taken: bytes, size: int, mtime_ns: int) -> None:
        """Make a stage what it was when `take_map` was called and its bytes were synced; what was written since may be lost.

        Raises: NOT_FOUND without its bytes; CORRUPT for a map that is none."""
        if not taken.startswith(MAGIC):
            raise CacheError(ErrorKind.CORRUPT, f"the stage {name} in {directory} has a map that is none")
        path = directory / f"{name}.data"
        if not path.exists():
            raise CacheError(ErrorKind.NOT_FOUND, f"the stage {name} in {directory} has no bytes")
        (directory / f"{name}.map").write_bytes(taken)
        os.truncate(path, size)
        os.utime(path, ns=(mtime_ns, mtime_ns))

    def has_record(self) -> bool:
        """Whether somebody was told that the bytes are safe before the store had them (fetch/journal.py)."""
        return self._record is not None and self._record.exists()

    def take_map(self) -> bytes:
        """Return the whole map, for `restore`."""
        return os.pread(self._map, os.fstat(self._map).st_size, 0)

    def close(self) -> None:
        os.close(self._data)
        os.close(self._map)

    @property
    def fd(self) -> int:
        """Of NAME.data."""
        return self._data

    @property
    def size(self) -> int:
        return os.fstat(self._data).st_size

    @property
    def base_limit(self) -> int:
        return int(_LIMIT.unpack(os.pread(self._map, _LIMIT.size, _LIMIT_AT))[0])

    # -- reading

    def runs(self, offset: int, size: int) -> list[Run]:
        """Return where [offset, offset + size) lies, as far as the file goes."""
        end, limit = min(offset + size, self.size), self.base_limit
        if offset >= end:
            return []
        runs: list[Run] = []
        base_end = min(end, limit)
        if offset < base_end:
            first, last = offset // GRAIN, (base_end - 1) // GRAIN
            for grain, is_present in zip(range(first, last + 1), self._present(first, last), strict=True):
                start, stop = max(offset, grain * GRAIN), min(base_end, (grain + 1) * GRAIN)
                if runs and runs[-1].is_new is is_present:
                    runs[-1] = runs[-1]._replace(end=stop)
                else:
                    runs.append(Run(start, stop, is_present))
        if base_end < end:
            start = max(offset, base_end)
            if runs and runs[-1].is_new:
                runs[-1] = runs[-1]._replace(end=end)
            else:
                runs.append(Run(start, end, True))
        return runs

    def pread_into(self, target: memoryview, offset: int) -> int:
        """Fill `target` with new bytes; return how many there were."""
        return os.preadv(self._data, [target], offset)

    # -- writing

    def wanted(self, offset: int, size: int) -> list[tuple[int, int]]:
        """Return what of the base a write needs first, as (start, end): the rest of the grains that it covers in part."""
        limit = self.base_limit
        wanted = []
        for grain in {offset // GRAIN, (offset + size - 1) // GRAIN} if size else ():
            start, stop = grain * GRAIN, min((grain + 1) * GRAIN, limit)
            if start >= limit or (offset <= start and offset + size >= stop) or self._present(grain, grain)[0]:
                continue
            wanted.append((start, stop))
        return sorted(wanted)

    def fill(self, start: int, data: Buffer) -> None:
        """Take over bytes of the base that `wanted` named. Changes nothing that a reader sees."""
        self._pwrite(start, memoryview(data))
        self._set_present(start // GRAIN, start // GRAIN)

    def write(self, offset: int, data: Buffer) -> None:
        """Write; what `wanted` returned has been filled. Raises OSError (ENOSPC)."""
        view = memoryview(data)
        if not len(view):
            return
        regions = range(offset // REGION, (offset + len(view) - 1) // REGION + 1)
        self._begin_change(regions)
        self._pwrite(offset, view)
        limit = self.base_limit
        if offset < limit:
            self._set_present(offset // GRAIN, (min(offset + len(view), limit) - 1) // GRAIN)
        self._end_change(regions)

    def truncate(self, size: int) -> None:
        """Cut off, or lengthen by zeros. Everything that is cut off counts as changed: it may come back as zeros."""
        old = self.size
        last = max(old - 1, size) // REGION if size < old else old // REGION
        regions = self._with_pending(range(min(old, size) // REGION, last + 1))
        os.pwrite(self._map, _PENDING.pack(regions.start, len(regions)), _PENDING_AT)
        self._begin_change(regions)
        os.ftruncate(self._data, size)  # first: whoever reads meanwhile sees the old file or the new one
        if size < self.base_limit:
            os.pwrite(self._map, _LIMIT.pack(size), _LIMIT_AT)
        self._end_change(regions)
        os.pwrite(self._map, _PENDING.pack(0, 0), _PENDING_AT)

    def allocate(self, offset: int, size: int) -> None:
        """As fallocate(2) with mode 0: room, and a file that is at least so long. Raises OSError (ENOSPC)."""
        if offset + size > self.size or len(self._with_pending(range(0))):
            self.truncate(max(offset + size, self.size))
        os.posix_fallocate(self._data, offset, size)

    def sync(self) -> None:
        """Return when everything would survive a power cut, but for the names of the files."""
        os.fsync(self._data)
        os.fsync(self._map)

    # -- what has changed

    def change(self, region: int) -> int:
        """Return the number of a region's last change; odd: a write is under way, or was when serve died."""
        raw = os.pread(self._map, _CHANGE.size, self._changes_at + region * _CHANGE.size)
        return int(_CHANGE.unpack(raw)[0]) if len(raw) == _CHANGE.size else 0

    def changes(self, first: int, count: int) -> tuple[int, ...]:
        """Return `change` of several regions."""
        raw = os.pread(self._map, count * _CHANGE.size, self._changes_at + first * _CHANGE.size)
        raw += b"\0" * (count * _CHANGE.size - len(raw))
        return struct.unpack(f"<{count}I", raw)

    def raw_changes(self, end: int, start: int = 0) -> bytes:
        """Return `change` of the regions of [start, end) as they lie in the map, four bytes each: to be compared, or kept."""
        first, count = start // REGION, -(-end // REGION) - start // REGION
        raw = os.pread(self._map, count * _CHANGE.size, self._changes_at + first * _CHANGE.size)
        return raw + bytes(count * _CHANGE.size - len(raw))

    def _begin_change(self, regions: range) -> None:
        """Make the numbers odd; one that is odd already was left by a process that died."""
        self._count_on(regions, lambda number: number + 1 + number % 2)

    def _end_change(self, regions: range) -> None:
        self._count_on(regions, lambda number: number + number % 2)

    def _count_on(self, regions: range, following: Callable[[int], int]) -> None:
        for start in range(regions.start, regions.stop, _MARKED_AT_ONCE):
            count = min(_MARKED_AT_ONCE, regions.stop - start)
            numbers = [following(number) & 0xFFFFFFFF for number in self.changes(start, count)]
            raw = struct.pack(f"<{count}I", *numbers)
            _pwrite_all(self._map, memoryview(raw), self._changes_at + start * _CHANGE.size)

    def _with_pending(self, regions: range) -> range:
        """Add what a change of the size that was not finished began with: it is this one, asked for again."""
        first, count = _PENDING.unpack(os.pread(self._map, _PENDING.size, _PENDING_AT))
        if not count:
            return regions
        pending = range(first, first + count)
        if not len(regions):
            return pending
        return range(min(regions.start, pending.start), max(regions.stop, pending.stop))

    # -- the bits

    def _present(self, first: int, last: int) -> list[bool]:
        raw = os.pread(self._map, last // 8 - first // 8 + 1, _PAGE + first // 8)
        return [_bit(raw, grain - first // 8 * 8) for grain in range(first, last + 1)]

    def _set_present(self, first: int, last: int) -> None:
        start = first // 8
        raw = bytearray(last // 8 - start + 1)
        found = os.pread(self._map, len(raw), _PAGE + start)
        raw[: len(found)] = found
        for grain in _edge_grains(first, last):
            raw[grain // 8 - start] |= 1 << grain % 8
        full = range(-(-first // 8), (last + 1) // 8)  # bytes all of whose bits are set
        if len(full):
            raw[full.start - start : full.stop - start] = b"\xff" * len(full)
        _pwrite_all(self._map, memoryview(raw), _PAGE + start)

    def _pwrite(self, offset: int, view: memoryview) -> None:
        _pwrite_all(self._data, view, offset)


def remove(directory: Path, name: str) -> None:
    """Remove a stage, if it is there: its map last, so that what has no data is known to be none."""
    for end in ("data", "map"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{directory}/{name}.{end}")


def _edge_grains(first: int, last: int) -> Iterator[int]:
    """Yield the grains whose byte of the map is set in part only."""
    if last - first < 16:
        yield from range(first, last + 1)
        return
    yield from range(first, -(-first // 8) * 8)
    yield from range((last + 1) // 8 * 8, last + 1)


def _bit(raw: bytes, index: int) -> bool:
    return index // 8 < len(raw) and bool(raw[index // 8] >> index % 8 & 1)


def _pwrite_all(fd: int, view: memoryview, offset: int) -> None:
    view = view.cast("B") if view.format != "B" or view.ndim != 1 else view
    while len(view):
        count = os.pwrite(fd, view, offset)
        offset, view = offset + count, view[count:]


def _grains(size: int) -> int:
    return -(-size // GRAIN)


def _round_up(value: int, step: int) -> int:
    return -(-value // step) * step
