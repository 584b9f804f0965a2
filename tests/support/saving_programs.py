"""Programs that save what they work on, each a function that runs in a process of its own, in a directory on a mount that may be
written. They raise AssertionError if they read back anything else than they saved; some return what must be in the store."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import logging.handlers
import mmap
import os
import random
import shutil
import sqlite3
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

# -- checkpoints


def save_arrays(sizes: list[int]) -> list[str]:
    """numpy.save to a temporary file, fsync, rename; loaded again, also by mmap. Return the names."""
    import numpy

    names = []
    for number, size in enumerate(sizes):
        name = f"array-{number}.npy"
        for version in range(2):
            array = numpy.random.default_rng(version).random(size)
            with open(f"{name}.tmp", "wb") as file:
                numpy.save(file, array)
                file.flush()
                os.fsync(file.fileno())
            os.replace(f"{name}.tmp", name)
            assert (numpy.load(name) == array).all()
            assert (numpy.load(name, mmap_mode="r") == array).all()
        changed = numpy.load(name, mmap_mode="r+")
        changed[size // 2 :] = 7.0
        changed.flush()
        del changed
        array[size // 2 :] = 7.0
        assert (numpy.load(name) == array).all()
        names.append(name)
    return names


def save_tensors(rounds: int) -> None:
    """safetensors to a temporary name, then renamed over the last checkpoint."""
    import numpy
    from safetensors.numpy import load_file, save_file

    for version in range(rounds):
        tensors = {f"layer{number}": numpy.random.default_rng(version).random((50, 1000)) for number in range(4)}
        save_file(tensors, "model.tmp", metadata={"version": str(version)})
        descriptor = os.open("model.tmp", os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
        os.replace("model.tmp", "model.safetensors")
        loaded = load_file("model.safetensors")
        assert loaded.keys() == tensors.keys()
        assert all((loaded[name] == tensors[name]).all() for name in tensors)


def save_checkpoints(seconds: float) -> dict[str, int]:
    """One version after the other, each renamed over the last one."""
    end, version = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        _save_checkpoint(version)
        version += 1
    Path("done").touch()
    return {"versions": version}


def _save_checkpoint(version: int) -> None:
    with open("checkpoint.tmp", "wb") as file:
        file.write(version.to_bytes(8, "little"))
        file.write(checkpoint_data(version))
        file.flush()
        os.fsync(file.fileno())
    os.replace("checkpoint.tmp", "checkpoint")


def checkpoint_data(version: int) -> bytes:
    return random.Random(version).randbytes(300_000 + 1000 * (version % 7))


def load_checkpoints(seconds: float) -> dict[str, int]:
    """Each load is one whole version, and never one older than the last."""
    end, last, loads, versions = time.monotonic() + seconds, -1, 0, set()
    while time.monotonic() < end and not os.path.exists("done"):
        try:
            with open("checkpoint", "rb") as file:
                version, data = int.from_bytes(file.read(8), "little"), file.read()
        except FileNotFoundError:
            assert last < 0, "the checkpoint was gone for a moment"
            time.sleep(0.02)
            continue
        assert data == checkpoint_data(version), f"version {version} is a mix"
        assert version >= last, f"version {version} after version {last}"
        last, loads = version, loads + 1
        versions.add(version)
    return {"loads": loads, "versions": len(versions)}


# -- databases


def use_database(mode: str, rows: int) -> dict[str, Any]:
    """Create, fill, change, shrink and check a database. Return what it says of itself."""
    name = f"{mode}.db"
    connection = sqlite3.connect(name, timeout=30)
    (found,) = connection.execute(f"PRAGMA journal_mode = {mode}").fetchone()
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE pairs (key INTEGER PRIMARY KEY, value TEXT)")
    connection.execute("CREATE INDEX by_value ON pairs (value)")
    connection.commit()
    for start in range(0, rows, 100):
        with connection:
            connection.executemany(
                "INSERT INTO pairs VALUES (?, ?)", [(key, f"v{key}" * 20) for key in range(start, start + 100)]
            )
    with connection:
        connection.execute("UPDATE pairs SET value = 'changed' WHERE key % 10 = 0")
        connection.execute("DELETE FROM pairs WHERE key % 10 = 1")
    with contextlib.suppress(ZeroDivisionError), connection:
        connection.execute("DELETE FROM pairs")
        raise ZeroDivisionError  # rolled back
    connection.execute("VACUUM")
    (check,) = connection.execute("PRAGMA integrity_check").fetchone()
    connection.close()
    return {"mode": found, "check": check, **check_database(mode)}


def check_database(mode: str) -> dict[str, Any]:
    connection = sqlite3.connect(f"{mode}.db", timeout=30)
    (check,) = connection.execute("PRAGMA integrity_check").fetchone()
    (count,) = connection.execute("SELECT count(*) FROM pairs").fetchone()
    (changed,) = connection.execute("SELECT count(*) FROM pairs WHERE value = 'changed'").fetchone()
    connection.close()
    return {"check": check, "count": count, "changed": changed}


def count_in_database(rounds: int) -> None:
    """One of several processes that add to a counter."""
    connection = sqlite3.connect("counter.db", timeout=60, isolation_level=None)
    connection.execute("CREATE TABLE IF NOT EXISTS counter (value INTEGER)")
    for _ in range(rounds):
        connection.execute("BEGIN IMMEDIATE")
        value = connection.execute("SELECT max(value) FROM counter").fetchone()[0] or 0
        connection.execute("INSERT INTO counter VALUES (?)", (value + 1,))
        connection.execute("COMMIT")
    connection.close()


def counted_in_database() -> list[int]:
    connection = sqlite3.connect("counter.db")
    rows = [value for (value,) in connection.execute("SELECT value FROM counter ORDER BY value")]
    connection.close()
    return rows


# -- editors


def save_as_editors(rounds: int) -> dict[str, str]:
    """The calls by which editors save, one after the other, on one file. Return what must be there."""
    path, text = Path("text"), ""
    path.write_text(text)
    path.chmod(0o640)
    for number in range(rounds):
        text += f"line {number}\n"
        for save in (_save_with_backup_by_rename, _save_with_backup_by_copy, _save_by_rename, _save_in_place):
            text += f"{save.__name__}\n"
            save(path, text)
            assert path.read_text() == text, save.__name__
            assert path.stat().st_mode & 0o777 == 0o640, save.__name__
    return {"text": text}


def _write_new(path: Path, text: str, mode: int) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    os.write(descriptor, text.encode())
    os.fsync(descriptor)
    os.fchmod(descriptor, mode)
    os.close(descriptor)


def _save_with_backup_by_rename(path: Path, text: str) -> None:
    """vim with backupcopy=no: probe for a free name, move the old file away, create the new one."""
    probe = path.with_name("4913")
    os.close(os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o100640))
    os.unlink(probe)
    mode = path.stat().st_mode & 0o777
    backup = path.with_name(path.name + "~")
    os.rename(path, backup)
    _write_new(path, text, mode)
    os.unlink(backup)


def _save_with_backup_by_copy(path: Path, text: str) -> None:
    """vim with backupcopy=yes: the inode stays."""
    backup = path.with_name(path.name + "~")
    _write_new(backup, path.read_text(), 0o600)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.write(descriptor, text.encode())
    os.fsync(descriptor)
    os.close(descriptor)
    os.unlink(backup)


def _save_by_rename(path: Path, text: str) -> None:
    """gedit, emacs with file-precious-flag, and most others: a new file beside it, which takes its name."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    _write_new(new, text, path.stat().st_mode & 0o777)
    shutil.copystat(path, new)
    os.replace(new, path)
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    os.fsync(directory)
    os.close(directory)


