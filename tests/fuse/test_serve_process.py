"""Whole serve processes over real mounts, with both engines: hits, misses, damage, deaths, and how the process ends."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fusecache.contract import run_files
from fusecache.contract.errors import ErrorKind
from fusecache.contract.messages import Answer, Op
from fusecache.contract.mount_spec import Engine
from fusecache.contract.process import ExitCode
from fusecache.contract.shared_memory import ACCESS_PASSTHROUGH, Counter
from fusecache.index.inodes import InodeFlag
from tests.fuse.serve_mount import ServeMount, serve_mount
from tests.support.cache_builder import content
from tests.support.dead_readers import can_read, fill_table_of_readers
from tests.support.mounted import wait_until
from tests.support.other_namespaces import copied_namespace, unmount_everywhere

pytestmark = [pytest.mark.fuse, pytest.mark.root]

READY = 15
HAS_PYFUSE3 = importlib.util.find_spec("pyfuse3") is not None
ENGINES = [
    pytest.param(Engine.NATIVE, id="native"),
    pytest.param(Engine.PYFUSE3, id="pyfuse3", marks=pytest.mark.skipif(not HAS_PYFUSE3, reason="pyfuse3 is not installed")),
]

HASH = "import hashlib,sys; print(hashlib.sha256(open(sys.argv[1],'rb').read()).hexdigest())"
ERRNO = """
import errno, os, sys
try:
    print((EXPRESSION))
except OSError as error:
    print(errno.errorcode[error.errno])
"""


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@pytest.fixture(params=ENGINES)
def mount(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServeMount]:
    with serve_mount(tmp_path, request.param) as made:
        yield made


def test_hits(mount: ServeMount) -> None:
    big = mount.cache.file(1, b"big", content("big", 5_000_001), tier=1)
    directory = mount.cache.directory(1, b"d")
    small = mount.cache.file(directory, b"small", content("small", 1000))
    mount.cache.file(directory, b"empty", b"")
    mount.cache.symlink(1, b"link", b"d/small")
    mount.start()
    assert mount.run_reader(HASH, "big").strip() == sha(big.data)
    assert mount.run_reader(HASH, "link").strip() == sha(small.data)
    assert mount.run_reader(HASH, "d/empty").strip() == sha(b"")
    assert mount.run_reader("import os; print(sorted(os.listdir('.')), sorted(os.listdir('d')))").split("\n")[0] == (
        "['big', 'd', 'link'] ['empty', 'small']"
    )
    assert not [request for request in mount.fetch.asked if request.token]
    assert mount.counter(Counter.HIT_BYTES) >= 5_001_001
    assert mount.counter(Counter.MISS_BYTES) == 0


def test_misses(mount: ServeMount) -> None:
    file = mount.cache.file(1, b"f", content("f", 3_000_000), cached=False)
    mount.fetch.files[file.inode] = file
    mount.start()
    assert mount.run_reader(HASH, "f").strip() == sha(file.data)
    reads = [request for request in mount.fetch.asked if request.op is Op.READ]
    assert reads
    for _ in range(100):  # DONE follows the reply
        if {request.token for request in mount.fetch.asked if request.op is Op.DONE} == {request.token for request in reads}:
            break
        time.sleep(0.02)
    assert {request.token for request in mount.fetch.asked if request.op is Op.DONE} == {request.token for request in reads}
    assert mount.counter(Counter.MISS_BYTES) > 0
    assert mount.counter(Counter.READ_ERRORS) == 0


def test_bounced_reads(mount: ServeMount) -> None:
    file = mount.cache.file(1, b"f", content("f", 100_000), cached=False)
    mount.fetch.files[file.inode] = file
    mount.fetch.bounced.add(file.inode)
    mount.start()
    code = """
