"""The native engine over a real mount: what each system call sees. Readers are processes of their own."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.contract import shared_memory as shared
from fusecache.contract.errors import ANSWERS, ErrorKind
from fusecache.contract.shared_memory import U64, Counter
from fusecache.fuse.native.protocol import InitFlag
from tests.fuse.native_mount import NativeMount, native_mount
from tests.fuse.native_serve import BIG, FIRST_SMALL, LATE_BYTES, LATE_FILES, MANY, SMALL_BYTES, pattern, phase

pytestmark = [pytest.mark.fuse, pytest.mark.root]

# Every reader program starts with this: `expected` are the bytes that native_serve.py's rules give.
PRELUDE = """
import ctypes, errno, json, mmap, os, sys, time
from tests.fuse.native_serve import pattern, phase
whole = pattern()
def expected(inode, offset, size):
    out = b""
    while len(out) < size:
        at = phase(inode, offset + len(out))
        out += whole[at : at + min(size - len(out), 1 << 17)]
    return out
def outcome(call, *arguments):
    try:
        call(*arguments)
    except OSError as error:
        return errno.errorcode[error.errno]
    return "OK"
"""


@pytest.fixture(scope="module")
def mount(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NativeMount]:
    with native_mount(tmp_path_factory.mktemp("operations")) as mount:
        yield mount


def run(mount: NativeMount, code: str, *arguments: object) -> str:
    return mount.run_reader(PRELUDE + code, *arguments)


def test_init_is_negotiated_and_stored(mount: NativeMount) -> None:
    flags = InitFlag(U64.unpack_from(mount.memory, shared.H_INIT_FLAGS)[0])
    assert U64.unpack_from(mount.memory, shared.H_INIT_DONE)[0] == 1
    assert flags & InitFlag.MAX_PAGES
    assert flags & InitFlag.NO_OPEN_SUPPORT
    assert flags & InitFlag.PARALLEL_DIROPS
    assert not flags & (InitFlag.PASSTHROUGH | InitFlag.AUTO_INVAL_DATA | InitFlag.WRITEBACK_CACHE)
    assert U64.unpack_from(mount.memory, shared.H_INIT_MINOR)[0] >= 28


def test_stat_shows_the_attributes(mount: NativeMount) -> None:
    fields = json.loads(run(mount, "s = os.stat('small/00001'); print(json.dumps([*s[:7], s.st_mtime_ns, s.st_blocks]))"))
    assert fields[0] == stat.S_IFREG | 0o444
    assert fields[1] == FIRST_SMALL + 1
    assert fields[3:] == [1, 7, 8, SMALL_BYTES, 1_700_000_000_123_456_789, 196]


def test_times_before_1970_survive(mount: NativeMount) -> None:
    assert run(mount, "print(os.stat('small').st_ctime_ns)").strip() == "-1500000000"


def test_statfs(mount: NativeMount) -> None:
    assert run(mount, "s = os.statvfs('.'); print(s.f_bsize, s.f_blocks, s.f_bfree, s.f_files, s.f_namemax)").split() == [
        "4096",
        "1000",
        "500",
        "20000",
        "255",
    ]


def test_readlink_and_following_it(mount: NativeMount) -> None:
    out = run(mount, f"print(os.readlink('link')); print(open('link', 'rb').read() == expected({FIRST_SMALL}, 0, {SMALL_BYTES}))")
    assert out.split() == ["small/00000", "True"]


def test_missing_names_and_long_names(mount: NativeMount) -> None:
    code = "print(outcome(os.stat, 'no'), outcome(os.stat, 'x' * 255), outcome(os.stat, 'x' * 256), outcome(os.stat, 'big/x'))"
    assert run(mount, code).split() == ["ENOENT", "ENOENT", "ENAMETOOLONG", "ENOTDIR"]


@pytest.mark.parametrize("size", [1, 4096, 131_072, 1_000_003, 1 << 20, 3_000_000])
def test_reads_of_any_size_are_right(mount: NativeMount, size: int) -> None:
    code = f"""
