"""Checkpoints, databases, editors, archives, logs, memory maps and locks on mounts that may be written."""

from __future__ import annotations

import io
import random
import sqlite3
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support import saving_programs
from tests.support.child_call import start_in_child
from tests.support.plain_store import tree_of
from tests.support.written_place import WrittenPlace, sha256

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


def test_numpy_saves(place: WrittenPlace) -> None:
    numpy = pytest.importorskip("numpy", reason="numpy is among the requirements of the bench only")
    names = place.call(saving_programs.save_arrays, [10, 1000, 700_000])
    assert set(place.assert_stored()) == set(names)
    array = numpy.load(io.BytesIO(place.read(names[-1])))
    assert (array[350_000:] == 7.0).all()
    assert (array[:350_000] == numpy.random.default_rng(1).random(700_000)[:350_000]).all()


def test_safetensors_saves(place: WrittenPlace) -> None:
    pytest.importorskip("safetensors", reason="safetensors is among the requirements of the bench only")
    place.call(saving_programs.save_tensors, 3)
    assert set(place.assert_stored()) == {"model.safetensors"}


def test_readers_of_checkpoints_see_whole_versions(place: WrittenPlace, full_length: bool) -> None:
    seconds = 60.0 if full_length else 3.0
    reader = start_in_child(saving_programs.load_checkpoints, seconds + 30, directory=place.directory)
    try:
        saved = place.call(saving_programs.save_checkpoints, seconds)
        out, err = reader.communicate(timeout=60)
        assert reader.returncode == 0, err.decode()
    finally:
        reader.kill()
        reader.communicate()
    print(saved, out)
    assert saved["versions"] > 1
    last = saved["versions"] - 1
    assert place.read("checkpoint") == last.to_bytes(8, "little") + saving_programs.checkpoint_data(last)
    assert set(place.assert_stored()) == {"checkpoint", "done"}


@pytest.mark.parametrize("mode", ["delete", "truncate", "persist", "wal"])
def test_sqlite(place: WrittenPlace, disk_path: Path, full_length: bool, mode: str) -> None:
    rows = 20_000 if full_length else 200
    right = {"check": "ok", "count": rows * 9 // 10, "changed": rows // 10}
    assert place.call(saving_programs.use_database, mode, rows) == {"mode": mode, **right}
    assert place.call(saving_programs.check_database, mode) == right
    place.assert_stored()
    (disk_path / f"{mode}.db").write_bytes(place.read(f"{mode}.db"))
    connection = sqlite3.connect(disk_path / f"{mode}.db")
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert connection.execute("SELECT count(*) FROM pairs").fetchone() == (right["count"],)
    connection.close()


def test_sqlite_of_several_processes(place: WrittenPlace) -> None:
    """They lock each other out by fcntl locks."""
    writers = [start_in_child(saving_programs.count_in_database, 5, directory=place.directory) for _ in range(3)]
    try:
        for writer in writers:
            _, err = writer.communicate(timeout=90)
            assert writer.returncode == 0, err.decode()
    finally:
        for writer in writers:
            writer.kill()
            writer.communicate()
    assert place.call(saving_programs.counted_in_database) == list(range(1, 16))
    place.assert_stored()


def test_editors_save(place: WrittenPlace) -> None:
    texts = place.call(saving_programs.save_as_editors, 3)
    assert place.assert_stored() == {name: sha256(text.encode()) for name, text in texts.items()}


def test_temporary_files(place: WrittenPlace) -> None:
    place.call(saving_programs.use_temporary_files)
    assert place.assert_stored() == {"kept": sha256(b"kept")}


def test_archives_grow(place: WrittenPlace) -> None:
    members = place.call(saving_programs.append_to_archives, 5)
    with zipfile.ZipFile(io.BytesIO(place.read("archive.zip"))) as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == members
    with tarfile.open(fileobj=io.BytesIO(place.read("archive.tar"))) as tar:
        found = {member.name: tar.extractfile(member) for member in tar}
        assert {name: file.read().decode() for name, file in found.items() if file is not None} == members
    assert set(place.assert_stored()) == {"archive.zip", "archive.tar"}


def test_shutil_copies_trees(place: WrittenPlace, disk_path: Path) -> None:
    for number in range(10):
        path = disk_path / "tree" / f"dir{number % 3}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(random.Random(number).randbytes(number * 1000))
    place.call(saving_programs.copy_trees, str(disk_path / "tree"))
    expected = tree_of(disk_path / "tree")
    assert place.stored("copied") == place.stored("unpacked") == expected
    assert set(place.store.names(place.name)) == {"copied/", "unpacked/"}
    place.assert_stored()


def test_logs_rotate(place: WrittenPlace) -> None:
    place.call(saving_programs.log_with_rotation, 700)
    assert len(place.assert_stored()) == 4


@pytest.mark.parametrize("size", [10_000, 3_000_001])
def test_memory_maps_write(place: WrittenPlace, size: int) -> None:
    place.call(saving_programs.write_through_maps, size)
    stored = place.assert_stored()
    assert stored["mapped"] == stored["made"]


def test_locks_of_whole_files(place: WrittenPlace) -> None:
    place.call(saving_programs.lock_whole_files)


def test_locks_of_ranges(place: WrittenPlace) -> None:
    place.call(saving_programs.lock_ranges)


@pytest.mark.parametrize("size", [5000, 3_000_000])
def test_removed_while_it_is_read(place: WrittenPlace, size: int) -> None:
    place.call(saving_programs.read_what_is_removed, size)
    assert place.assert_stored() == {"removed": sha256(b"another")}


@pytest.mark.parametrize("size", [5000, 3_000_000])
def test_removed_while_it_is_written(place: WrittenPlace, size: int) -> None:
    place.call(saving_programs.write_what_is_removed, size)
    assert place.assert_stored() == {}


@pytest.mark.parametrize("size", [5000, 3_000_000])
def test_removed_while_it_is_written_and_read(place: WrittenPlace, size: int) -> None:
    """Once the reader saw the size of before the file was opened for writing, and no bytes beyond."""
    place.call(saving_programs.read_what_is_written_and_removed, size)
    assert place.assert_stored() == {}


def test_removed_right_after_close(place: WrittenPlace, full_length: bool) -> None:
    """Once the stage of a file that was just closed was dropped with its name: readers saw an empty file."""
    place.call(saving_programs.remove_right_after_close, 1_000_000, 200 if full_length else 15)
    assert place.assert_stored() == {}


@pytest.mark.parametrize("size", [5000, 3_000_000])
def test_replaced_while_it_is_open(place: WrittenPlace, size: int) -> None:
    place.call(saving_programs.read_what_is_replaced, size)
    assert place.assert_stored() == {"replaced": sha256(random.Random(2).randbytes(size // 2))}
