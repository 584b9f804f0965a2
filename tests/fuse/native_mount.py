"""A FUSE mount whose descriptors this process holds, and whose requests native_serve.py processes answer. The test process never
opens anything on it: readers are processes of their own (`run_reader`)."""

from __future__ import annotations

import contextlib
import ctypes
import dataclasses
import fcntl
import json
import mmap
import os
import signal
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fusecache.contract import shared_memory as shared
from fusecache.contract.shared_memory import U64, Counter, Layout
from fusecache.fuse.native.protocol import IOC_CLONE

_HERE = Path(__file__).parent
_ROOT = _HERE.parent.parent
_LIBC = ctypes.CDLL(None, use_errno=True)
_MS_RDONLY, _MS_NOSUID, _MS_NODEV, _MNT_FORCE, _MNT_DETACH = 1, 2, 4, 1, 2


class NativeMount:
    """Mounted, with shared memory, and no serve process yet."""

    def __init__(
        self, mountpoint: Path, layout: Layout, *, access: int = shared.ACCESS_OPENLESS, read_only: bool = True, **config: Any
    ) -> None:
        self.mountpoint = mountpoint
        self.layout = layout
        self.config = config
        self.memory_fd = os.memfd_create("fusecache-test")
        os.ftruncate(self.memory_fd, layout.total_bytes)
        self.memory = mmap.mmap(self.memory_fd, layout.total_bytes)
        U64.pack_into(self.memory, shared.H_ACCESS, access)
        self.fuse_fds = [os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)]
        options = f"fd={self.fuse_fds[0]},rootmode=40755,user_id=0,group_id=0,allow_other,default_permissions,max_read=1048576"
        flags = _MS_NOSUID | _MS_NODEV | (_MS_RDONLY if read_only else 0)
        if _LIBC.mount(b"fusecache-test", os.fsencode(mountpoint), b"fuse.fusecache", flags, options.encode()):
            raise OSError(ctypes.get_errno(), "mount")
        for _ in range(1, layout.serve_count):
            clone = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
            fcntl.ioctl(clone, IOC_CLONE, struct.pack("<I", self.fuse_fds[0]))
            self.fuse_fds.append(clone)
        self.processes: dict[int, subprocess.Popen[bytes]] = {}
        self._readers: list[subprocess.Popen[bytes]] = []

    def start(self, serve_index: int = 0, wait: bool = True) -> None:
        config = {
            "fuse_fd": self.fuse_fds[serve_index],
            "memory_fd": self.memory_fd,
            "layout": dataclasses.asdict(self.layout),
            "serve_index": serve_index,
            **self.config,
        }
        self.processes[serve_index] = subprocess.Popen(
            [sys.executable, str(_HERE / "native_serve.py"), json.dumps(config)],
            pass_fds=(self.fuse_fds[serve_index], self.memory_fd),
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
        )
        if wait:
            self.wait_ready(serve_index)

    def wait_ready(self, serve_index: int = 0) -> None:
        pipe = self.processes[serve_index].stdout
        assert pipe is not None
        assert pipe.readline() == b"ready\n", "the serve process did not start"

    def kill(self, serve_index: int = 0) -> None:
        process = self.processes.pop(serve_index)
        process.send_signal(signal.SIGKILL)
        process.wait()
        if process.stdout:
            process.stdout.close()

    def device_number(self) -> str:
        """MAJ:MIN, found without touching the mount."""
        for line in Path("/proc/self/mountinfo").read_text().splitlines():
            fields = line.split()
            if fields[4] == str(self.mountpoint):
                return fields[2]
        raise LookupError(f"{self.mountpoint} is not mounted")

    def set_readahead(self, kib: int) -> None:
        Path(f"/sys/class/bdi/{self.device_number()}/read_ahead_kb").write_text(str(kib))

    def counter(self, counter: Counter) -> int:
        return sum(
            int(U64.unpack_from(self.memory, self.layout.serve_counters(index) + 8 * counter)[0])
            for index in range(self.layout.serve_count)
        )

    def run_reader(self, code: str, *arguments: object, timeout: float = 60) -> str:
        """Run Python code in a process with the mount point as its directory; return its stdout."""
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, arguments)],
            cwd=self.mountpoint,
            timeout=timeout,
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": f"{_ROOT}:{_HERE}"},
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def spawn_reader(self, *arguments: object) -> subprocess.Popen[bytes]:
        """Start Python with these arguments in the mount point; it is gone when the mount is."""
        environment = {**os.environ, "PYTHONPATH": str(_ROOT)}
        command = [sys.executable, *map(str, arguments)]
        reader = subprocess.Popen(
            command, cwd=self.mountpoint, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
        )
        self._readers.append(reader)
        return reader

    def abort(self) -> None:
        """End the connection, whoever uses it, and take the mount away."""
        _LIBC.umount2(os.fsencode(self.mountpoint), _MNT_FORCE | _MNT_DETACH)

    def close(self) -> None:
        self.abort()
        for reader in self._readers:
            with contextlib.suppress(ProcessLookupError):
                reader.kill()
            reader.wait()
            if reader.stdout:
                reader.stdout.close()
        for index in list(self.processes):
            self.kill(index)
        for fd in (*self.fuse_fds, self.memory_fd):
            os.close(fd)
        self.memory.close()


@contextlib.contextmanager
def native_mount(
    path: Path, *, serve_count: int = 1, readers: int = 2, table_entries: int = 256, **config: Any
) -> Iterator[NativeMount]:
    """Mount and start the serve processes; unmount at the end, whatever happened."""
    mountpoint = path / "mnt"
    mountpoint.mkdir()
    mount = NativeMount(mountpoint, Layout(serve_count, readers, table_entries=table_entries), **config)
    try:
        for index in range(serve_count):
            mount.start(index)
        yield mount
    finally:
        mount.close()
