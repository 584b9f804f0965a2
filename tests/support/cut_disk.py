"""A disk whose power can be cut: a file system in an image of its own, which is shut down without writing anything any more.

What was not synced when `cut` was called is lost, as after a power failure; `restore` mounts what is left. Root only.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN, _IOR('X', 125, __u32)
_NO_LOG_FLUSH = 2
_COMMAND_SECONDS = 60
_BUSY_SECONDS = 10


def missing() -> str:
    """Return why there can be no such disk here, "" if there can."""
    if os.geteuid() != 0:
        return "a disk that can be cut needs root"
    if not Path("/dev/loop-control").exists():
        return "a disk that can be cut needs loop devices"
    return ""


class CutDisk:
    """Use as a context manager: mounted at `path` then."""

    def __init__(self, base: Path, size_bytes: int) -> None:
        self.path = base / "cut-disk"
        self._image = base / "cut-disk.img"
        self.path.mkdir()
        with self._image.open("wb") as file:
            file.truncate(size_bytes)
        _run("mkfs.ext4", "-q", "-E", "lazy_itable_init=0,lazy_journal_init=0", "-I", "256", str(self._image))

    def __enter__(self) -> Self:
        self.restore()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        with contextlib.suppress(subprocess.SubprocessError):
            _run("umount", "-l", str(self.path))
        self._image.unlink()

    def cut(self) -> None:
        """From now on nothing reaches the disk, and whatever is asked of it fails."""
        directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.ioctl(directory, _SHUTDOWN, struct.pack("I", _NO_LOG_FLUSH))
        finally:
            os.close(directory)

    def restore(self) -> None:
        """Take the disk into use again, after everybody who used it has ended, or does in this moment.

        From a copy of the image: a mount namespace that somebody made meanwhile may hold a copy of the mount, and Linux shows
        the disk that was cut, as it is, to whoever mounts the same image again.
        """
        deadline = time.monotonic() + _BUSY_SECONDS
        while os.path.ismount(self.path):
            try:
                _run("umount", str(self.path))
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)
        copy = self._image.with_suffix(".copy")
        _run("cp", "--sparse=always", str(self._image), str(copy))
        copy.replace(self._image)
        _run("mount", "-o", "loop", str(self._image), str(self.path))


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, timeout=_COMMAND_SECONDS)
