"""A process that does the same in two directories, one of a mount and one of a local file system, and tells what came of both.

It reads a JSON list a line, [side, operation, arguments...], where the side is "both", "mount" or "reference", and answers with a
JSON object: "mount" and "reference" are each ["=", value] or ["!", name of the errno]; "differs" says where two results of bytes
part. Files are held in numbered slots, on both sides.
Only this process touches the mount, so that whoever asks can kill it when it hangs. Needs nothing but the standard library.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import mmap
import os
import random
import stat
import sys
from collections.abc import Callable, Iterator
from typing import Any

LONG_AGO_NS = 1_600_000_000_000_000_000  # times before were set by somebody; those after are "now"


def content(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


class Side:
    """One of the two directories, with its open files. Every public method is an operation."""

    def __init__(self, root: str, *, is_reference: bool) -> None:
        self._root = root
        self._is_reference = is_reference
        self._slots: dict[int, int] = {}

    def _at(self, path: str) -> str:
        return os.path.join(self._root, path)

    # -- open files

    def open(self, slot: int, path: str, flags: int, mode: int) -> None:
        self._slots[slot] = os.open(self._at(path), flags, mode)

    def close(self, slot: int) -> None:
        os.close(self._slots.pop(slot))

    def pwrite(self, slot: int, offset: int, size: int, seed: int) -> int:
        return os.pwrite(self._slots[slot], content(seed, size), offset)

    def write(self, slot: int, size: int, seed: int) -> int:
        """Where the file stands, or at its end if it was opened so."""
        return os.write(self._slots[slot], content(seed, size))

    def mapped_write(self, slot: int, offset: int, size: int, seed: int) -> int:
        """Through a shared map, as far as the file goes."""
        fd = self._slots[slot]
        end = min(os.fstat(fd).st_size, offset + size)
        if end <= offset:
            return 0
        with mmap.mmap(fd, end) as mapped:
            mapped[offset:end] = content(seed, end - offset)
            mapped.flush()
        return end - offset

    def pread(self, slot: int, offset: int, size: int) -> bytes:
        return os.pread(self._slots[slot], size, offset)

    def ftruncate(self, slot: int, size: int) -> None:
        os.ftruncate(self._slots[slot], size)

    def fallocate(self, slot: int, offset: int, size: int) -> None:
        os.posix_fallocate(self._slots[slot], offset, size)

    def copy_range(self, slot: int, other: int, offset: int, to: int, size: int) -> int:
        return os.copy_file_range(self._slots[slot], self._slots[other], size, offset, to)

    def fsync(self, slot: int) -> None:
        if not self._is_reference:  # nobody cuts its power
            os.fsync(self._slots[slot])

    def fstat(self, slot: int) -> list[Any]:
        return _told(os.fstat(self._slots[slot]))

    def fchmod(self, slot: int, mode: int) -> None:
        os.fchmod(self._slots[slot], mode)

    def futimens(self, slot: int, time_ns: int) -> None:
        os.utime(self._slots[slot], ns=(time_ns, time_ns))

    # -- names

    def read(self, path: str) -> bytes:
        with self._opened(path) as fd:
            pieces = []
            while piece := os.read(fd, 1 << 20):
                pieces.append(piece)
            return b"".join(pieces)

    def truncate(self, path: str, size: int) -> None:
        os.truncate(self._at(path), size)

    def stat(self, path: str) -> list[Any]:
        return _told(os.lstat(self._at(path)))

    def unlink(self, path: str) -> None:
        os.unlink(self._at(path))

    def mkdir(self, path: str, mode: int) -> None:
        os.mkdir(self._at(path), mode)

    def rmdir(self, path: str) -> None:
        os.rmdir(self._at(path))

    def rename(self, path: str, target: str) -> None:
        os.rename(self._at(path), self._at(target))

    def symlink(self, target: str, path: str) -> None:
        os.symlink(target, self._at(path))

    def link(self, path: str, target: str) -> None:
        if not self._is_reference:
            os.link(self._at(path), self._at(target))

    def readlink(self, path: str) -> str:
        return os.readlink(self._at(path))

    def names(self, path: str) -> list[str]:
        return sorted(os.listdir(self._at(path)))

    def chmod(self, path: str, mode: int) -> None:
        os.chmod(self._at(path), mode)

    def chown(self, path: str, uid: int, gid: int) -> None:
        os.chown(self._at(path), uid, gid)

    def utimens(self, path: str, time_ns: int) -> None:
        os.utime(self._at(path), ns=(time_ns, time_ns))

    def setxattr(self, path: str, name: str, value: str, flags: int) -> None:
        os.setxattr(self._at(path), name, value.encode(), flags)

    def getxattr(self, path: str, name: str) -> bytes:
        return os.getxattr(self._at(path), name)

    def listxattr(self, path: str) -> list[str]:
        return _own_xattrs(self._at(path))

    def removexattr(self, path: str, name: str) -> None:
        os.removexattr(self._at(path), name)

    # -- all of it

    def tree(self, path: str) -> dict[str, Any]:
        """Everything below a directory: attributes, bytes, extended attributes."""
        found: dict[str, Any] = {}
        line = [path]
        while line:
            directory = line.pop()
            for name in sorted(os.listdir(self._at(directory))):
                one = f"{directory}/{name}"
                status = os.lstat(self._at(one))
                told = _told(status)
                if stat.S_ISDIR(status.st_mode):
                    line.append(one)
                elif stat.S_ISLNK(status.st_mode):
                    told.append(os.readlink(self._at(one)))
                else:
                    told += [_digest(self.read(one)), {name: self.getxattr(one, name).hex() for name in self.listxattr(one)}]
                found[one[len(path) + 1 :]] = told
        return found

    @contextlib.contextmanager
    def _opened(self, path: str) -> Iterator[int]:
        fd = os.open(self._at(path), os.O_RDONLY)
        try:
            yield fd
        finally:
            os.close(fd)

    # -- of the reference alone

    def where(self, slot: int) -> str:
        """The path below the root of an open file now, "" if it has none."""
        path = os.readlink(f"/proc/self/fd/{self._slots[slot]}")
        return "" if path.endswith(" (deleted)") else os.path.relpath(path, self._root)


def _told(status: os.stat_result) -> list[Any]:
    """What both sides have in common; of directories and links only what they were given."""
    kind = stat.S_IFMT(status.st_mode)
    told: list[Any] = [f"{kind:o}", f"{status.st_mode & 0o7777:o}", status.st_uid, status.st_gid]
    if kind == stat.S_IFREG:
        told += [status.st_size, status.st_mtime_ns if status.st_mtime_ns < LONG_AGO_NS else "now"]
    return told


def _own_xattrs(path: str) -> list[str]:
    return sorted(name for name in os.listxattr(path) if name.startswith("user.") and not name.startswith("user.fusecache."))


def _digest(data: bytes) -> str:
    return f"{len(data)} bytes {hashlib.sha256(data).hexdigest()[:16]}"


def _outcome(operation: Callable[..., Any], arguments: list[Any]) -> tuple[str, Any]:
    try:
        return "=", operation(*arguments)
    except OSError as error:
        return "!", errno.errorcode.get(error.errno or 0, str(error))
    except (KeyError, ValueError) as error:
        return "!", repr(error)


def _difference(one: bytes, other: bytes) -> str:
    at = next((index for index, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    last = next((index for index in range(min(len(one), len(other)) - 1, at - 1, -1) if one[index] != other[index]), at)
    return (
        f"{len(one)} and {len(other)} bytes, which differ from {at} to {last}: "
        f"{one[at : at + 16].hex()} and {other[at : at + 16].hex()}"
    )


def obey(mount: Side, reference: Side) -> None:
    for line in sys.stdin:
        which, name, *arguments = json.loads(line)
        outcomes: dict[str, Any] = {}
        if which in ("both", "mount"):
            outcomes["mount"] = _outcome(getattr(mount, name), arguments)
        if which in ("both", "reference"):
            outcomes["reference"] = _outcome(getattr(reference, name), arguments)
        values = [value for _, value in outcomes.values()]
        if len(values) == 2 and all(isinstance(value, bytes) for value in values) and values[0] != values[1]:
            outcomes["differs"] = _difference(*values)
        print(json.dumps(outcomes, default=_digest), flush=True)


if __name__ == "__main__":
    os.umask(0o022)
    obey(Side(sys.argv[1], is_reference=False), Side(sys.argv[2], is_reference=True))