import mmap, os
buffer = mmap.mmap(-1, 65536)
print(os.preadv(os.open('f', os.O_RDONLY | os.O_DIRECT), [buffer], 4096), buffer[:5].hex())
"""
    assert mount.run_reader(code).split() == ["65536", file.data[4096:4101].hex()]
    assert mount.run_reader(HASH, "f").strip() == sha(file.data)


def test_damage_is_fetched_again(mount: ServeMount) -> None:
    file = mount.cache.file(1, b"f", content("f", 3_000_000))
    mount.fetch.files[file.inode] = file
    for block in range(3):
        mount.cache.damage(file.inode, 1000, block)
    mount.start()
    assert mount.run_reader(HASH, "f").strip() == sha(file.data)
    assert mount.counter(Counter.CHECKSUM_FAILURES) == 3
    assert len([request for request in mount.fetch.asked if request.op is Op.DAMAGED]) == 3


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("os.stat('nothing')", "ENOENT"),
        ("os.stat('x' * 256)", "ENAMETOOLONG"),
        ("os.stat('f/below')", "ENOTDIR"),
        ("os.open('f', os.O_WRONLY)", "EROFS"),
        ("os.open('f', os.O_RDWR)", "EROFS"),
        ("os.open('new', os.O_CREAT | os.O_RDWR)", "EROFS"),
        ("os.mkdir('new')", "EROFS"),
        ("os.unlink('f')", "EROFS"),
        ("os.rename('f', 'g')", "EROFS"),
        ("os.chmod('f', 0o777)", "EROFS"),
        ("os.listdir('f')", "ENOTDIR"),
        ("os.read(os.open('.', os.O_RDONLY), 1)", "EISDIR"),
        ("os.readlink('f')", "EINVAL"),
        ("os.getxattr('f', 'user.fusecache.version')", "b'etag'"),
        ("os.getxattr('f', 'user.other')", "ENODATA"),
        ("sorted(os.listxattr('f'))", "['user.fusecache.cached_bytes', 'user.fusecache.source', 'user.fusecache.version']"),
        ("oct(os.stat('f').st_mode), oct(os.stat('.').st_mode)", "('0o100444', '0o40555')"),
        ("os.stat('f').st_mtime_ns", "1700000000123456789"),
        ("os.pread(os.open('f', os.O_RDONLY), 10, 2**63 - 1 - 10)", "b''"),
        ("os.statvfs('.').f_namemax", "255"),
        ("os.open('refused', os.O_RDONLY) >= 0 and open('refused', 'rb').read()", "ETIMEDOUT"),
    ],
)
def test_errno_table(shared_mount: ServeMount, expression: str, expected: str) -> None:
    assert shared_mount.run_reader(ERRNO.replace("EXPRESSION", expression)).strip() == expected


@pytest.fixture(scope="module", params=ENGINES)
def shared_mount(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServeMount]:
    with serve_mount(tmp_path_factory.mktemp("serve"), request.param, ttl_seconds=3600.0) as made:
        made.cache.file(1, b"f", content("f", 1000))
        refused = made.cache.file(1, b"refused", content("refused", 1000), cached=False)
        made.fetch.refused[refused.inode] = ErrorKind.TIMEOUT
        made.start()
        assert wait_until(lambda: made.fetch.is_connected, 20.0)  # else its thread is one that the first test left
        yield made


@pytest.mark.parametrize("ends", ["with an answer", "with its reader"])
@pytest.mark.parametrize("engine", ENGINES)
def test_a_question_that_ended_says_nothing_to_the_next_reader(tmp_path: Path, engine: Engine, ends: str) -> None:
    """Neither ENOENT, which is told without looking again, nor a killed reader may leave a question behind: whoever comes after
    the TTL would be answered out of the listing that began just after it."""
    ttl = 0.5
    with serve_mount(tmp_path, engine, ttl_seconds=ttl, negative_ttl_seconds=0.0) as mount:
        exists = False
        original = mount.fetch._answer

        def answer(request: Any) -> Answer:
            if request.op is not Op.LOOKUP:
                return original(request)
            if exists:
                mount.cache.file(1, b"new", content("new", 1000))
            mount.cache.change_directory(1, listed_at=time.time())
            return Answer(Op.ANSWER, request.token, 0 if exists else ErrorKind.NOT_FOUND)

        mount.fetch._answer = answer  # type: ignore[method-assign]
        mount.start()
        mount.cache.change_directory(1, listed_at=time.time() - 10)
        if ends == "with an answer":
            assert mount.run_reader(ERRNO.replace("EXPRESSION", "os.stat('new')")).strip() == "ENOENT"
        else:
            if engine is Engine.PYFUSE3:
                pytest.skip("libfuse passes no interrupts on: a killed reader waits for the answer")
            mount.fetch.frozen.set()
            reader = mount.spawn_reader("-c", "import os; os.stat('new')")
            while not any(request.op is Op.LOOKUP for request in mount.fetch.asked):
                time.sleep(0.01)
            reader.kill()
            reader.wait()
            mount.fetch.frozen.clear()
        time.sleep(ttl + 0.2)
        exists = True
        assert mount.run_reader(ERRNO.replace("EXPRESSION", "os.stat('new').st_size")).strip() == "1000"


def test_serve_clears_the_table_of_readers(mount: ServeMount) -> None:
    """A fetch that filled it and died was replaced by one that could not open the index: readers waited for ever."""
    mount.start()
    index = mount.cache.index.env.path
    fill_table_of_readers(index)
    assert wait_until(lambda: can_read(index), 10, step=0.5)


def test_a_listing_with_inexact_entries(mount: ServeMount) -> None:
    directory = mount.cache.directory(1, b"d")
    files = [mount.cache.file(directory, b"%03d" % number, content(str(number), 50)) for number in range(100)]
    inexact = mount.cache.file(directory, b"inexact", content("i", 70), flags=InodeFlag.NEEDS_STAT)

    original = mount.fetch._answer

    def answer(request: Any) -> Answer:
        if request.op is Op.ATTRIBUTES:
            mount.cache.change_inode(inexact.inode, flags=0)
        return original(request)

    mount.fetch._answer = answer  # type: ignore[method-assign]
    mount.start()
    listed = mount.run_reader("import os; print({e.name: e.stat().st_size for e in os.scandir('d')})")
    assert ast.literal_eval(listed) == {**{f"{number:03}": 50 for number in range(len(files))}, "inexact": 70}


def test_kills_under_readers(mount: ServeMount) -> None:
    """SIGKILL with hits and misses under way: no error, no wrong byte."""
    files = [mount.cache.file(1, b"%d" % number, content(str(number), 300_000), cached=number % 2 == 0) for number in range(40)]
    mount.fetch.files.update({file.inode: file for file in files})
    mount.start()
    code = """
