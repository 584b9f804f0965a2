"""What each system call answers on a mount, against a table, on both engines and in both access modes. A read-only bind mount of
the same files on the kernel's own file system has to agree with the table too: so the table is right."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import posix_probe
from tests.support.mounted import Mounted

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

SIZE = 3 * (1 << 20) + 17
LONG = "n" * 256
NO_PYFUSE3 = pytest.mark.skipif(importlib.util.find_spec("pyfuse3") is None, reason="pyfuse3 is not installed")

MUTATIONS = {
    "write": "os.open('f', os.O_WRONLY)",
    "read and write": "os.open('f', os.O_RDWR)",
    "append": "os.open('f', os.O_WRONLY | os.O_APPEND)",
    "truncate on open": "os.open('f', os.O_RDONLY | os.O_TRUNC)",
    "create": "os.open('new', os.O_CREAT | os.O_WRONLY)",
    "create for reading": "os.open('new', os.O_CREAT | os.O_RDONLY)",
    "temporary file": "os.open('.', os.O_TMPFILE | os.O_RDWR)",
    "unlink": "os.unlink('f')",
    "unlink nothing": "os.unlink('nothing')",
    "mkdir": "os.mkdir('new')",
    "rmdir": "os.rmdir('d')",
    "rename": "os.rename('f', 'g')",
    "rename over": "os.rename('f', 'empty')",
    "link": "os.link('f', 'g')",
    "symlink": "os.symlink('f', 'g')",
    "mknod": "os.mknod('new')",
    "mkfifo": "os.mkfifo('new')",
    "truncate": "os.truncate('f', 1)",
    "chmod": "os.chmod('f', 0o600)",
    "chown": "os.chown('f', 1, 1)",
    "lchown": "os.lchown('link', 1, 1)",
    "utime": "os.utime('f')",
    "setxattr": "os.setxattr('f', 'user.x', b'1')",
    "removexattr": "os.removexattr('f', 'user.x')",
    "may write": "os.access('f', os.W_OK) or os.open('f', os.O_WRONLY)",
}

TABLE = {
    **{f"{name}, which is a change": (expression, "EROFS") for name, expression in MUTATIONS.items()},
    "write to a descriptor for reading": ("with_open('f', 0, lambda fd: os.write(fd, b'x'))", "EBADF"),
    "ftruncate of a descriptor for reading": ("with_open('f', 0, lambda fd: os.ftruncate(fd, 0))", "EINVAL"),
    "fallocate of a descriptor for reading": ("with_open('f', 0, lambda fd: os.posix_fallocate(fd, 0, 9))", "EBADF"),
    "shared map for writing": ("map_file('f', mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)", "EACCES"),
    "create what is there": ("read('f', 0, 0, os.O_CREAT)", "= b''"),
    "create exclusively": ("os.open('f', os.O_CREAT | os.O_EXCL)", "EEXIST"),
    "mkdir of what is there": ("os.mkdir('d')", "EEXIST"),
    "fsync": ("with_open('f', 0, os.fsync)", "= None"),
    # lookups
    "nothing": ("os.stat('nothing')", "ENOENT"),
    "nothing below nothing": ("os.stat('nothing/x')", "ENOENT"),
    "empty path": ("os.stat('')", "ENOENT"),
    "file as a directory": ("os.stat('f/x')", "ENOTDIR"),
    "file with a slash": ("os.stat('f/')", "ENOTDIR"),
    "dot and dot dot": ("[os.stat(path).st_size for path in ('./f', 'd/../f', 'd/./../f')]", f"= {[SIZE] * 3}"),
    "loop": ("os.open('loop', os.O_RDONLY)", "ELOOP"),
    "long name": (f"os.stat('{LONG}')", "ENAMETOOLONG"),
    "longest name": (f"os.stat('{LONG[1:]}')", "ENOENT"),
    "long path": ("os.stat('d/' * 2500)", "ENAMETOOLONG"),
    "dangling link": ("os.stat('dangling')", "ENOENT"),
    "dangling link itself": ("stat.S_ISLNK(os.lstat('dangling').st_mode)", "= True"),
    "read a directory": ("read('d', 1, 0)", "EISDIR"),
    "write a directory": ("os.open('d', os.O_WRONLY)", "EISDIR"),
    "list a file": ("os.listdir('f')", "ENOTDIR"),
    "file as O_DIRECTORY": ("os.open('f', os.O_RDONLY | os.O_DIRECTORY)", "ENOTDIR"),
    "link as O_NOFOLLOW": ("os.open('link', os.O_RDONLY | os.O_NOFOLLOW)", "ELOOP"),
    "readlink of a file": ("os.readlink('f')", "EINVAL"),
    "readlink": ("[os.readlink(path) for path in ('link', 'dangling', 'abroad')]", "= ['f', 'nothing', '/etc/hostname']"),
    "read through a link": ("read('link', 4, 1 << 20) == read('f', 4, 1 << 20) != b''", "= True"),
    "read abroad through a link": ("os.stat('abroad').st_ino == os.stat('/etc/hostname').st_ino", "= True"),
    "hard link": ("read('hard', 9, 70000) == read('f', 9, 70000) != b''", "= True"),
    "attributes": ("[same_as_truth(path, truth) for path in ('f', 'd', 'link', 'program', 'private', 'hard')]", f"= {[[]] * 6}"),
    "kinds": ("[stat.filemode(os.lstat(path).st_mode)[0] for path in ('f', 'd', 'link')]", "= ['-', 'd', 'l']"),
    "may read": ("[os.access(path, os.R_OK) for path in ('f', 'd', 'private', 'nothing')]", "= [True, True, True, False]"),
    "may run": ("[os.access(path, os.X_OK) for path in ('f', 'd', 'program')]", "= [False, True, True]"),
    "run": ("subprocess.run(['./program'], timeout=20).returncode", "= 0"),
    "run what is no program": ("subprocess.run(['./f'], timeout=20)", "EACCES"),
    # reading
    "read to the end": (f"len(read('f', 9, {SIZE} - 5))", "= 5"),
    "read at the end": (f"read('f', 9, {SIZE})", "= b''"),
    "read past the end": (f"read('f', 9, {SIZE} + (1 << 40))", "= b''"),
    "read nothing": ("read('f', 0, 0)", "= b''"),
    "read an empty file": ("read('empty', 9, 0)", "= b''"),
    "read at a negative offset": ("read('f', 1, -1)", "EINVAL"),
    "read one byte before 2^63": ("read('f', 1, (1 << 63) - 2)", "= b''"),
    "read at 2^63-1": ("read('f', 1, (1 << 63) - 1)", "EINVAL"),
    "seek to the end": ("seek('f', 0, os.SEEK_END)", f"= {SIZE}"),
    "seek past the end, read": (f"read_after_seek('f', {SIZE} + 10, os.SEEK_SET)", f"= ({SIZE + 10}, b'')"),
    "seek before the start": ("seek('f', -1, os.SEEK_SET)", "EINVAL"),
    "seek with nonsense": ("seek('f', 0, 99)", "EINVAL"),
    "seek data": ("seek('f', 5, os.SEEK_DATA)", "= 5"),
    "seek hole": ("seek('f', 5, os.SEEK_HOLE)", f"= {SIZE}"),
    "seek data past the end": (f"seek('f', {SIZE}, os.SEEK_DATA)", "ENXIO"),
    "direct": ("read_direct('f', 1 << 20, 4096) == read('f', 1 << 20, 4096)", "= True"),
    "direct at the end": ("len(read_direct('f', 1 << 20, 3 << 20))", "= 17"),
    "direct past the end": ("read_direct('f', 4096, 8 << 20)", "= b''"),
    "map shared": (f"map_file('f', mmap.MAP_SHARED, mmap.PROT_READ) == read('f', 5, {SIZE} - 5)", "= True"),
    "map private": (f"map_file('f', mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE) == read('f', 5, {SIZE} - 5)", "= True"),
    "map to run": ("map_file('program', mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_EXEC) != b''", "= True"),
    "private map changed nothing": ("read('f', 1, 0) == open(truth + '/f', 'rb').read(1)", "= True"),
    "sendfile": ("send_file('f', 2 << 20, 12345) == read('f', 2 << 20, 12345)", "= True"),
    "splice": ("splice('f', 300000, 12345) == read('f', 300000, 12345)", "= True"),
    "poll and fadvise": ("with_open('f', 0, lambda fd: os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_WILLNEED))", "= None"),
    # listings
    "list": ("sorted(os.listdir('d')) == sorted(f'{number:03}-{\"x\" * (number % 60)}' for number in range(500))", "= True"),
    "list in small steps": ("list_in_steps('d', 300)", "= True"),
    "list the root": ("list_in_steps('.', 300)", "= True"),
    "list an empty directory": ("os.listdir('hollow')", "= []"),
    # the file system
    "statfs": ("(lambda s: (s.f_namemax, bool(s.f_flag & os.ST_RDONLY), s.f_blocks > 0, s.f_bsize > 0))(os.statvfs('.'))",
               "= (255, True, True, True)"),
}  # fmt: skip

OURS = {
    "version": ("len(os.getxattr('f', 'user.fusecache.version')) > 0", "= True"),
    "source": ("os.getxattr('f', 'user.fusecache.source').startswith(b'file:///')", "= True"),
    "cached bytes": ("int(os.getxattr('f', 'user.fusecache.cached_bytes')) >= 0", "= True"),
    "all of them": (
        "{'user.fusecache.version', 'user.fusecache.source', 'user.fusecache.cached_bytes'} <= set(os.listxattr('f'))",
        "= True",
    ),
    "no such attribute": ("os.getxattr('f', 'user.nothing')", "ENODATA"),
    "too small a place": ("posix_getxattr('f', b'user.fusecache.source', 1)", "ERANGE"),
    "mounted nosuid, nodev": ("bool(os.statvfs('.').f_flag & os.ST_NOSUID and os.statvfs('.').f_flag & os.ST_NODEV)", "= True"),
}


@pytest.fixture
def truth(disk_path: Path) -> Path:
    """On the same kind of file system that a user's files are on; `f` must not have holes."""
    truth = disk_path / "truth"
    truth.mkdir()
    (truth / "f").write_bytes(os.urandom(SIZE))
    os.link(truth / "f", truth / "hard")
    (truth / "empty").touch()
    (truth / "hollow").mkdir()
    (truth / "d").mkdir()
    for number in range(500):
        (truth / "d" / f"{number:03}-{'x' * (number % 60)}").touch()
    for name, target in {"link": "f", "dangling": "nothing", "loop": "loop", "abroad": "/etc/hostname"}.items():
        (truth / name).symlink_to(target)
    shutil.copy("/bin/true", truth / "program")
    (truth / "program").chmod(0o755)
    (truth / "private").write_text("x")
    (truth / "private").chmod(0o640)
    os.chown(truth / "private", 7, 8)
    return truth


