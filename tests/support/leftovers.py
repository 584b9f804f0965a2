"""What a test may leave behind by mistake: threads, processes, FUSE mounts, open descriptors.

Owns no state: `Snapshot.take` looks at this process and at /proc, `Snapshot.new_since` compares. Called by the guard of
tests/conftest.py around every test, from the main thread.

Tolerated, because libraries keep it for the life of the process:
- daemon threads (trio's workers, fsspec's loop) and the default executor of fsspec's loop ("asyncio_N");
- up to `TOLERATED_SOCKETS` more sockets, pipes and epoll or event descriptors: pools of HTTP clients, event loops.
Files, directories, memfds and devices (/dev/fuse) are never tolerated.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import subprocess
import threading
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

TOLERATED_SOCKETS = 16  # a guess: two event loops (3 each) and a small connection pool
TOLERATED_THREADS = re.compile(r"asyncio_\d+")  # ThreadPoolExecutor of fsspec's loop, used for DNS
TOLERATED_FILES = re.compile(r"/dev/(null|u?random|pts/\d+|tty)|/proc/.*")
RUN_MARK = "FUSECACHE_TEST_RUN"  # environment variable by which descendants are known after they were orphaned
FUSE_TYPE = re.compile(r"fuse(\.fusecache.*)?")


@dataclass(frozen=True, slots=True)
class Mount:
    mountpoint: str
    fs_type: str
    device: str  # MAJ:MIN; MIN names the directory in /sys/fs/fuse/connections


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The state of this process at one moment. `take` looks for mounts below `roots` only, as other runs have theirs."""

    threads: frozenset[threading.Thread]
    processes: dict[int, str]  # pid -> what it is
    mounts: frozenset[Mount]
    files: Counter[str]
    sockets: int

    @classmethod
    def take(cls, *roots: str) -> Snapshot:
        files, sockets = _open_descriptors()
        return cls(_threads(), _processes(), frozenset(_mounts(roots)), files, sockets)

    def new_since(self, before: Snapshot) -> Leftovers:
        return Leftovers(
            sorted(thread.name for thread in self.threads - before.threads),
            {pid: name for pid, name in self.processes.items() if pid not in before.processes},
            sorted(self.mounts - before.mounts, key=lambda mount: len(mount.mountpoint), reverse=True),
            sorted((self.files - before.files).elements()),
            max(0, self.sockets - before.sockets - TOLERATED_SOCKETS),
        )


@dataclass(frozen=True, slots=True)
class Leftovers:
    threads: list[str]
    processes: dict[int, str]
    mounts: list[Mount]  # deepest first
    files: list[str]
    sockets: int

    def __bool__(self) -> bool:
        return bool(self.threads or self.processes or self.mounts or self.files or self.sockets)

    def __str__(self) -> str:
        lines = [f"thread {name}" for name in self.threads]
        lines += [f"process {pid} ({name})" for pid, name in self.processes.items()]
        lines += [f"{mount.fs_type} mount on {mount.mountpoint}" for mount in self.mounts]
        lines += [f"open file {path}" for path in self.files]
        if self.sockets:
            lines.append(f"{self.sockets} sockets or pipes more than the {TOLERATED_SOCKETS} tolerated")
        return "; ".join(lines)

    def end(self) -> None:
        """Abort and detach the mounts, kill the processes: the next test starts clean. Threads and descriptors stay."""
        for mount in self.mounts:
            with contextlib.suppress(OSError):
                Path(f"/sys/fs/fuse/connections/{mount.device.split(':')[1]}/abort").write_text("1")
            _detach(mount.mountpoint)
        for pid in self.processes:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, 9)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, 0)


def _threads() -> frozenset[threading.Thread]:
    return frozenset(t for t in threading.enumerate() if not t.daemon and not TOLERATED_THREADS.fullmatch(t.name))


def _processes() -> dict[int, str]:
    """Return our children (zombies included) and orphans that carry this run's mark."""
    found = {}
    mark = f"{RUN_MARK}={os.environ.get(RUN_MARK, '')}".encode()
    for name in os.listdir("/proc"):
        if not name.isdecimal() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            command, _, fields = Path(f"/proc/{name}/stat").read_text(errors="replace").rpartition(")")
            state, parent = fields.split()[:2]
            if int(parent) == os.getpid() or mark in _environment(name).split(b"\0"):
                found[int(name)] = command.partition("(")[2] + (", not waited for" if state == "Z" else "")
    return found


def _environment(pid: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:  # another user's, or not dumpable
        return b""


def _mounts(roots: tuple[str, ...]) -> list[Mount]:
    found = []
    for line in Path("/proc/self/mountinfo").read_text(errors="surrogateescape").splitlines():
        left, _, right = line.partition(" - ")
        device, mountpoint = left.split(" ")[2], left.split(" ")[4]
        mountpoint = re.sub(r"\\([0-7]{3})", lambda match: chr(int(match[1], 8)), mountpoint)
        if FUSE_TYPE.fullmatch(right.split(" ")[0]) and any(Path(mountpoint).is_relative_to(root) for root in roots):
            found.append(Mount(mountpoint, right.split(" ")[0], device))
    return found


def _open_descriptors() -> tuple[Counter[str], int]:
    files: Counter[str] = Counter()
    sockets = 0
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:  # the descriptor of this very listing
            continue
        if target.startswith(("socket:", "pipe:", "anon_inode:")):
            sockets += 1
        elif not TOLERATED_FILES.fullmatch(target):
            files[target] += 1
    return files, sockets


def _detach(mountpoint: str) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    mnt_detach = 2
    if libc.umount2(os.fsencode(mountpoint), mnt_detach) != 0:
        with contextlib.suppress(OSError, subprocess.TimeoutExpired):
            subprocess.run(["fusermount3", "-uz", mountpoint], check=False, capture_output=True, timeout=10)