fd = os.open("big", os.O_RDONLY)
for offset in (0, 1, 4095, 999_999, (1 << 30) - {size}):
    assert os.pread(fd, {size}, offset) == expected({BIG}, offset, {size}), offset
"""
    run(mount, code)


def test_reads_at_and_past_the_end(mount: NativeMount) -> None:
    code = """
fd = os.open("small/00002", os.O_RDONLY)
print(len(os.pread(fd, 4096, 99_999)), len(os.pread(fd, 4096, 100_000)), len(os.pread(fd, 4096, 1 << 40)),
      len(os.pread(fd, 1, 2**63 - 1 - 4096)), os.lseek(fd, 0, os.SEEK_END), os.lseek(fd, 10**12, os.SEEK_SET), len(os.read(fd,
      10)), outcome(os.pread, fd, 1, 2**63 - 1))
"""
    # The last one: the kernel itself refuses a range that ends past 2^63 - 1, on every file system; ours must not be worse.
    assert run(mount, code).split() in (
        ["1", "0", "0", "0", "100000", "1000000000000", "0", "OK"],
        ["1", "0", "0", "0", "100000", "1000000000000", "0", "EINVAL"],
    )


def test_seek_data_and_hole(mount: NativeMount) -> None:
    code = "fd = os.open('small/00002', os.O_RDONLY); print(os.lseek(fd, 5, os.SEEK_DATA), os.lseek(fd, 5, os.SEEK_HOLE))"
    assert run(mount, code).split() == ["5", "100000"]


def test_mmap_shared_and_executable(mount: NativeMount) -> None:
    code = f"""
fd = os.open("big", os.O_RDONLY)
for protection in (mmap.PROT_READ, mmap.PROT_READ | mmap.PROT_EXEC):
    view = mmap.mmap(fd, 1 << 22, mmap.MAP_SHARED, protection)
    assert view[:] == expected({BIG}, 0, 1 << 22)
    assert view[4096:4100] == expected({BIG}, 4096, 4)
"""
    run(mount, code)


def test_direct_reads(mount: NativeMount) -> None:
    code = f"""
fd = os.open("big", os.O_RDONLY | os.O_DIRECT)
buffer = mmap.mmap(-1, 1 << 21)
for offset in (0, 4096, 123 * 4096, (1 << 30) - (1 << 20)):
    count = os.preadv(fd, [buffer], offset)
    assert count == min(1 << 21, (1 << 30) - offset), count
    assert buffer[:count] == expected({BIG}, offset, count)
"""
    run(mount, code)


def test_sendfile(mount: NativeMount) -> None:
    code = f"""
out = os.memfd_create("out")
fd = os.open("small/00003", os.O_RDONLY)
sent = 0
while count := os.sendfile(out, fd, None, 1 << 20):
    sent += count
assert os.pread(out, sent, 0) == expected({FIRST_SMALL + 3}, 0, {SMALL_BYTES})
"""
    run(mount, code)


def test_small_files_are_their_own(mount: NativeMount) -> None:
    code = f"""
for index in range(0, 10_000, 97):
    with open(f"small/{{index:05}}", "rb") as file:
        assert file.read() == expected({FIRST_SMALL} + index, 0, {SMALL_BYTES}), index
