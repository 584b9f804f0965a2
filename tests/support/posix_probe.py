"""Asks a directory many small questions and prints what came of each, as JSON: name -> "= repr(value)" or the errno's name.

`program` writes the source of a process that asks a table of Python expressions, which see the functions below; it needs nothing
but the standard library, and ends itself if an answer does not come.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import signal
import stat
import struct
import subprocess  # noqa: F401 - for the expressions
import tempfile
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")

SECONDS = 60
SYS_GETDENTS64 = {"x86_64": 217, "aarch64": 61}
_libc = ctypes.CDLL(None, use_errno=True)


def with_open(path: str, flags: int, action: Callable[[int], T]) -> T:
    fd = os.open(path, flags)
    try:
        return action(fd)
    finally:
        os.close(fd)


def read(path: str, length: int, offset: int, flags: int = 0) -> bytes:
    """pread(2) of a path."""
    return with_open(path, os.O_RDONLY | flags, lambda fd: os.pread(fd, length, offset))


def read_direct(path: str, length: int, offset: int) -> bytes:
    def action(fd: int) -> bytes:
        with mmap.mmap(-1, length) as buffer:
            return buffer[: os.preadv(fd, [buffer], offset)]

    return with_open(path, os.O_RDONLY | os.O_DIRECT, action)


def read_after_seek(path: str, offset: int, whence: int) -> tuple[int, bytes]:
    return with_open(path, os.O_RDONLY, lambda fd: (os.lseek(fd, offset, whence), os.read(fd, 10)))


def seek(path: str, offset: int, whence: int) -> int:
    return with_open(path, os.O_RDONLY, lambda fd: os.lseek(fd, offset, whence))


def map_file(path: str, flags: int, protection: int) -> bytes:
    """Map a whole file, write to the map if it may be written, and return its last bytes."""

    def action(fd: int) -> bytes:
        with mmap.mmap(fd, 0, flags=flags, prot=protection) as mapped:
            if protection & mmap.PROT_WRITE:
                mapped[0] = 1
            return mapped[-5:]

    return with_open(path, os.O_RDONLY, action)


def send_file(path: str, length: int, offset: int) -> bytes:
    def action(fd: int) -> bytes:
        with tempfile.TemporaryFile() as out:
            sent = 0
            while sent < length:
                count = os.sendfile(out.fileno(), fd, offset + sent, length - sent)
                if not count:
                    break
                sent += count
            return os.pread(out.fileno(), length, 0)

    return with_open(path, os.O_RDONLY, action)


def splice(path: str, length: int, offset: int) -> bytes:
    def action(fd: int) -> bytes:
        reader, writer = os.pipe()
        try:
            got = b""
            while len(got) < length:
                count = os.splice(fd, writer, min(65536, length - len(got)), offset_src=offset + len(got))
                if not count:
                    break
                got += os.read(reader, count)
            return got
        finally:
            os.close(reader)
            os.close(writer)

    return with_open(path, os.O_RDONLY, action)


def posix_getxattr(path: str, name: bytes, size: int) -> bytes:
    """getxattr(2) with a buffer of `size`; os.getxattr chooses a size by itself."""
    buffer = ctypes.create_string_buffer(size)
    count = _libc.getxattr(os.fsencode(path), name, buffer, size)
    if count < 0:
        raise OSError(ctypes.get_errno(), "getxattr")
    return buffer.raw[:count]


def entries(fd: int, size: int) -> list[tuple[str, int]]:
    """Read a directory to its end with a buffer of `size`; return names with the offset behind each."""
    found: list[tuple[str, int]] = []
    buffer = ctypes.create_string_buffer(size)
    while True:
        count = _libc.syscall(SYS_GETDENTS64[os.uname().machine], fd, buffer, size)
        if count < 0:
            raise OSError(ctypes.get_errno(), "getdents64")
        if count == 0:
            return found
        position = 0
        while position < count:
            _, offset, length, _ = struct.unpack_from("<QqHB", buffer, position)
            name = ctypes.string_at(ctypes.addressof(buffer) + position + 19)
            found.append((os.fsdecode(name), offset))
            position += length


def list_in_steps(path: str, size: int) -> bool:
    """Whether small steps, a second reading and a reading from the middle all give the same names, each once."""

    def action(fd: int) -> bool:
        first = entries(fd, size)
        os.lseek(fd, 0, os.SEEK_SET)
        second = entries(fd, 1 << 16)
        middle = len(first) // 2
        os.lseek(fd, first[middle][1], os.SEEK_SET)
        rest = entries(fd, size)
        names = [name for name, _ in first]
        return (
            sorted(set(names)) == sorted(names)
            and set(names) == {".", "..", *os.listdir(path)}
            and names == [name for name, _ in second]
            and names[middle + 1 :] == [name for name, _ in rest]
        )

    return with_open(path, os.O_RDONLY | os.O_DIRECTORY, action)


def same_as_truth(path: str, truth: str) -> list[str]:
    """What of a file's attributes differs from the truth's; of a directory, the size is the file system's own affair."""
    here, there = os.lstat(path), os.lstat(os.path.join(truth, path))
    names = ["st_mode", "st_mtime_ns", "st_uid", "st_gid"] + ["st_size"] * (not stat.S_ISDIR(here.st_mode))
    return [name for name in names if getattr(here, name) != getattr(there, name)]


def program(expressions: dict[str, str]) -> str:
    """Return the source to run as `python -c SOURCE DIRECTORY TRUTH`, with this module's directory on the path."""
    questions = "\n".join(f"    {name!r}: lambda: ({expression})," for name, expression in expressions.items())
    return f"from posix_probe import *\nimport sys\ntruth = sys.argv[2]\nask(sys.argv[1], {{\n{questions}\n}})\n"


def outcome(question: Callable[[], Any]) -> str:
    try:
        value = question()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return f"= {value!r}"


def ask(directory: str, questions: dict[str, Callable[[], Any]]) -> None:
    signal.alarm(SECONDS)
    os.chdir(directory)
    print(json.dumps({name: outcome(question) for name, question in questions.items()}))
