"""Requests that wait for fetch, over a real mount: interrupts, a full table, several serve processes."""

from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from fusecache.contract.shared_memory import Counter
from tests.fuse.native_mount import NativeMount, native_mount
from tests.fuse.native_serve import SLOW_SECONDS
from tests.support.mounted import wait_until

pytestmark = [pytest.mark.fuse, pytest.mark.root]

STUCK_LOOKUP = "import os; os.stat('never/lookup')"
STUCK_DIRECT_READ = "import os, mmap; os.preadv(os.open('never/read', os.O_RDONLY | os.O_DIRECT), [mmap.mmap(-1, 4096)], 0)"
STUCK_BUFFERED_READ = "open('never/read', 'rb').read(1)"
STUCK_SECONDS = 1.0  # a killed reader must be gone by then; waiting for the miss would take for ever


def start_stuck(mount: NativeMount, code: str, count: int = 1) -> list[subprocess.Popen[bytes]]:
    """Start readers that never get an answer, and wait until all of them wait for it."""
    processes = [mount.spawn_reader("-c", code) for _ in range(count)]
    deadline = time.monotonic() + 10
    for process in processes:
        while not _waits_in_kernel(process.pid):
            assert process.poll() is None, "the reader ended, but was to wait"
            assert time.monotonic() < deadline, "the reader does not wait in FUSE"
            time.sleep(0.005)
    return processes


def _waits_in_kernel(pid: int) -> bool:
    stack = Path(f"/proc/{pid}/stack").read_text()
    return any(
        place in stack for place in ("request_wait_answer", "folio_wait_bit", "d_alloc_parallel", "fuse_direct_IO", "filemap_")
    )


def end_all(processes: list[subprocess.Popen[bytes]], signal_number: int = signal.SIGKILL) -> float:
    """Signal all; return how long the last one took to end."""
    begin = time.monotonic()
    for process in processes:
        process.send_signal(signal_number)
    for process in processes:
        process.wait(timeout=10)
    return time.monotonic() - begin


@pytest.mark.parametrize(
    ("code", "signal_number"),
    [
        (STUCK_LOOKUP, signal.SIGKILL),
        (STUCK_LOOKUP, signal.SIGINT),  # caught by the reader: the call itself is interrupted
        (STUCK_DIRECT_READ, signal.SIGKILL),
        (STUCK_DIRECT_READ, signal.SIGINT),
        (STUCK_BUFFERED_READ, signal.SIGKILL),
        (STUCK_BUFFERED_READ, signal.SIGTERM),
    ],
)
def test_a_stuck_reader_dies_at_once(tmp_path: Path, code: str, signal_number: int) -> None:
    with native_mount(tmp_path) as mount:
        assert end_all(start_stuck(mount, code), signal_number) < STUCK_SECONDS
        assert mount.run_reader("import os; print(os.stat('big').st_size)").strip() == str(1 << 30)


def test_a_stuck_reader_dies_after_serve_was_replaced(tmp_path: Path) -> None:
    """The successor knows the parked requests, so it can answer their interrupts."""
    with native_mount(tmp_path) as mount:
        stuck = start_stuck(mount, STUCK_DIRECT_READ, 3)
        assert wait_until(lambda: mount.counter(Counter.MISSES) >= 3, 5.0)  # taken, not only asked
        mount.kill()
        mount.start()
        assert wait_until(lambda: mount.counter(Counter.REPLAYED) >= 3, 5.0)
        assert end_all(stuck) < STUCK_SECONDS


def test_a_stuck_reader_dies_when_interrupted_while_there_is_no_serve(tmp_path: Path) -> None:
    with native_mount(tmp_path) as mount:
        stuck = start_stuck(mount, STUCK_DIRECT_READ, 3)
        mount.kill()
        for process in stuck:
            process.kill()
        mount.start()
        assert end_all(stuck) < STUCK_SECONDS


def test_interrupts_reach_the_process_that_holds_the_request(tmp_path: Path) -> None:
    """The kernel gives an INTERRUPT to any of the serve processes; only the holder of the request can answer it."""
    with native_mount(tmp_path, serve_count=3, readers=1) as mount:
        for _ in range(4):
            assert end_all(start_stuck(mount, STUCK_DIRECT_READ, 6)) < STUCK_SECONDS


def test_more_waiting_requests_than_entries(tmp_path: Path) -> None:
    """60 stalled direct reads, 8 entries: hits go on meanwhile, and everyone can be interrupted."""
    with native_mount(tmp_path, table_entries=8) as mount:
        stuck = start_stuck(mount, STUCK_DIRECT_READ, 1)
        code = """
import os, mmap, threading, time
fd = os.open("never/read", os.O_RDONLY | os.O_DIRECT)
def read(k): os.preadv(fd, [mmap.mmap(-1, 4096)], k * 4096)
for k in range(60): threading.Thread(target=read, args=(k,), daemon=True).start()
time.sleep(0.3)
begin = time.monotonic()
for k in range(100): os.stat(f"small/{k:05}")
print(time.monotonic() - begin, flush=True)
os.kill(os.getpid(), 9)
"""
        out, _ = mount.spawn_reader("-c", code).communicate(timeout=10)
        assert float(out) < 0.5
        assert mount.counter(Counter.MISSES) >= 61
        assert end_all(stuck) < STUCK_SECONDS


@pytest.mark.alone
def test_several_processes_share_the_work(tmp_path: Path) -> None:
    with native_mount(tmp_path, serve_count=2) as mount:
        code = "import os, sys; [open(f'small/{k:05}', 'rb').read() for k in range(int(sys.argv[1]), 10_000, 4)]"
        readers = [mount.spawn_reader("-c", code, index) for index in range(4)]
        assert [reader.wait(60) for reader in readers] == [0] * 4
        assert mount.counter(Counter.HIT_BYTES) == 10_000 * 100_000


def test_unmounting_ends_the_engine(tmp_path: Path) -> None:
    with native_mount(tmp_path) as mount:
        process = mount.processes[0]
        stuck = start_stuck(mount, STUCK_LOOKUP)
        mount.abort()
        assert process.wait(5) == 0
        assert stuck[0].wait(5) != 0


def test_who_waits_for_a_disk_holds_up_nobody(tmp_path: Path) -> None:
    """Also with a single serve process, whose threads take turns."""
    with native_mount(tmp_path, readers=3) as mount:
        slow = [
            mount.spawn_reader("-c", "import os; os.pread(os.open('slow', os.O_RDONLY | os.O_DIRECT), 4096, 0)") for _ in "ab"
        ]
        time.sleep(0.5)  # until both are in the file system
        begin = time.monotonic()
        assert mount.run_reader("print(sum(open(f'small/{n}', 'rb').read(1) != b'' for n in range(100)))").strip() == "100"
        assert time.monotonic() - begin < SLOW_SECONDS / 2
        assert [process.poll() for process in slow] == [None, None], "the slow ones were not slow: nothing was shown"
        for process in slow:
            assert process.wait(timeout=2 * SLOW_SECONDS) == 0
