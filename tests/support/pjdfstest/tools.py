"""What cases are made of: the list of them, and what they do and expect. Each case runs in a process that is its own, as root, in
a working directory of its own: the paths are short, and whoever a case becomes can reach them.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import json
import os
import socket
import stat
import time
from collections.abc import Callable, Iterator
from typing import Any

Case = Callable[[], None]

NAP_SECONDS = 0.01  # the mount's times are of nanoseconds, the kernel's clock for files of 4 ms
USER, OTHER = (65534, 65534), (1, 1)  # uid, gid
NOT_DIRECTORIES = ("regular", "fifo", "block", "char", "socket")
KINDS = (*NOT_DIRECTORIES, "dir")
ALL_KINDS = (*KINDS, "symlink")
ATIME, MTIME, CTIME = "st_atime_ns", "st_mtime_ns", "st_ctime_ns"

CASES: dict[str, Case] = {}
PLACES = {"read_only": "", "elsewhere": ""}

_libc = ctypes.CDLL(None, use_errno=True)


class Missed(Exception):
    """What came instead."""


def case(name: str, *kinds: str) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Register a case, once for each kind."""

    def register(function: Callable[..., None]) -> Callable[..., None]:
        if not kinds:
            CASES[name] = function
        for kind in kinds:
            CASES[f"{name}::{kind}"] = functools.partial(function, kind)
        return function

    return register


def add(name: str, function: Callable[..., None], *arguments: Any) -> None:
    assert name not in CASES, name
    CASES[name] = functools.partial(function, *arguments)


def refused(function: Callable[..., Any], *arguments: Any, by: tuple[int, ...]) -> None:
    """The call fails, with one of these errors."""
    try:
        function(*arguments)
    except OSError as error:
        if error.errno not in by:
            raise
    else:
        raise Missed(f"succeeded, not {' or '.join(errno.errorcode[one] for one in by)}")


def same(found: object, wanted: object, what: str) -> None:
    if found != wanted:
        raise Missed(f"{what}: {found}, not {wanted}")


def true(condition: bool, what: str) -> None:
    if not condition:
        raise Missed(what)


@contextlib.contextmanager
def times(path: str, *fields: str, change: bool, follow: bool = True) -> Iterator[None]:
    """What is done inside changes all of these times of a file, or none."""
    before = os.stat(path, follow_symlinks=follow)
    time.sleep(NAP_SECONDS)
    yield
    after = os.stat(path, follow_symlinks=follow)
    for field in fields:
        if (getattr(before, field) != getattr(after, field)) is not change:
            raise Missed(f"{field} of {path!r} {'stayed' if change else 'changed'}")


def as_user(who: tuple[int, int], function: Callable[..., Any], *arguments: Any) -> None:
    """Call as another user, in a child. What it raises is raised here."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        told: list[Any] = []
        try:
            os.setgroups([])
            os.setresgid(who[1], who[1], who[1])
            os.setresuid(who[0], who[0], who[0])
            function(*arguments)
        except OSError as error:
            told = [error.errno, str(error)]
        except Exception as error:
            told = [0, str(error)]
        os.write(writer, json.dumps(told).encode())
        os._exit(0)
    os.close(writer)
    with open(reader) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    told = json.loads(said)
    if told and told[0]:
        raise OSError(*told)
    if told:
        raise Missed(told[1])


def make(kind: str, path: str, mode: int | None = None) -> str:
    if kind == "regular":
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
    elif kind == "dir":
        os.mkdir(path, 0o755)
    elif kind == "fifo":
        os.mkfifo(path, 0o644)
    elif kind in ("block", "char"):
        os.mknod(path, (stat.S_IFBLK if kind == "block" else stat.S_IFCHR) | 0o644, os.makedev(1, 3))
    elif kind == "socket":
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path)
    elif kind == "symlink":
        os.symlink("nothing", path)
    if mode is not None:
        os.chmod(path, mode)
    return path


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def opened(path: str, flags: int, mode: int = 0o644) -> None:
    os.close(os.open(path, flags, mode))


@contextlib.contextmanager
def descriptor(path: str, flags: int, mode: int = 0o644) -> Iterator[int]:
    fd = os.open(path, flags, mode)
    try:
        yield fd
    finally:
        os.close(fd)


def write(path: str, data: bytes) -> None:
    with descriptor(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC) as fd:
        os.write(fd, data)


def call_libc(name: str, *arguments: Any) -> None:
    if getattr(_libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)


def set_times(path: str, times_: tuple[tuple[int, int], tuple[int, int]]) -> None:
    """utimensat with its special values, which os.utime does not have."""
    raw = (ctypes.c_long * 4)(*times_[0], *times_[1])
    call_libc("utimensat", -100, os.fsencode(path), raw, 0)