import hashlib, os, sys, time
end = time.monotonic() + 3
reads = 0
while time.monotonic() < end:
    for number in range(40):
        fd = os.open(str(number), os.O_RDONLY)
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
        data = b''.join(iter(lambda: os.read(fd, 100000), b''))
        os.close(fd)
        assert data == hashlib.shake_128(str(number).encode()).digest(300000), number
        os.listdir('.')
        reads += 1
print(reads)
"""
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", code], cwd=mount.mountpoint, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    kills = 0
    try:
        while any(reader.poll() is None for reader in readers) and kills < 8:
            spare = mount.spawn()
            time.sleep(0.4)
            mount.kill()
            mount.start_spare(*spare)
            mount.wait_ready()
            kills += 1
        results = [reader.communicate(timeout=30) for reader in readers]
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
            for pipe in (reader.stdout, reader.stderr):
                assert pipe is not None
                pipe.close()
    assert kills >= 3
    assert [error for _, error in results] == ["", "", ""]
    assert sum(int(output) for output, _ in results) > 100


def test_a_new_version_is_seen_when_the_kernel_is_told(mount: ServeMount) -> None:
    mount.cache.with_spec(ttl_seconds=3600.0)
    mount.cache.file(1, b"f", b"old", version=b"1")
    mount.start()
    assert mount.run_reader("print(open('f').read())").strip() == "old"
    mount.cache.file(1, b"f", b"new!", version=b"2")
    mount.fetch.invalidate(Answer(Op.INVALIDATE_ENTRY, inode=1, name=b"f"))
    mount.fetch.invalidate(Answer(Op.INVALIDATE_INODE, inode=1))
    deadline = time.monotonic() + 5
    while mount.run_reader("print(open('f').read())").strip() != "new!":
        assert time.monotonic() < deadline
    assert "f" in mount.run_reader("import os; print(os.listdir('.'))")


def test_stop_and_unmount_end_the_process(mount: ServeMount) -> None:
    mount.cache.file(1, b"f", b"abc")
    mount.start()
    mount.channels[0].send(b'{"do": "stop"}')
    assert mount.processes[0].wait(10) == ExitCode.OK
    mount.channels.pop(0).close()
    mount.start()
    assert mount.run_reader("print(open('f').read())").strip() == "abc"
    mount.channels[0].close()  # the supervisor died
    assert mount.run_reader("print(open('f').read())").strip() == "abc"
    with copied_namespace():
        unmount_everywhere(mount.mountpoint)
        assert mount.processes[0].wait(10) == ExitCode.OK


def test_a_damaged_index_ends_the_process(mount: ServeMount) -> None:
    mount.index_id = "00" * 16
    mount.start(wait=False)
    assert mount.processes[0].wait(READY) == ExitCode.INDEX_DAMAGED


def test_a_damaged_row_ends_the_process_and_a_successor_answers(mount: ServeMount) -> None:
    file = mount.cache.file(1, b"f", b"abc")
    mount.start()
    key = file.inode.to_bytes(8, "big")
    env = mount.cache.index.env
    with mount.cache.index.write() as txn:
        good = txn.get(key, db=env.db["inodes"])
        txn.put(key, bytes([good[0] ^ 1]) + good[1:], db=env.db["inodes"])
    reader = subprocess.Popen([sys.executable, "-c", "print(open('f').read())"], cwd=mount.mountpoint, stdout=subprocess.PIPE)
    try:
        assert mount.processes[0].wait(READY) == ExitCode.INDEX_DAMAGED
        with mount.cache.index.write() as txn:
            txn.put(key, good, db=env.db["inodes"])
        mount.channels.pop(0).close()
        mount.start()
        assert reader.communicate(timeout=20)[0].strip() == b"abc"
    finally:
        reader.kill()
        reader.wait()


def test_index_file_of_noise(mount: ServeMount) -> None:
    mount.cache.index.close()
    path = Path(mount.cache.spec.state_dir) / run_files.INDEX_DIR / "data.mdb"
    path.write_bytes(os.urandom(1 << 16))
    mount.start(wait=False)
    assert mount.processes[0].wait(READY) == ExitCode.INDEX_DAMAGED


def test_a_spare_ends_with_its_supervisor(mount: ServeMount) -> None:
    process, channel = mount.spawn()
    time.sleep(0.05)
    channel.close()
    assert process.wait(READY) == ExitCode.OK
    process, channel = mount.spawn()
    process.send_signal(signal.SIGKILL)
    process.wait()
    channel.close()


def test_passthrough_reads_come_from_the_container(tmp_path: Path) -> None:
    """Serve hands the container out, custody makes it a backing file, and the kernel reads without asking again."""
    with serve_mount(tmp_path, Engine.NATIVE, access=ACCESS_PASSTHROUGH, answer_favours=True) as mount:
        whole = mount.cache.file(1, b"whole", content("whole", 3_000_000))
        part = mount.cache.file(1, b"part", content("part", 3_000_000), cached=False)
        mount.fetch.files[part.inode] = part
        mount.start()
        assert mount.run_reader(HASH, "whole").strip() == sha(whole.data)
        assert mount.counter(Counter.HIT_BYTES) == 0
        assert mount.run_reader(HASH, "part").strip() == sha(part.data)
        assert mount.counter(Counter.HIT_BYTES) + mount.counter(Counter.MISS_BYTES) >= len(part.data)
        assert {request.inode for request in mount.fetch.asked if request.op is Op.OPENED} == {whole.inode, part.inode}


@pytest.mark.skipif(not HAS_PYFUSE3, reason="pyfuse3 is not installed")
def test_pyfuse3_refuses_several_processes(tmp_path: Path) -> None:
    with serve_mount(tmp_path, Engine.PYFUSE3, serve_count=2) as mount:
        mount.start(wait=False)
        assert mount.hear()["did"] == "failed"
        assert mount.processes[0].wait(READY) == ExitCode.FAILED


def test_an_engine_that_is_not_installed_is_named(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden" / "pyfuse3"
    hidden.mkdir(parents=True)
    (hidden / "__init__.py").write_text("raise ImportError('no pyfuse3 here')")
    with serve_mount(tmp_path, Engine.PYFUSE3) as mount:
        mount.extra_path = str(hidden.parent)
        mount.start(wait=False)
        told = mount.hear()
        assert told["did"] == "failed"
        assert told["kind"] == ErrorKind.UNSUPPORTED
        assert "pip install" in told["message"]


def test_two_serve_processes(tmp_path: Path) -> None:
    with serve_mount(tmp_path, Engine.NATIVE, serve_count=2) as mount:
        files = [mount.cache.file(1, b"%d" % number, content(str(number), 200_000), cached=False) for number in range(20)]
        mount.fetch.files.update({file.inode: file for file in files})
        mount.start(0)
        mount.start(1)
        for number, file in enumerate(files):
            assert mount.run_reader(HASH, number).strip() == sha(file.data)
