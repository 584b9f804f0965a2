"""The LMDB environment: what is on disk may be anything, errors have our names, readers' snapshots are known."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fusecache.index.environment import MAX_READERS, SCHEMA_VERSION, Environment, NoSpaceError, translate_errors
from fusecache.index.index import Index
from fusecache.index.sealed import IndexDamagedError
from tests.support.dead_readers import fill_table_of_readers
from tests.support.garbage import no_collection


def test_noise_instead_of_an_index_is_damage(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"noise" * 4000)
    with pytest.raises(IndexDamagedError):
        Environment(tmp_path, writable=True)


def test_a_reader_of_an_index_without_tables_is_told_of_damage(tmp_path: Path) -> None:
    import lmdb

    lmdb.open(str(tmp_path), max_dbs=9).close()
    with pytest.raises(IndexDamagedError):
        Environment(tmp_path, writable=False)


def test_a_missing_index_is_an_error_for_a_reader(tmp_path: Path) -> None:
    with pytest.raises((IndexDamagedError, OSError)):
        Environment(tmp_path / "nothing", writable=False)


def test_an_index_of_another_schema_is_refused(empty_index: Index) -> None:
    with pytest.raises(IndexDamagedError):
        empty_index.index_id()
    with empty_index.write() as txn:
        empty_index.meta.put_id(txn, b"x" * 16)
        empty_index.meta.put(txn, "schema", 999)
    with pytest.raises(IndexDamagedError, match="schema"):
        empty_index.index_id()


def test_readers_that_died_do_not_fill_the_table(empty_index: Index) -> None:
    fill_table_of_readers(empty_index.env.path)
    with empty_index.read(), empty_index.read():
        pass


def test_snapshots_that_wait_for_the_garbage_collector_are_freed_when_they_fill_the_table(empty_index: Index) -> None:
    with no_collection():
        for _ in range(MAX_READERS + 10):
            with empty_index.read() as txn:
                cycle: list[object] = [txn]
                cycle.append(cycle)
            del txn, cycle


def test_too_many_readers_are_named_as_such(empty_index: Index) -> None:
    def open_all(stack: contextlib.ExitStack) -> None:
        for _ in range(MAX_READERS + 1):
            stack.enter_context(empty_index.read())

    with contextlib.ExitStack() as stack, pytest.raises(NoSpaceError, match=f"{MAX_READERS} readers"):
        open_all(stack)


def test_a_full_map_is_no_damage_and_changes_nothing(empty_index: Index) -> None:
    empty_index.env._env.set_mapsize(1 << 18)
    with empty_index.write() as txn:
        empty_index.meta.put(txn, "files", 1)

    def overfill() -> None:
        with empty_index.write() as txn:
            empty_index.meta.put(txn, "files", 2)
            for number in range(100_000):
                empty_index.order.put(txn, 0, number, number, 0)

    with pytest.raises(NoSpaceError):
        overfill()
    with empty_index.read() as txn:
        assert empty_index.meta.get(txn, "files") == 1


def test_an_exception_in_a_write_changes_nothing(empty_index: Index) -> None:
    def fail() -> None:
        with empty_index.write() as txn:
            empty_index.meta.put(txn, "files", 5)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    with empty_index.read() as txn:
        assert empty_index.meta.get(txn, "files") == 0


def test_errors_of_lmdb_end_at_the_door() -> None:
    import lmdb

    for raised, expected in (
        (lmdb.MapFullError, NoSpaceError),
        (lmdb.DiskError("x"), NoSpaceError),
        (lmdb.Error("mdb_txn_commit: No space left on device"), NoSpaceError),
        (lmdb.CorruptedError, IndexDamagedError),
        (lmdb.PageNotFoundError, IndexDamagedError),
        (lmdb.Error("whatever"), IndexDamagedError),
    ):
        with pytest.raises(expected), translate_errors():
            raise raised


def test_the_oldest_reader_of_another_process_is_seen_until_it_dies(empty_index: Index) -> None:
    assert empty_index.env.oldest_reader() is None
    with empty_index.write() as txn:
        empty_index.meta.put(txn, "files", 1)
    before = empty_index.env.last_transaction()
    program = (
        "import sys; from pathlib import Path; from fusecache.index.index import Index\n"
        "index = Index(Path(sys.argv[1]), writable=False)\n"
        "with index.read() as txn:\n"
        "    print(index.meta.get(txn, 'files'), flush=True); sys.stdin.read()\n"
        "    print(index.meta.get(txn, 'files'), flush=True); sys.stdin.close(); import os; os._exit(9)\n"
    )
    command = [sys.executable, "-c", program, str(empty_index.env.path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdin is not None
        assert reader.stdout.readline() == "1\n"
        with empty_index.write() as txn:
            empty_index.meta.put(txn, "files", 2)
        assert empty_index.env.oldest_reader() == before
        reader.stdin.close()
        assert reader.stdout.readline() == "1\n"  # its snapshot did not move
        assert reader.wait(10) == 9
    assert empty_index.env.oldest_reader() == before  # a dead reader pins its snapshot
    assert empty_index.env.check_readers() == 1
    assert empty_index.env.oldest_reader() is None


def _filled(path: Path) -> int:
    """Make an index of some megabytes; return the length of its file."""
    index = Index(path, writable=True)
    with index.write() as txn:
        index.meta.put_id(txn, b"x" * 16)
        index.meta.put(txn, "schema", SCHEMA_VERSION)
        for number in range(40_000):
            index.order.put(txn, 0, number, number, 0)
    index.close()
    return (path / "data.mdb").stat().st_size


@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_an_index_that_was_cut_is_damage_before_a_page_is_touched(tmp_path: Path, share: float) -> None:
    size = _filled(tmp_path)
    os.truncate(tmp_path / "data.mdb", max(8192, int(size * share)))
    with pytest.raises(IndexDamagedError, match="bytes of the"):
        Index(tmp_path, writable=True)


def test_an_index_whose_last_pages_were_never_written_is_sound(tmp_path: Path) -> None:
    size = _filled(tmp_path)
    index = Index(tmp_path, writable=True)
    used = index.env.used_bytes()
    index.close()
    with (tmp_path / "data.mdb").open("r+b") as file:
        file.truncate(min(size, used) - 4096)
    index = Index(tmp_path, writable=True)
    assert (tmp_path / "data.mdb").stat().st_size >= used  # nothing behind the end can be touched any more
    assert index.index_id() == b"x" * 16
    index.close()
