"""Calls that fail in the same ways, whatever they would do: what can be wrong about a path, and what a caller may not do."""

from __future__ import annotations

import ctypes
import errno
import os
import stat
from collections.abc import Callable
from typing import Any

from tests.support.pjdfstest.tools import (
    ALL_KINDS,
    NOT_DIRECTORIES,
    OTHER,
    PLACES,
    USER,
    add,
    as_user,
    call_libc,
    make,
    opened,
    refused,
)

NAME_MAX, PATH_MAX = 255, 4096


def _mknod(path: str) -> None:
    os.mknod(path, stat.S_IFIFO | 0o644)


def _device(path: str) -> None:
    os.mknod(path, stat.S_IFCHR | 0o644, os.makedev(1, 3))


def _link_from(path: str) -> None:
    os.link(path, "new")


def _link_to(path: str) -> None:
    os.link(make("regular", "old") if not os.path.exists("old") else "old", path)


def _rename_from(path: str) -> None:
    os.rename(path, "new")


def _rename_to(path: str) -> None:
    os.rename(make("regular", "old") if not os.path.exists("old") else "old", path)


# call -> what is done to a path that is there; what makes one that is not
CHANGES: dict[str, Callable[[str], None]] = {
    "chmod": lambda path: os.chmod(path, 0o600),
    "chown": lambda path: os.chown(path, 0, 0),
    "chown::lchown": lambda path: os.lchown(path, 0, 0),
    "open": lambda path: opened(path, os.O_RDWR),
    "rmdir": os.rmdir,
    "truncate": lambda path: os.truncate(path, 10),
    "unlink": os.unlink,
}
MAKES: dict[str, Callable[[str], None]] = {
    "mkdir": os.mkdir,
    "mkfifo": os.mkfifo,
    "mknod": _mknod,
    "open": lambda path: opened(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY),
    "symlink": lambda path: os.symlink("nothing", path),
}
FROM = {"link": _link_from, "rename": _rename_from}
TO = {"link": _link_to, "rename": _rename_to}
EITHER = {"link": os.link, "rename": os.rename}
FAULTS: dict[str, tuple[Callable[[Any], None], ...]] = {
    "chmod::efault_path": (lambda bad: call_libc("chmod", bad, 0),),
    "chown::efault_path": (lambda bad: call_libc("chown", bad, 0, 0),),
    "chown::lchown::efault_path": (lambda bad: call_libc("lchown", bad, 0, 0),),
    "link::efault_either": (lambda bad: call_libc("link", bad, b"new"), lambda bad: call_libc("link", b"old", bad)),
    "mkdir::efault_path": (lambda bad: call_libc("mkdir", bad, 0o755),),
    "mkfifo::efault_path": (lambda bad: call_libc("mkfifo", bad, 0o644),),
    "mknod::efault_path": (lambda bad: call_libc("mknod", bad, stat.S_IFIFO | 0o644, 0),),
    "open::efault_path": (lambda bad: call_libc("open", bad, os.O_RDONLY),),
    "rename::efault_either": (lambda bad: call_libc("rename", bad, b"new"), lambda bad: call_libc("rename", b"old", bad)),
    "rmdir::efault_path": (lambda bad: call_libc("rmdir", bad),),
    "symlink::efault_either": (lambda bad: call_libc("symlink", bad, b"new"), lambda bad: call_libc("symlink", b"old", bad)),
    "truncate::efault_path": (lambda bad: call_libc("truncate", bad, 123),),
    "unlink::efault_path": (lambda bad: call_libc("unlink", bad),),
}


def _fault(calls: tuple[Callable[[Any], None], ...]) -> None:
    make("regular", "old")
    for call in calls:
        refused(call, ctypes.c_void_p(1), by=(errno.EFAULT,))


def _below_no_directory(call: Callable[[str], None], kind: str) -> None:
    make(kind, "file")
    refused(call, "file/test", by=(errno.ENOTDIR,))


def _either_below_no_directory(call: Callable[[str, str], None], kind: str) -> None:
    make(kind, "file")
    make("regular", "old")
    refused(call, "file/test", "new", by=(errno.ENOTDIR,))
    refused(call, "old", "file/test", by=(errno.ENOTDIR,))