"""
    run(mount, code)


@pytest.mark.alone
def test_open_is_asked_once_and_never_again(tmp_path: Path) -> None:
    """Open-less: a thousand opens cost LOOKUP and READ each, and one OPEN in all."""
    with native_mount(tmp_path) as mount:
        run(mount, "for k in range(1000): os.read(os.open(f'small/{k:05}', os.O_RDONLY), 1) if k % 200 else time.sleep(0)")
        requests = mount.counter(Counter.REQUESTS)
        assert mount.counter(Counter.HITS) == 995
        assert requests < 995 * 2 + 50, requests


@pytest.mark.alone
def test_open_mode_without_passthrough_keeps_pages(tmp_path: Path) -> None:
    with native_mount(tmp_path, access=shared.ACCESS_PASSTHROUGH) as mount:
        code = f"assert open('small/00001', 'rb').read() == expected({FIRST_SMALL + 1}, 0, {SMALL_BYTES})"
        run(mount, code)
        hit_bytes = mount.counter(Counter.HIT_BYTES)
        run(mount, code)
        assert mount.counter(Counter.HIT_BYTES) == hit_bytes == SMALL_BYTES


@contextlib.contextmanager
def passthrough_mount(tmp_path: Path) -> Iterator[NativeMount]:
    """`big` is a sparse container of zeros here, unlike what serve itself would answer; `small` stays with serve."""
    container = tmp_path / "container"
    container.touch()
    os.truncate(container, 1 << 30)
    settings = {"passthrough": True}
    with native_mount(tmp_path, access=shared.ACCESS_PASSTHROUGH, container=str(container), settings=settings) as mount:
        if not U64.unpack_from(mount.memory, shared.H_INIT_FLAGS)[0] & InitFlag.PASSTHROUGH:
            pytest.skip("passthrough needs Linux 6.9")
        yield mount


@pytest.mark.alone
def test_passthrough_reads_the_container_and_lets_it_go(tmp_path: Path) -> None:
    with passthrough_mount(tmp_path) as mount:
        code = f"""
first, second = os.open("big", os.O_RDONLY), os.open("big", os.O_RDONLY)
assert os.pread(first, 4096, 1 << 20) == os.pread(second, 4096, 1 << 21) == bytes(4096)
os.close(first)
assert os.pread(second, 1 << 20, 0) == bytes(1 << 20)
assert open("small/00001", "rb").read() == expected({FIRST_SMALL + 1}, 0, {SMALL_BYTES})
"""
        for _ in range(2):
            run(mount, code)
            pipe = mount.processes[0].stdout
            assert pipe is not None
            assert pipe.readline() == b"closed\n"
        assert mount.counter(Counter.HIT_BYTES) == SMALL_BYTES  # the second time from the page cache
        assert mount.counter(Counter.PASSTHROUGH_OPENS) == 2 * 2


@pytest.mark.alone
def test_an_advice_about_a_passthrough_file_costs_nothing(tmp_path: Path) -> None:
    """pyarrow announces all that it will read; the kernel asked for it, and kept it in pages that nobody looked at."""
    with passthrough_mount(tmp_path) as mount:
        code = """
first = os.open("big", os.O_RDONLY)
os.posix_fadvise(first, 0, 8 << 20, os.POSIX_FADV_WILLNEED)
assert os.pread(first, 8 << 20, 0) == bytes(8 << 20)
mapped = mmap.mmap(first, 8 << 20, mmap.MAP_SHARED, mmap.PROT_READ)
mapped.madvise(mmap.MADV_WILLNEED)
assert mapped[:] == bytes(8 << 20)
"""
        run(mount, code)
        assert mount.counter(Counter.HIT_BYTES) == mount.counter(Counter.READ_ERRORS) == 0


@pytest.mark.parametrize("plus", [False, True])
def test_every_name_once_and_offsets_are_stable(mount: NativeMount, plus: bool) -> None:
    """With `plus` each entry is also examined, which makes the kernel change to READDIRPLUS."""
    code = f"""
libc = ctypes.CDLL(None, use_errno=True)
libc.opendir.restype = libc.readdir.restype = ctypes.c_void_p
libc.telldir.restype = ctypes.c_long
libc.telldir.argtypes = libc.readdir.argtypes = [ctypes.c_void_p]
libc.seekdir.argtypes = [ctypes.c_void_p, ctypes.c_long]
directory = libc.opendir(b"many")
def following():
    entry = libc.readdir(directory)
    if not entry:
        return None
    name = ctypes.string_at(entry + 19)
    if {plus}:
        os.lstat(b"many/" + name) if name in (b".", b"..") else outcome(os.lstat, b"many/" + name)
    return name
seen = []
while True:
    place = libc.telldir(directory)
    name = following()
    if name is None:
        break
    seen.append((place, name))
