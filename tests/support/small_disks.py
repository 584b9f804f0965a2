"""Small file systems of a test's own: to be filled, to run out of inodes, to become read-only. Needs root.

Each owns its mount (and its loop device and image) from `__enter__` to `__exit__`, where it is detached whatever happened.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

CHUNK_BYTES = 1 << 20
COMMAND_SECONDS = 30.0


class SmallDisk:
    """tmpfs, or ext4 in a sparse image (`image`); use as a context manager. `inodes` limits a tmpfs."""

    def __init__(self, path: Path, size_bytes: int, *, image: Path | None = None, inodes: int = 0) -> None:
        self.path = path
        self._size_bytes = size_bytes
        self._image = image
        self._inodes = inodes

    def fill(self, leave_bytes: int = 0) -> None:
        """Write a file until the disk is full; then give `leave_bytes` back."""
        with contextlib.suppress(OSError), open(self.path / "filler", "ab", buffering=0) as file:
            while True:
                file.write(bytes(CHUNK_BYTES))
        with contextlib.suppress(OSError), open(self.path / "filler", "ab", buffering=0) as file:
            while True:
                file.write(bytes(512))
        if leave_bytes:
            os.truncate(self.path / "filler", max(0, (self.path / "filler").stat().st_size - leave_bytes))

    @contextlib.contextmanager
    def kept_full(self) -> Iterator[None]:
        """Take whatever becomes free, within 20 ms, until the end."""
        over = threading.Event()

        def keep() -> None:
            while not over.wait(0.02):
                self.fill()

        self.fill()
        thread = threading.Thread(target=keep, name="keeps the disk full")
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def empty(self) -> None:
        (self.path / "filler").unlink(missing_ok=True)

    def remount(self, option: str) -> None:
        """`ro` or `rw`. What is open for writing makes `ro` fail on a real disk."""
        _run("mount", "-o", f"remount,{option}", str(self.path))

    @property
    def allocated_bytes(self) -> int:
        """What files take on it."""
        space = os.statvfs(self.path)
        return (space.f_blocks - space.f_bfree) * space.f_frsize

    def __enter__(self) -> Self:
        self.path.mkdir(parents=True, exist_ok=True)
        if self._image is None:
            options = f"size={self._size_bytes},mode=755" + (f",nr_inodes={self._inodes}" if self._inodes else "")
            _run("mount", "-t", "tmpfs", "-o", options, "fusecache-test", str(self.path))
            return self
        with open(self._image, "wb") as file:
            file.truncate(self._size_bytes)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", "-O", "^has_journal", str(self._image))
        _run("mount", "-o", "loop", str(self._image), str(self.path))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _run("umount", "-l", str(self.path))
        if self._image is not None:
            self._image.unlink()


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    if done.returncode:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