def _long_name(call: Callable[[str], None]) -> None:
    refused(call, "n" * (NAME_MAX + 1), by=(errno.ENAMETOOLONG,))


def _longest_name(change: Callable[[str], None] | None, make_one: Callable[[str], None]) -> None:
    name = "n" * NAME_MAX
    make_one(name)
    if change is not None:
        change(name)


def _deepest() -> str:
    """Make directories; return a path in the last one that is as long as a path may be."""
    path = ""
    while len(path) + NAME_MAX + 1 < PATH_MAX:
        path += "d" * NAME_MAX + "/"
        os.mkdir(path)
    return path + "n" * (PATH_MAX - 1 - len(path))


def _long_path(call: Callable[[str], None]) -> None:
    refused(call, _deepest() + "n", by=(errno.ENAMETOOLONG,))


def _longest_path(change: Callable[[str], None] | None, make_one: Callable[[str], None]) -> None:
    path = _deepest()
    make_one(path)
    if change is not None:
        change(path)


def _loop(call: Callable[[str], None], path: str) -> None:
    os.symlink("loop2", "loop")
    os.symlink("loop", "loop2")
    refused(call, path, by=(errno.ELOOP,))


def _dangling(call: Callable[[str], None]) -> None:
    make("symlink", "link")
    refused(call, "link", by=(errno.ENOENT,))


def _either_loop(call: Callable[[str, str], None]) -> None:
    os.symlink("loop", "loop")
    make("regular", "old")
    refused(call, "loop/test", "new", by=(errno.ELOOP,))
    refused(call, "old", "loop/test", by=(errno.ELOOP,))


def _exists(call: Callable[[str], None], kind: str) -> None:
    make(kind, "there")
    refused(call, "there", by=(errno.EEXIST,))


def _read_only(call: Callable[[str], None], kind: str) -> None:
    if kind:
        make(kind, "there")
    here = os.path.basename(os.getcwd())
    refused(call, os.path.join(PLACES["read_only"], here, "there"), by=(errno.EROFS,))


def _elsewhere(call: Callable[[str, str], None]) -> None:
    make("regular", "old")
    refused(call, "old", os.path.join(PLACES["elsewhere"], f"new-{os.getpid()}"), by=(errno.EXDEV,))


def _no_search(call: Callable[[str], None], kind: str) -> None:
    """EACCES for whoever may not search the directory."""
    os.mkdir("dir", 0o755)
    os.chown("dir", *USER)
    if kind:
        make(kind, "dir/test")
        os.lchown("dir/test", *USER)
    os.chmod("dir", 0o644)
    refused(as_user, USER, call, "dir/test", by=(errno.EACCES,))


def _no_write(call: Callable[[str], None], kind: str) -> None:
    """EACCES for whoever may not write to the directory."""
    os.mkdir("dir", 0o755)
    os.chown("dir", *USER)
    if kind:
        make(kind, "dir/test")
        os.lchown("dir/test", *USER)
    os.chmod("dir", 0o555)
    refused(as_user, USER, call, "dir/test", by=(errno.EACCES,))


def _sticky(call: Callable[[str], None], kind: str) -> None:
    """EPERM, in a directory with the sticky bit, for whoever owns neither the directory nor the file."""
    os.mkdir("dir")
    os.chmod("dir", 0o1777)
    make(kind, "dir/test")
    os.lchown("dir/test", *OTHER)
    refused(as_user, USER, call, "dir/test", by=(errno.EPERM, errno.EACCES))
    as_user(OTHER, call, "dir/test")