def differences(directory: Path, truth: Path, table: dict[str, tuple[str, str]]) -> list[str]:
    """Return a line for each question that is not answered as the table says."""
    source = posix_probe.program({name: expression for name, (expression, _) in table.items()})
    asked = subprocess.run(
        ["timeout", "-s", "KILL", "90", sys.executable, "-c", source, str(directory), str(truth)],
        env={**os.environ, "PYTHONPATH": os.path.dirname(posix_probe.__file__)},
        capture_output=True,
        text=True,
    )
    assert asked.returncode == 0, asked.stderr
    answers = json.loads(asked.stdout)
    return [f"{name}: {answers[name]}, not {wanted}" for name, (_, wanted) in table.items() if answers[name] != wanted]


@contextlib.contextmanager
def bound_read_only(source: Path, place: Path) -> Iterator[Path]:
    place.mkdir()
    subprocess.run(["mount", "--bind", str(source), str(place)], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,bind,ro", str(place)], check=True)
        yield place
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


def test_the_table_is_right(disk_path: Path, truth: Path) -> None:
    with bound_read_only(truth, disk_path / "reference") as reference:
        assert differences(reference, truth, TABLE) == []


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--access", "openless"), id="native-openless"),
        pytest.param(("--access", "passthrough"), id="native-passthrough"),
        pytest.param(("--engine", "pyfuse3"), id="pyfuse3", marks=NO_PYFUSE3),
    ],
)
@pytest.mark.parametrize("state", ["cold", "warm"])
def test_mount_answers_as_the_table_says(disk_path: Path, truth: Path, arguments: tuple[str, ...], state: str) -> None:
    with Mounted(disk_path, [f"file://{truth}"], arguments=arguments) as mounted:
        if state == "warm":
            mounted.run("warm", str(mounted.mountpoint))
        assert differences(mounted.mountpoint, truth, {**TABLE, **OURS}) == []
        assert differences(mounted.mountpoint, truth, {**TABLE, **OURS}) == [], "the second time"
        assert mounted.status()["errors"] == 0
