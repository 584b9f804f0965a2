"""Rows of what is being written, and the numbers by which the kernel knows it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.index.index import Index
from fusecache.index.inodes import InodeNo
from fusecache.index.writes import WriteFlag, WriteRow


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    index = Index(tmp_path / "index", writable=True)
    yield index
    index.close()


def test_rows_parts_and_handles(index: Index) -> None:
    writes = index.writes
    with index.write() as txn:
        assert writes.get(txn, InodeNo(7)) is None
        assert writes.stage_of(txn, InodeNo(7)) is None
        row = WriteRow(3, InodeNo(9), int(WriteFlag.UNLINKED), {"expected": None})
        writes.put(txn, InodeNo(7), row)
        assert writes.get(txn, InodeNo(7)) == row
        assert writes.stage_of(txn, InodeNo(7)) == (3, 9)
        writes.put_part(txn, InodeNo(7), 1, {"tag": "a"})
        writes.put_part(txn, InodeNo(7), 300, {"tag": "b"})
        writes.put_part(txn, InodeNo(8), 1, {"tag": "c"})
        assert writes.parts(txn, InodeNo(7)) == {1: {"tag": "a"}, 300: {"tag": "b"}}
        writes.add_handle(txn, 1 << 63, InodeNo(7))
        assert writes.is_open(txn, InodeNo(7))
        assert writes.inode_of(txn, 1 << 63) == 7
        writes.remove_handle(txn, 1 << 63)
        writes.remove_handle(txn, 1 << 63)
        assert not writes.is_open(txn, InodeNo(7))
        assert [inode for inode, _ in writes.iterate(txn)] == [7]
        writes.delete(txn, InodeNo(7))
        assert writes.parts(txn, InodeNo(7)) == {}
        assert writes.parts(txn, InodeNo(8)) == {1: {"tag": "c"}}
        writes.remember(txn, 44, {"inode": 7})
        assert writes.outcome(txn, 44) == {"inode": 7}
        writes.forget(txn, 44)
        assert writes.outcome(txn, 44) is None


def test_the_kernel_has_one_number_for_a_file_however_often_it_was_written(index: Index) -> None:
    writes = index.writes
    with index.write() as txn:
        for became in (20, 30, 40):
            writes.add_alias(txn, writes.resolve(txn, InodeNo(10)), InodeNo(became))
            assert writes.resolve(txn, InodeNo(10)) == became
            assert writes.known_as(txn, InodeNo(became)) == 10
        assert writes.resolve(txn, InodeNo(20)) == 40
        writes.add_handle(txn, 1, InodeNo(40))
        writes.forget_handles(txn)
        assert writes.resolve(txn, InodeNo(10)) == 10
        assert writes.known_as(txn, InodeNo(40)) == 40
        assert not writes.is_open(txn, InodeNo(40))


def test_an_index_of_before_gets_the_tables(tmp_path: Path) -> None:
    path = tmp_path / "old"
    Index(path, writable=True).close()
    index = Index(path, writable=True)
    with index.write() as txn:
        index.writes.put_xattrs(txn, InodeNo(1), {"61": "62"})
        assert index.writes.xattrs(txn, InodeNo(1)) == {"61": "62"}
        assert index.writes.xattrs(txn, InodeNo(2)) is None
    index.close()


def test_what_a_transaction_did_not_commit_is_not_remembered(index: Index) -> None:
    with index.write() as txn:
        index.writes.put(txn, InodeNo(7), WriteRow(1, InodeNo(7), 0, {"text": "first"}))
    with pytest.raises(ZeroDivisionError):
        _fail_after_putting(index)
    with index.read() as txn:
        row = index.writes.get(txn, InodeNo(7))
        assert row is not None
        assert (row.stage, row.note) == (1, {"text": "first"})
        assert index.writes.get(txn, InodeNo(8)) is None


def _fail_after_putting(index: Index) -> None:
    with index.write() as txn:
        index.writes.put(txn, InodeNo(7), WriteRow(2, InodeNo(7), 0, {"text": "second"}))
        index.writes.put(txn, InodeNo(8), WriteRow(3, InodeNo(8), 0, {"text": "third"}))
        raise ZeroDivisionError