def _save_in_place(path: Path, text: str) -> None:
    """nano: from the beginning, and cut off."""
    with open(path, "r+") as file:
        file.write(text)
        file.truncate()


# -- libraries


def use_temporary_files() -> None:
    """What `tempfile` makes: O_TMPFILE where there is such a thing, else O_EXCL and unlink."""
    with tempfile.TemporaryFile(dir=".") as file:
        file.write(b"gone")
        file.seek(0)
        assert file.read() == b"gone"
    with tempfile.NamedTemporaryFile(dir=".", delete=False) as named:
        named.write(b"kept")
    os.replace(named.name, "kept")
    with tempfile.TemporaryDirectory(dir=".") as directory:
        Path(directory, "file").write_bytes(b"x")
    assert sorted(os.listdir(".")) == ["kept"]


def append_to_archives(rounds: int) -> dict[str, str]:
    """zipfile and tarfile in append mode. Return the members."""
    members = {}
    for number in range(rounds):
        name, text = f"member{number}", f"{number} " * 1000
        members[name] = text
        with zipfile.ZipFile("archive.zip", "a", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(name, text)
        Path("member").write_text(text)
        with tarfile.open("archive.tar", "a") as tar:
            tar.add("member", name)
    os.unlink("member")
    with zipfile.ZipFile("archive.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name).decode() for name in archive.namelist()} == members
    return members


def copy_trees(source: str) -> None:
    shutil.copytree(source, "copied")
    shutil.copytree("copied", "again")
    shutil.move("again", "moved")
    shutil.make_archive("packed", "gztar", "moved")
    shutil.unpack_archive("packed.tar.gz", "unpacked")
    shutil.rmtree("moved")
    os.unlink("packed.tar.gz")


def log_with_rotation(lines: int) -> None:
    handler = logging.handlers.RotatingFileHandler("program.log", maxBytes=2000, backupCount=3)
    logger = logging.Logger("program")
    logger.addHandler(handler)
    for number in range(lines):
        logger.warning("line %06d", number)
    handler.close()
    kept = sorted(name for name in os.listdir(".") if name.startswith("program.log"))
    assert kept == ["program.log", "program.log.1", "program.log.2", "program.log.3"], kept
    found = [line for name in (*reversed(kept[1:]), kept[0]) for line in Path(name).read_text().splitlines()]
    assert found == [f"line {number:06d}" for number in range(lines - len(found), lines)]


# -- memory maps


def write_through_maps(size: int) -> None:
    """MAP_SHARED with and without msync, beside read and write, over several pages and in parts."""
    data = bytearray(random.Random(size).randbytes(size))
    path = Path("mapped")
    path.write_bytes(data)
    with open(path, "r+b") as file, mmap.mmap(file.fileno(), 0) as mapped:
        for start in (0, 5000, size // 2, size - 100):
            piece = bytes([start % 251]) * 100
            mapped[start : start + 100] = piece
            data[start : start + 100] = piece
        mapped.flush()
        assert path.read_bytes() == data
        os.fsync(file.fileno())
        mapped[70:80] = b"after sync"
        data[70:80] = b"after sync"
    assert path.read_bytes() == data
    with open("made", "w+b") as file:
        file.truncate(size)
        with mmap.mmap(file.fileno(), size) as mapped:
            mapped[:] = bytes(data)
    assert Path("made").read_bytes() == data
    with open("never-closed-first", "w+b") as file:
        file.truncate(10_000)
        mapped = mmap.mmap(file.fileno(), 10_000)
    mapped[:10] = b"0123456789"  # the descriptor is closed, the map is not
    mapped.flush()
    mapped.close()
    assert Path("never-closed-first").read_bytes()[:10] == b"0123456789"


# -- locks


def lock_whole_files() -> None:
    """flock between two processes: one waits for the other, and a lock ends with its process."""
    with open("lock", "wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with _child("import fcntl; fcntl.flock(open('lock'), fcntl.LOCK_EX | fcntl.LOCK_NB)") as child:
            assert "BlockingIOError" in child
        fcntl.flock(file, fcntl.LOCK_SH)
        with _child("import fcntl; fcntl.flock(open('lock'), fcntl.LOCK_SH | fcntl.LOCK_NB)") as child:
            assert child == ""
    with _child("import fcntl; fcntl.flock(open('lock'), fcntl.LOCK_EX | fcntl.LOCK_NB)") as child:
        assert child == ""


def lock_ranges() -> None:
    """fcntl locks between two processes."""
    program = "import fcntl; fcntl.lockf(open('ranges', 'r+b'), fcntl.LOCK_EX | fcntl.LOCK_NB, 10, {start})"
    with open("ranges", "w+b") as file:
        file.write(bytes(100))
        file.flush()
        fcntl.lockf(file, fcntl.LOCK_EX, 10, 20)
        with _child(program.format(start=25)) as child:
            assert "BlockingIOError" in child
        with _child(program.format(start=30)) as child:
            assert child == ""
        fcntl.lockf(file, fcntl.LOCK_UN, 10, 20)
        with _child(program.format(start=25)) as child:
            assert child == ""


@contextlib.contextmanager
def _child(program: str) -> Iterator[str]:
    import subprocess

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, timeout=60, text=True)
    yield done.stderr


# -- names that go while files are open


def read_what_is_removed(size: int) -> None:
    """Written, closed, opened for reading, removed: it can be read on, from cached pages and from others."""
    data = random.Random(size).randbytes(size)
    Path("removed").write_bytes(data)
    with open("removed", "rb") as file:
        first = file.read(1000)
        os.unlink("removed")
        assert not os.path.exists("removed")
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert first + file.read() == data
        assert os.fstat(file.fileno()).st_size == size
        Path("removed").write_bytes(b"another")
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        file.seek(0)
        assert file.read() == data
        assert Path("removed").read_bytes() == b"another"


def write_what_is_removed(size: int) -> None:
    """Opened for writing, removed: it can be written and read on, and leaves nothing."""
    data = bytearray(random.Random(size).randbytes(size))
    Path("written").write_bytes(data)
    with open("written", "r+b") as file:
        os.unlink("written")
        file.seek(size // 2)
        file.write(b"more")
        data[size // 2 : size // 2 + 4] = b"more"
        file.flush()
        os.fsync(file.fileno())
        file.seek(0)
        assert file.read() == data
        os.ftruncate(file.fileno(), 100)
        file.seek(0)
        assert file.read() == data[:100]
        os.fchmod(file.fileno(), 0o600)
        assert os.fstat(file.fileno()).st_size == 100
    assert not os.path.exists("written")


def read_what_is_written_and_removed(size: int) -> None:
    """Two have it open when it is removed; the writer goes on and ends, and the reader reads what it wrote."""
    data = bytearray(random.Random(size).randbytes(size))
    for name in ("never-closed", "closed-before"):
        if name == "closed-before":
            Path(name).write_bytes(bytes(size))
        with open(name, "ab") as writer, open(name, "rb") as reader:
            os.unlink(name)
            os.ftruncate(writer.fileno(), 0)
            writer.write(data)
            writer.close()
            for pause in (0.0, 1.0):  # before and after the end of the file is settled
                time.sleep(pause)
                os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
                reader.seek(0)
                assert reader.read() == data, name
                assert os.fstat(reader.fileno()).st_size == size
    assert os.listdir(".") == []


def remove_right_after_close(size: int, rounds: int) -> None:
    """Opened for reading and removed while the mount may still be busy with the end of the file."""
    for number in range(rounds):
        data = random.Random(number).randbytes(size)
        path = Path(f"file-{number}")
        path.write_bytes(data)
        with open(path, "rb") as file:
            first = file.read(1000)
            os.unlink(path)
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
            assert first + file.read() == data, number
            assert os.fstat(file.fileno()).st_size == size, number


def read_what_is_replaced(size: int) -> None:
    """A file that is renamed over an open one leaves that as it is."""
    old, new = random.Random(1).randbytes(size), random.Random(2).randbytes(size // 2)
    Path("replaced").write_bytes(old)
    Path("new").write_bytes(new)
    with open("replaced", "rb") as reader, open("replaced", "r+b") as writer:
        os.replace("new", "replaced")
        assert Path("replaced").read_bytes() == new
        os.posix_fadvise(reader.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert reader.read() == old
        writer.write(b"nowhere")
        writer.flush()
        reader.seek(0)
        assert reader.read() == b"nowhere" + old[7:]
    assert Path("replaced").read_bytes() == new