assert len(seen) == len(set(seen)) == {MANY} + 2, len(seen)
assert [name for _, name in seen[:2]] == [b".", b".."]
assert [name for _, name in seen[2:]] == [b"%d-" % k + b"x" * (k % 240) for k in range({MANY})]
for place, name in seen[:: 271]:
    libc.seekdir(directory, place)
    assert following() == name
"""
    run(mount, code)


def test_walking_uses_readdirplus_entries(tmp_path: Path) -> None:
    """Examining 10,000 listed files costs far fewer than 10,000 LOOKUPs."""
    with native_mount(tmp_path) as mount:
        run(mount, "assert sum(e.stat().st_size for e in os.scandir('small')) == 10_000 * 100_000")
        assert mount.counter(Counter.REQUESTS) < 2000


def test_xattr(mount: NativeMount) -> None:
    code = """
name = "user.fusecache.version"
print(os.getxattr("big", name).decode(), outcome(os.getxattr, "big", "user.other"), ",".join(os.listxattr("big")))
libc = ctypes.CDLL(None, use_errno=True)
print(libc.getxattr(b"big", name.encode(), None, 0), libc.getxattr(b"big", name.encode(), ctypes.create_string_buffer(2), 2),
      errno.errorcode[ctypes.get_errno()], libc.listxattr(b"big", None, 0), libc.listxattr(b"big", ctypes.create_string_buffer(9),
      9), errno.errorcode[ctypes.get_errno()])
"""
    assert run(mount, code).split() == [
        *(f"v{BIG}", "ENODATA", "user.fusecache.version,user.fusecache.source"),
        *("3", "-1", "ERANGE", str(len("user.fusecache.version") * 2 + 1), "-1", "ERANGE"),
    ]


MUTATIONS = {
    "open for writing": "os.open('big', os.O_WRONLY)",
    "open and truncate": "os.open('big', os.O_RDWR | os.O_TRUNC)",
    "create": "os.open('new', os.O_CREAT | os.O_WRONLY)",
    "truncate": "os.truncate('big', 0)",
    "chmod": "os.chmod('big', 0o777)",
    "chown": "os.chown('big', 1, 1)",
    "utime": "os.utime('big')",
    "unlink": "os.unlink('big')",
    "mkdir": "os.mkdir('new')",
    "rmdir": "os.rmdir('small')",
    "rename": "os.rename('big', 'new')",
    "link": "os.link('big', 'new')",
    "symlink": "os.symlink('big', 'new')",
    "mknod": "os.mknod('new')",
    "setxattr": "os.setxattr('big', 'user.x', b'1')",
    "removexattr": "os.removexattr('big', 'user.fusecache.version')",
}


@pytest.mark.parametrize("read_only", [True, False], ids=["MS_RDONLY", "the engine alone"])
def test_every_mutation_is_erofs(tmp_path: Path, read_only: bool) -> None:
    with native_mount(tmp_path, read_only=read_only) as mount:
        calls = "".join(f"print(outcome(lambda: {call}))\n" for call in MUTATIONS.values())
        answers = dict(zip(MUTATIONS, run(mount, calls).split(), strict=True))
        assert answers == dict.fromkeys(MUTATIONS, "EROFS")


def test_every_error_kind_has_its_errno(mount: NativeMount) -> None:
    code = "".join(
        f"print(outcome(os.pread, os.open('errors/{kind.name}', os.O_RDONLY | os.O_DIRECT), 4096, 0))\n"
        for kind in ErrorKind
        if kind is not ErrorKind.INTERRUPTED
    )
    before = mount.counter(Counter.READ_ERRORS)
    prelude = "import mmap\nos.pread = lambda fd, size, at: os.preadv(fd, [mmap.mmap(-1, size)], at)\n"
    answers = run(mount, prelude + code).split()
    assert answers == [errno.errorcode[ANSWERS[kind].errno] for kind in ErrorKind if kind is not ErrorKind.INTERRUPTED]
    assert mount.counter(Counter.READ_ERRORS) - before == len(answers)


def test_a_defect_is_eio_and_the_session_goes_on(mount: NativeMount) -> None:
    code = "print(outcome(lambda: open('defect', 'rb').read()), len(open('small/00009', 'rb').read()))"
    assert run(mount, code).split() == ["EIO", str(SMALL_BYTES)]


def test_ioctl_access_and_fsync(mount: NativeMount) -> None:
    code = """
