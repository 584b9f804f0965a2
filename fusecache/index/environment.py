"""The LMDB environment: opening it as the one writer or as a reader, and knowing which index it is.

Concurrency: one Environment per file and process (an LMDB rule); never across fork. The writer opens with sync off: after a
process crash the page cache is still there, and after a machine crash the index is dropped unless the clean marker says
otherwise (fetch/startup.py).
"""

from __future__ import annotations

import contextlib
import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.index.sealed import IndexDamagedError

Transaction = Any  # lmdb.Transaction: opaque outside this package
Database = Any

SCHEMA_VERSION = 4  # another version on disk: the index is dropped and rebuilt
TABLES = ("meta", "inodes", "names", "dirseq", "dirs", "extents", "containers", "order", "orphans")
ADDED_TABLES = (
    "writes",
    "aliases",
    "known",
    "xattrs",
    "parts",
    "handles",
    "changes",
)  # since schema 4: made where they are missing
MAP_SIZE_BYTES = 64 << 30  # address space only; about 10 million files with their blocks need 5 GiB
# LMDB may leave the last pages it gave out unwritten (taken and freed within one transaction), so that a sound file can be a
# little shorter than it says. More than this (a guess) was cut off.
MAX_UNWRITTEN_BYTES = 64 << 10
# EIO is how LMDB reports that less was written than it asked for, which is how most disks become full. (Pages are read through
# the map: a disk that cannot be read is a SIGBUS.)
_DISK_IS_FULL = ("No space left", "Input/output error", "Disk quota exceeded")
MAX_READERS = 512  # threads of all serve and peer processes, with room for dead ones before reader_check


class NoSpaceError(CacheError):
    """The disk under the index is full, or the map, or the table of readers: nothing was changed, nothing is damaged."""

    def __init__(self, reason: str, cure: str = "free space on the disk of the cache directory") -> None:
        super().__init__(ErrorKind.NO_SPACE, f"the index has no room: {reason}; {cure}")


class Environment:
    """An open index. `db` maps a table's name to its handle. `on_full` is called when a transaction found no space, `on_abort`
    when one of those that write changed nothing."""

    def __init__(self, path: Path, *, writable: bool) -> None:
        """Raises: IndexDamagedError if this is not an LMDB file of ours; OSError; NoSpaceError."""
        self.path = path
        self.writable = writable
        self.on_full: Callable[[], object] = lambda: None
        self.on_abort: Callable[[], object] = lambda: None
        if writable:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        with translate_errors():
            self._env = lmdb.open(
                str(path),
                map_size=MAP_SIZE_BYTES,
                max_dbs=len(TABLES) + len(ADDED_TABLES),
                max_readers=MAX_READERS,
                max_spare_txns=8,
                readonly=not writable,
                create=writable,
                sync=False,
                metasync=False,
                writemap=False,
                readahead=False,  # random access; with it a cold index reads far more than it needs
                mode=0o600,
            )
            try:
                if writable:
                    self._check_length()
                self.db: dict[str, Database] = {
                    name: self._env.open_db(name.encode(), create=writable) for name in (*TABLES, *ADDED_TABLES)
                }
            except lmdb.NotFoundError as error:
                self._env.close()
                raise IndexDamagedError(f"{path}: a table is missing") from error
            except IndexDamagedError:
                self._env.close()
                raise

    def _check_length(self) -> None:
        """A page behind the end of the file would end this process with SIGBUS. Raises: IndexDamagedError."""
        file = self.path / "data.mdb"
        size, used = file.stat().st_size, self.used_bytes()
        if used - size > MAX_UNWRITTEN_BYTES:
            raise IndexDamagedError(f"{file} has {size} bytes of the {used} it says it has")
        if used > size:
            os.truncate(file, used)

    @contextlib.contextmanager
    def read(self) -> Iterator[Transaction]:
        """A snapshot. Buffers it returns are valid until the block ends."""
        with translate_errors(), self.begin_read() as txn:
            yield txn

    def begin_read(self) -> Transaction:
        """A snapshot as a bare context manager, for the hit path: 0.3 µs instead of the 1.8 µs of `read`, but lmdb's own
        exceptions reach the caller, who wraps the whole request in `translate_errors`."""
        try:
            return self._env.begin()
        except lmdb.ReadersFullError:  # by processes that died, or by transactions that only a garbage collection frees
            self._env.reader_check()
            gc.collect()
            return self._env.begin()

    @contextlib.contextmanager
    def write(self) -> Iterator[Transaction]:
        """Commits at the end, or changes nothing if the block raises. Only the writer process; no checkpoint inside."""
        try:
            with translate_errors(), self._env.begin(write=True) as txn:
                yield txn
        except NoSpaceError:
            self.on_abort()
            self.on_full()
            raise
        except BaseException:
            self.on_abort()
            raise

    def sync(self) -> None:
        with translate_errors():
            self._env.sync(True)

    def check_readers(self) -> int:
        """Free the slots of readers that died; their snapshots would pin old pages. Returns how many."""
        return int(self._env.reader_check())

    def oldest_reader(self) -> int | None:
        """Return the id of the oldest transaction that a live reader still looks at, or None if there is no reader."""
        oldest: int | None = None
        for line in self._env.readers().splitlines()[1:]:
            fields = line.split()
            if len(fields) >= 3 and fields[2].isdigit():
                oldest = int(fields[2]) if oldest is None else min(oldest, int(fields[2]))
        return oldest

    def last_transaction(self) -> int:
        return int(self._env.info()["last_txnid"])

    def used_bytes(self) -> int:
        """Bytes of the file that hold pages."""
        return int(self._env.info()["last_pgno"] + 1) * int(self._env.stat()["psize"])

    def close(self) -> None:
        self._env.close()


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """lmdb's exceptions end here."""
    try:
        yield
    except lmdb.ReadersFullError as error:
        raise NoSpaceError(
            f"{MAX_READERS} readers look at it", "unmount, and mount again; please report this with the log"
        ) from error
    except (lmdb.MapFullError, lmdb.DiskError) as error:
        raise NoSpaceError(str(error)) from error
    except (
        lmdb.CorruptedError,
        lmdb.PageNotFoundError,
        lmdb.InvalidError,
        lmdb.VersionMismatchError,
        lmdb.BadDbiError,
        lmdb.IncompatibleError,
        lmdb.PanicError,
        lmdb.BadValsizeError,
    ) as error:
        raise IndexDamagedError(f"lmdb: {error}") from error
    except lmdb.Error as error:
        if any(reason in str(error) for reason in _DISK_IS_FULL):
            raise NoSpaceError(str(error)) from error
        raise IndexDamagedError(f"lmdb: {error}") from error