def _register_errors() -> None:
    for call, change in CHANGES.items():
        make_one: Callable[[str], None] = os.mkdir if call == "rmdir" else lambda path: opened(path, os.O_CREAT | os.O_WRONLY)
        for kind in NOT_DIRECTORIES:
            name = "enotdir_component_of_file" if call == "open" else "enotdir_component"
            add(f"{call}::{name}::{kind}", _below_no_directory, change, kind)
        add(f"{call}::enametoolong_component", _long_name, change)
        add(f"{call}::longest_name", _longest_name, change, make_one)
        add(f"{call}::enametoolong_path", _long_path, change)
        if call in ("mkdir", "open", "rename"):
            add(f"{call}::longest_path", _longest_path, change, make_one)
        add(f"{call}::enoent_named_file", lambda change=change: refused(change, "nothing", by=(errno.ENOENT,)))
        if call not in ("rmdir", "unlink"):
            add(f"{call}::enoent_comp", lambda change=change: refused(change, "nothing/test", by=(errno.ENOENT,)))
        add(f"{call}::eloop_comp", _loop, change, "loop/test")
        add(f"{call}::erofs_named", _read_only, change, "dir" if call == "rmdir" else "regular")
        add(f"{call}::eacces_search", _no_search, change, "dir" if call == "rmdir" else "regular")
    for call, make_one in MAKES.items():
        for kind in NOT_DIRECTORIES:
            add(f"{call}::enotdir_component::{kind}", _below_no_directory, make_one, kind)
        for kind in ALL_KINDS:
            add(f"{call}::eexist_file_exists::{kind}", _exists, make_one, kind)
        if call != "open":
            add(f"{call}::enametoolong_component", _long_name, make_one)
            add(f"{call}::longest_name", _longest_name, None, make_one)
            add(f"{call}::enametoolong_path", _long_path, make_one)
            if call in ("mkdir", "open", "rename"):
                add(f"{call}::longest_path", _longest_path, None, make_one)
            add(f"{call}::enoent_comp", lambda make_one=make_one: refused(make_one, "nothing/test", by=(errno.ENOENT,)))
            add(f"{call}::eloop_comp", _loop, make_one, "loop/test")
            add(f"{call}::eacces_search", _no_search, make_one, "")
        add(f"{call}::erofs_new_file", _read_only, make_one, "")
        add(f"{call}::eacces_write", _no_write, make_one, "")
    for kind in ALL_KINDS:
        add(f"mknod::privileged::eexist_file_exists::{kind}", _exists, _device, kind)
    add("mknod::privileged::enametoolong_component", _long_name, _device)
    add("mknod::privileged::longest_name", _longest_name, None, _device)
    add("mknod::privileged::enametoolong_path", _long_path, _device)
    for kind in NOT_DIRECTORIES:
        add(f"mknod::enotdir_comp_char_block::{kind}", _below_no_directory, _device, kind)
    for call in ("link", "rename"):
        for kind in NOT_DIRECTORIES:
            add(f"{call}::enotdir_component_either::{kind}", _either_below_no_directory, EITHER[call], kind)
        add(f"{call}::enametoolong_component", _long_name, FROM[call])
        add(f"{call}::longest_name", _longest_name, FROM[call], lambda path: make("regular", path) and None)
        add(f"{call}::enametoolong_path", _long_path, FROM[call])
        if call in ("mkdir", "open", "rename"):
            add(f"{call}::longest_path", _longest_path, FROM[call], lambda path: make("regular", path) and None)
        add(f"{call}::enoent_named_file", lambda call=call: refused(FROM[call], "nothing", by=(errno.ENOENT,)))
        add(f"{call}::eloop_comp", _either_loop, EITHER[call])
        add(f"{call}::erofs_named", _read_only, lambda path, call=call: EITHER[call](path, path + "2"), "regular")
        add(f"{call}::exdev_target", _elsewhere, EITHER[call])
        add(f"{call}::eacces_search", _no_search, FROM[call], "regular")
        add(f"{call}::eacces_write", _no_write, lambda path, call=call: EITHER[call](path, path + "2"), "regular")
    for call, kind in (("unlink", "regular"), ("rmdir", "dir")):
        add(f"{call}::eacces_write", _no_write, CHANGES[call], kind)
        add(f"{call}::eperm_sticky", _sticky, CHANGES[call], kind)
    add("rename::eperm_sticky", _sticky, lambda path: os.rename(path, path + "2"), "regular")
    for name, calls in FAULTS.items():
        add(name, _fault, calls)
    for call in ("chmod", "chown"):
        add(f"{call}::eloop_final_comp", _loop, CHANGES[call], "loop")
        add(f"{call}::enoent_symlink", _dangling, CHANGES[call])


_register_errors()
