"""Mounts that programs write to: what is written is in the store, whole, and is read back."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.tiers.stage import Stage
from tests.support.command_line import CommandLine
from tests.support.mounted import wait_until
from tests.support.plain_store import PlainStore
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with Seaweed() as store:
        yield store


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, disk_path: Path, seaweed: Seaweed) -> Iterator[PlainStore]:
    if request.param == "file":
        directory = disk_path / "source"
        directory.mkdir()
        store = PlainStore(f"file://{directory}", {})
    else:
        S3Bucket(seaweed.endpoint_url, "writing", ADMIN.access_key, ADMIN.secret_key).create().close()
        keys = {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key}
        store = PlainStore(f"s3://writing/{os.urandom(4).hex()}", {"endpoint_url": seaweed.endpoint_url, **keys})
    yield store
    store.close()


@pytest.fixture
def cli(disk_path: Path) -> Iterator[CommandLine]:
    keys = {"AWS_ACCESS_KEY_ID": ADMIN.access_key, "AWS_SECRET_ACCESS_KEY": ADMIN.secret_key}
    with CommandLine(disk_path, keys) as cli:
        yield cli


@pytest.fixture
def mount(cli: CommandLine, store: PlainStore, disk_path: Path) -> Path:
    options = [f"endpoint_url={store.options['endpoint_url']}"] if store.is_flat else []
    given = [word for option in options for word in ("-o", option)]
    made = cli.mount("--read-write", *given, store.url)
    assert made.returncode == 0, made.stderr
    return disk_path / "mnt"


@pytest.mark.parametrize("size", [0, 1, 4095, 3_000_000, 40_000_000])
def test_a_file_is_written_and_read(mount: Path, store: PlainStore, size: int) -> None:
    data = random.Random(size).randbytes(size)
    (mount / "file").write_bytes(data)
    assert store.read("file") == data
    assert (mount / "file").read_bytes() == data
    assert (mount / "file").stat().st_size == len(data)
    assert os.listdir(mount) == ["file"]


@pytest.mark.parametrize("size", [300_000, 40_000_000])
def test_a_file_is_changed_in_the_middle(mount: Path, store: PlainStore, size: int) -> None:
    chance = random.Random(size)
    data = bytearray(chance.randbytes(size))
    (mount / "file").write_bytes(data)
    with open(mount / "file", "r+b") as file:
        for offset, length in ((10, 5), (size // 2, 70_000), (size - 10, 100), (4096, 4096)):
            piece = chance.randbytes(length)
            file.seek(offset)
            file.write(piece)
            data[offset : offset + length] = piece
        file.flush()
        assert (mount / "file").read_bytes() == data
    assert store.read("file") == data
    assert (mount / "file").read_bytes() == data


def test_an_object_that_was_there_is_changed(mount: Path, store: PlainStore, cli: CommandLine) -> None:
    """Its bytes come out of the store, where they are needed, and not out of what was written here."""
    data = bytearray(random.Random(7).randbytes(20_000_000))
    (mount / "file").write_bytes(data)
    assert cli.run("drop", str(mount)).returncode == 0
    for round_ in range(3):
        with open(mount / "file", "r+b") as file:
            offset = 1_000_001 + 5_000_000 * round_
            file.seek(offset)
            file.write(b"changed")
            data[offset : offset + 7] = b"changed"
            file.flush()
            os.fsync(file.fileno())
            assert store.read("file") == data
            file.seek(offset + 100)
            file.write(b"again")
            data[offset + 100 : offset + 105] = b"again"
        assert store.read("file") == data
        assert (mount / "file").read_bytes() == data


def test_truncate_append_and_modes(mount: Path, store: PlainStore) -> None:
    path = mount / "file"
    path.write_bytes(b"0123456789")
    os.truncate(path, 4)
    assert store.read("file") == b"0123"
    with open(path, "ab") as file:
        file.write(b"more")
    assert store.read("file") == b"0123more"
    os.truncate(path, 10)
    assert store.read("file") == b"0123more\0\0"
    path.chmod(0o600)
    os.utime(path, ns=(10**18, 10**18))
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.stat().st_mtime_ns == 10**18
    assert path.read_bytes() == b"0123more\0\0"
    with open(path, "wb") as file:
        file.write(b"new")
    assert store.read("file") == b"new"
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600


def test_copies_by_the_kernel_and_files_without_a_name(mount: Path, store: PlainStore) -> None:
    data = random.Random(11).randbytes(300_000)
    (mount / "file").write_bytes(data)
    with open(mount / "file", "rb") as source, open(mount / "copy", "wb") as target:
        assert os.copy_file_range(source.fileno(), target.fileno(), len(data), 0, 5) == len(data)
    assert store.read("copy") == bytes(5) + data
    with pytest.raises(OSError) as caught:
        os.open(mount, os.O_RDWR | os.O_TMPFILE)
    assert caught.value.errno == errno.EOPNOTSUPP


def test_names(mount: Path, store: PlainStore) -> None:
    (mount / "dir" / "sub").mkdir(parents=True)
    (mount / "dir" / "one").write_bytes(b"1")
    with pytest.raises(FileExistsError):
        (mount / "dir").mkdir()
    with pytest.raises(FileExistsError):
        (mount / "dir" / "one").touch(exist_ok=False)
    (mount / "dir" / "one").rename(mount / "dir" / "two")
    assert store.names("dir") == {"two", "sub/"}
    (mount / "dir" / "sub" / "three").write_bytes(b"3")
    (mount / "dir" / "sub" / "three").replace(mount / "dir" / "two")
    assert store.read("dir/two") == b"3"
    assert (mount / "dir" / "two").read_bytes() == b"3"
    assert store.names("dir") == {"two", "sub/"}
    with pytest.raises(OSError, match="not empty"):
        (mount / "dir").rmdir()
    (mount / "dir").rename(mount / "moved")
    assert (mount / "moved" / "two").read_bytes() == b"3"
    assert store.names() == {"moved/"}
    (mount / "moved" / "two").unlink()
    assert store.names("moved") == {"sub/"}
    (mount / "moved" / "sub").rmdir()
    assert store.names() == {"moved/"}
    (mount / "moved").rmdir()
    assert store.names() == set()
    with pytest.raises(FileNotFoundError):
        (mount / "moved").stat()
    with pytest.raises(FileNotFoundError):
        (mount / "moved").rmdir()


def test_a_directory_replaces_only_an_empty_one(mount: Path, store: PlainStore) -> None:
    for path in ("from/one", "to/two"):
        (mount / path).parent.mkdir()
        (mount / path).write_bytes(path.encode())
    with pytest.raises(OSError, match="not empty"):
        (mount / "from").rename(mount / "to")
    assert (store.names("from"), store.names("to")) == ({"one"}, {"two"})
    (mount / "to" / "two").unlink()
    (mount / "from").rename(mount / "to")
    assert (store.names(), store.names("to")) == ({"to/"}, {"one"})
    assert (mount / "to" / "one").read_bytes() == b"from/one"


def test_attributes_that_are_set_right_after_a_close_stay(mount: Path) -> None:
    """What was uploaded takes the place of the file as it was written, a moment after it was closed."""
    for number in range(30):
        path = mount / f"file{number}"
        path.write_bytes(b"x")
        path.chmod(0o604)
        os.chown(path, 7, 8)
        os.utime(path, ns=(10**18, 10**18))
    time.sleep(0.3)
    for number in range(30):
        status = (mount / f"file{number}").stat()
        found = (status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_mtime_ns)
        assert found == (0o604, 7, 8, 10**18), f"file{number}"


def test_a_change_of_attributes_is_one_while_the_file_is_open(mount: Path) -> None:
    with open(mount / "file", "wb") as file:
        file.write(b"x")
        file.flush()
        before = (mount / "file").stat()
        time.sleep(0.01)
        (mount / "file").chmod(0o600)
        after = (mount / "file").stat()
        assert after.st_ctime_ns > before.st_ctime_ns
        assert after.st_mtime_ns == before.st_mtime_ns


def test_times_of_directories(mount: Path) -> None:
    (mount / "dir").mkdir()
    (mount / "other").mkdir()
    times = [(mount / "dir").stat().st_mtime_ns]
    for change in (
        lambda: (mount / "dir" / "file").touch(),
        lambda: (mount / "dir" / "file").rename(mount / "dir" / "file2"),
        lambda: (mount / "dir" / "sub").mkdir(),
        lambda: (mount / "dir" / "sub").rmdir(),
        lambda: (mount / "dir" / "file2").unlink(),
    ):
        time.sleep(0.01)
        change()
        times.append((mount / "dir").stat().st_mtime_ns)
    assert times == sorted(set(times)), "each change is seen"
    before = (mount / "dir").stat(), (mount / "other").stat()
    (mount / "dir" / "new").touch()
    (mount / "dir" / "new").rename(mount / "other" / "new")
    assert (mount / "dir").stat().st_mtime_ns > before[0].st_mtime_ns
    assert (mount / "other").stat().st_mtime_ns > before[1].st_mtime_ns


def test_a_new_owner_takes_the_set_user_id_bits(mount: Path) -> None:
    (mount / "program").write_bytes(b"x")
    (mount / "program").chmod(0o6755)
    os.chown(mount / "program", 7, 8)
    assert (mount / "program").stat().st_mode & 0o7777 == 0o755


def test_a_path_that_is_too_long_for_the_store(mount: Path, store: PlainStore) -> None:
    path = mount
    for _ in range(4):
        path = path / ("d" * 200)
        path.mkdir()
    path = path / ("d" * 230)
    if not store.is_flat:
        path.mkdir()
        return
    with pytest.raises(OSError) as caught:
        path.mkdir()
    assert caught.value.errno == errno.ENAMETOOLONG


def test_links(mount: Path, store: PlainStore) -> None:
    (mount / "file").write_bytes(b"x")
    with pytest.raises(PermissionError):
        os.link(mount / "file", mount / "other")
    if store.is_flat:
        with pytest.raises(PermissionError):
            os.symlink("target", mount / "link")
        return
    os.symlink("../target", mount / "link")
    assert os.readlink(mount / "link") == "../target"
    assert store.names() == {"file", "link"}


def test_what_is_written_after_fetch_died_goes_into_a_stage_of_its_own(
    mount: Path, store: PlainStore, cli: CommandLine, disk_path: Path
) -> None:
    """The successor began to count stages anew, and serve still had a removed one of that number open."""
    for round_ in range(4):
        pid = cli.status()["pids"]["fetch"]
        (mount / "before").write_bytes(b"old" * 1000)
        assert wait_until(lambda: not list(disk_path.glob("home/.cache/fusecache/*/stage/*")), 10.0, 0.005)
        os.kill(pid, signal.SIGKILL)
        data = random.Random(round_).randbytes(5000)
        (mount / "after").write_bytes(data)
        assert store.read("after") == (mount / "after").read_bytes() == data


def test_a_stage_that_was_done_with_is_no_loss(mount: Path, store: PlainStore, cli: CommandLine, disk_path: Path) -> None:
    """fetch died between the index and the removal of the stage; one without that mark is kept, as nobody knows its name."""
    if store.is_flat:
        pytest.skip("shown with a directory")
    (mount / "file").write_bytes(b"x")
    assert cli.run("umount", str(mount)).returncode == 0
    (directory,) = disk_path.glob("home/.cache/fusecache/*/stage")
    for name in ("77", "78"):
        with contextlib.closing(Stage.create(directory, name, 0)) as stage:
            stage.write(0, b"written")
    (directory / "77.done").touch()
    assert cli.mount("--read-write", store.url).returncode == 0
    assert wait_until(lambda: {file.name for file in directory.iterdir()} == {"78.data", "78.map"}, 10.0)


def test_write_a_temporary_file_and_rename(mount: Path, store: PlainStore) -> None:
    for round_ in range(5):
        data = os.urandom(100_000 + round_)
        with open(mount / "checkpoint.tmp", "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(mount / "checkpoint.tmp", mount / "checkpoint")
        assert store.read("checkpoint") == data
        assert (mount / "checkpoint").read_bytes() == data
        assert store.names() == {"checkpoint"}


def test_a_rename_of_an_open_file(mount: Path, store: PlainStore) -> None:
    with open(mount / "a", "wb") as file:
        file.write(b"before ")
        os.rename(mount / "a", mount / "b")
        file.write(b"and after")
    assert store.names() == {"b"}
    assert store.read("b") == (mount / "b").read_bytes() == b"before and after"


def test_an_unlinked_file_that_is_open(mount: Path, store: PlainStore) -> None:
    with open(mount / "file", "w+b") as file:
        file.write(b"hidden")
        file.flush()
        os.fsync(file.fileno())
        os.unlink(mount / "file")
        assert os.fstat(file.fileno()).st_nlink == 0
        file.seek(0)
        assert file.read() == b"hidden"
        file.write(b"more")
        file.flush()
        os.fchmod(file.fileno(), 0o600)
        os.utime(file.fileno(), ns=(10**18, 10**18))
        os.setxattr(file.fileno(), "user.x", b"1")
        assert os.fstat(file.fileno()).st_mode & 0o777 == 0o600
        assert os.fstat(file.fileno()).st_mtime_ns == 10**18
        assert os.getxattr(file.fileno(), "user.x") == b"1"
    assert store.names() == set()
    assert os.listdir(mount) == []


def test_many_small_files(mount: Path, store: PlainStore, cli: CommandLine, disk_path: Path) -> None:
    chance = random.Random(3)
    files = {f"dir{number % 5}/f{number}": chance.randbytes(chance.randrange(5000)) for number in range(200)}
    for path, data in files.items():
        (mount / path).parent.mkdir(exist_ok=True)
        (mount / path).write_bytes(data)
    for path, data in files.items():
        assert store.read(path) == data
        assert (mount / path).read_bytes() == data
    assert cli.status()["files"] == 200
    found = {str(path.relative_to(mount)) for path in mount.rglob("*") if path.is_file()}
    assert found == set(files)


def test_programs(mount: Path, store: PlainStore, disk_path: Path) -> None:
    tree = disk_path / "tree"
    (tree / "sub").mkdir(parents=True)
    for number in range(20):
        (tree / "sub" / f"{number}").write_bytes(os.urandom(1000 * number))
    for command in (
        ["cp", "-r", f"{tree}", f"{mount}/copied"],
        ["tar", "-C", f"{disk_path}", "-cf", f"{mount}/tree.tar", "tree"],
        ["tar", "-C", f"{mount}", "-xf", f"{mount}/tree.tar"],
        ["diff", "-r", f"{tree}", f"{mount}/copied"],
        ["diff", "-r", f"{tree}", f"{mount}/tree"],
        ["sed", "-i", "s/a/b/", f"{mount}/copied/sub/3"],
        ["dd", "if=/dev/zero", f"of={mount}/zeros", "bs=64k", "count=10", "conv=fsync", "status=none"],
        ["rm", "-r", f"{mount}/copied"],
    ):
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
        assert done.returncode == 0, (command, done.stderr)
    assert store.names() == {"tree.tar", "tree/", "zeros"}
    assert store.read("zeros") == bytes(655_360)


def test_what_a_store_refuses_is_said_at_close(mount: Path, store: PlainStore, disk_path: Path) -> None:
    if store.is_flat:
        pytest.skip("shown with a directory")
    file = open(mount / "file", "wb")  # noqa: SIM115
    file.write(b"x")
    (disk_path / "source" / "file").write_bytes(b"somebody else's")
    with pytest.raises(OSError) as caught:
        file.close()
    assert caught.value.errno == errno.ESTALE
    assert store.read("file") == b"somebody else's"


def test_a_source_that_may_only_be_read(cli: CommandLine, disk_path: Path) -> None:
    """Beside one that may be written, on the same mount."""
    for name in ("kept", "changed"):
        (disk_path / name).mkdir()
        (disk_path / name / "file").write_bytes(name.encode())
    sources = [f"file://{disk_path / 'changed'}=rw", f"file://{disk_path / 'kept'}=ro"]
    made = cli.mount("--read-write", "-o", "ro:read_only", *sources)
    assert made.returncode == 0, made.stderr
    mount = disk_path / "mnt"
    for change in (
        lambda: (mount / "ro" / "file").write_bytes(b"x"),
        lambda: (mount / "ro" / "new").touch(),
        lambda: (mount / "ro" / "file").unlink(),
        lambda: (mount / "ro" / "file").chmod(0o600),
        lambda: (mount / "ro" / "dir").mkdir(),
        lambda: (mount / "top").touch(),
    ):
        with pytest.raises(OSError, match="Read-only file system"):
            change()
    with pytest.raises(OSError, match="cross-device link"):
        (mount / "rw" / "file").rename(mount / "ro" / "file2")
    (mount / "rw" / "file").write_bytes(b"new")
    assert ((disk_path / "changed" / "file").read_bytes(), (mount / "ro" / "file").read_bytes()) == (b"new", b"kept")
    assert sorted(os.listdir(disk_path / "kept")) == ["file"]


def test_a_rename_whose_daemon_died_after_the_original_was_gone(mount: Path, store: PlainStore, cli: CommandLine) -> None:
    """It is asked for again, finds the original gone by its own first try, and is no error."""
    if not store.is_flat:
        pytest.skip("flat stores copy and delete")
    code = (
        "import os, sys, time\n"
        "for number in range(10_000):\n"
        "    with open('temporary', 'wb') as file:\n"
        "        file.write(b'%d' % number)\n"
        "    os.rename('temporary', 'file')\n"
        "    if open('file', 'rb').read() != b'%d' % number or os.path.exists('stop'):\n"
        "        sys.exit(not os.path.exists('stop'))\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=mount, stderr=subprocess.PIPE, text=True) as program:
        deadline = time.monotonic() + 8.0
        while time.monotonic() < deadline and program.poll() is None:
            pid = cli.status()["pids"]["fetch"]
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        (mount / "stop").touch()
        _, errors = program.communicate(timeout=30)
    assert program.returncode == 0, errors