import fcntl
fd = os.open("small/00001", os.O_RDONLY)
print(outcome(fcntl.ioctl, fd, 0x12345678), os.access("big", os.R_OK), os.access("big", os.W_OK), outcome(os.fsync, fd))
"""
    assert run(mount, code).split() == ["ENOTTY", "True", "False", "OK"]


def test_invalidations_reach_the_kernel(tmp_path: Path) -> None:
    """Names and listings are kept for an hour; a change shows at once because the kernel is told."""
    code = """
def look(): return os.stat("changing").st_ino, len(os.listdir("growing"))
first = look()
for _ in range(200):
    assert look() == first
print("looked", flush=True)
deadline = time.monotonic() + 10
while look() != (first[0] + 1, first[1] + 1):
    assert time.monotonic() < deadline, (first, look())
    time.sleep(0.01)
"""
    with native_mount(tmp_path) as mount:
        reader = mount.spawn_reader("-c", PRELUDE + code)
        assert reader.stdout is not None
        assert reader.stdout.readline() == b"looked\n"
        assert mount.counter(Counter.REQUESTS) < 2 * 200 + 100  # kept: a round costs OPENDIR and RELEASEDIR only
        mount.processes[0].send_signal(signal.SIGUSR1)
        assert reader.wait(20) == 0


def test_misses_are_answered_late(mount: NativeMount) -> None:
    code = f"""
import threading
wrong = []
def read(index):
    with open(f"late/{{index:02}}", "rb") as file:
        if file.read() != expected(1000 + index, 0, {LATE_BYTES}):
            wrong.append(index)
threads = [threading.Thread(target=read, args=(index,)) for index in range({LATE_FILES})]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(wrong)
"""
    assert run(mount, code).strip() == "[]"
    assert mount.counter(Counter.MISS_BYTES) >= LATE_FILES * LATE_BYTES


def test_bounced_and_refused_misses(mount: NativeMount) -> None:
    from tests.fuse.native_serve import BOUNCE

    code = f"""
fd = os.open("bounce", os.O_RDONLY)
assert os.pread(fd, 100_000, 4096) == expected({BOUNCE}, 4096, 100_000)
print(outcome(lambda: open("refused", "rb").read()))
"""
    assert run(mount, code).strip() in ("ETIMEDOUT", "EIO")  # buffered reads turn a failed page into EIO


def test_hits_go_on_while_the_table_is_full(tmp_path: Path) -> None:
    """40 stalled lookups, 8 entries: all wait, and other files are read at once."""
    with native_mount(tmp_path, table_entries=8) as mount:
        code = """
import subprocess
stuck = [subprocess.Popen([sys.executable, "-c", "import os; os.stat('never/lookup')"]) for _ in range(1)]
files = [f"late/{k:02}" for k in range(40)]
import threading
threads = [threading.Thread(target=os.stat, args=(name,)) for name in files]
for thread in threads: thread.start()
begin = time.monotonic()
for k in range(100):
    os.stat(f"small/{k:05}")
taken = time.monotonic() - begin
for thread in threads: thread.join()
for process in stuck: process.kill(); process.wait(5)
print(taken)
"""
        mount.kill()
        mount.config["late_seconds"] = 1.0
        mount.start()
        assert float(run(mount, code)) < 0.9


def test_pattern_tells_neighbours_apart() -> None:
    """The tests above would prove nothing if one file's bytes looked like another's."""
    once = pattern()
    pieces = {bytes(once[phase(inode, offset) :][:64]) for inode in range(BIG, BIG + 20) for offset in range(0, 1 << 20, 65536)}
    assert len(pieces) == 20 * 16
