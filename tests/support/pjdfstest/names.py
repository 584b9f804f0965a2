"""What becomes of names: link, mkdir, mkfifo, mknod, rename, rmdir, symlink, unlink, and open of a file that is new."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import time
from collections.abc import Callable

from tests.support.pjdfstest.tools import (
    ALL_KINDS,
    ATIME,
    CTIME,
    MTIME,
    NAP_SECONDS,
    NOT_DIRECTORIES,
    OTHER,
    PLACES,
    USER,
    add,
    as_user,
    case,
    descriptor,
    make,
    opened,
    refused,
    same,
    times,
    true,
    write,
)

# -- link


@case("link::share_metadata", *NOT_DIRECTORIES)
def _(kind: str) -> None:
    make(kind, "file")
    os.link("file", "other")
    os.chmod("other", 0o201)
    first, second = os.stat("file"), os.stat("other")
    same((first.st_ino, first.st_mode, first.st_nlink), (second.st_ino, second.st_mode, 2), "attributes")


@case("link::remove_link", *NOT_DIRECTORIES)
def _(kind: str) -> None:
    make(kind, "file")
    os.link("file", "other")
    os.unlink("file")
    same(os.stat("other").st_nlink, 1, "links")


@case("link::changed_ctime_success", *NOT_DIRECTORIES)
def _(kind: str) -> None:
    make(kind, "file")
    with times("file", CTIME, change=True), times(".", CTIME, MTIME, change=True):
        os.link("file", "other")


@case("link::unchanged_ctime_fails", *NOT_DIRECTORIES)
def _(kind: str) -> None:
    make(kind, "file")
    with times("file", CTIME, change=False), times(".", CTIME, MTIME, change=False):
        refused(as_user, USER, os.link, "file", "other", by=(errno.EACCES, errno.EPERM))


@case("link::enoent_source_not_exists")
def _() -> None:
    make("regular", "file")
    os.unlink("file")
    refused(os.link, "file", "other", by=(errno.ENOENT,))


@case("link::eexist_dest_exists", *ALL_KINDS)
def _(kind: str) -> None:
    make("regular", "file")
    make(kind, "there")
    refused(os.link, "file", "there", by=(errno.EEXIST,))


@case("link::eperm_dir")
def _() -> None:
    make("dir", "dir")
    refused(os.link, "dir", "other", by=(errno.EPERM,))


# -- what is made new


def _is_made(call: Callable[[str, int], None], is_kind: Callable[[int], bool]) -> None:
    for number, (umask, mode) in enumerate(((0, 0o755), (0, 0o151), (0o77, 0o151), (0o70, 0o345), (0o345, 0o501))):
        old = os.umask(umask)
        try:
            call(f"new{number}", mode)
        finally:
            os.umask(old)
        status = os.stat(f"new{number}")
        true(is_kind(status.st_mode), "another kind of file")
        same(stat.S_IMODE(status.st_mode), mode & ~umask, "mode")


def _belongs(call: Callable[[str, int], None], is_kind: Callable[[int], bool]) -> None:
    os.chown(".", *USER)
    call("root's", 0o755)
    as_user(USER, call, "user's", 0o755)
    same((os.stat("root's").st_uid, os.stat("user's").st_uid), (0, USER[0]), "owners")
    os.chmod(".", 0o777)
    as_user(OTHER, call, "other's", 0o755)
    status = os.stat("other's")
    same(status.st_uid, OTHER[0], "owner")
    true(status.st_gid in (OTHER[1], os.stat(".").st_gid), "neither group")


def _is_dated(call: Callable[[str, int], None], is_kind: Callable[[int], bool]) -> None:
    before = os.stat(".")
    time.sleep(NAP_SECONDS)
    call("new", 0o755)
    made, after = os.stat("new"), os.stat(".")
    for field in (ATIME, MTIME, CTIME):
        true(getattr(made, field) > getattr(before, CTIME), f"{field} of the new one is old")
    for field in (MTIME, CTIME):
        true(getattr(after, field) > getattr(before, field), f"{field} of the directory stayed")


def _register_new() -> None:
    table: dict[str, tuple[Callable[[str, int], None], Callable[[int], bool]]] = {
        "mkdir": (os.mkdir, stat.S_ISDIR),
        "mkfifo": (os.mkfifo, stat.S_ISFIFO),
        "mknod": (lambda path, mode: os.mknod(path, stat.S_IFIFO | mode), stat.S_ISFIFO),
        "mknod::regular": (lambda path, mode: os.mknod(path, stat.S_IFREG | mode), stat.S_ISREG),
        "open": (lambda path, mode: opened(path, os.O_CREAT | os.O_WRONLY, mode), stat.S_ISREG),
    }
    for name, (call, is_kind) in table.items():
        add(f"{name}::permission_bits_from_mode", _is_made, call, is_kind)
        add(f"{name}::uid_gid_eq_euid_egid", _belongs, call, is_kind)
        add(f"{name}::changed_time_fields_success", _is_dated, call, is_kind)


_register_new()


@case("mknod::device_files", "block", "char")
def _(kind: str) -> None:
    make(kind, "file")
    true((stat.S_ISBLK if kind == "block" else stat.S_ISCHR)(os.stat("file").st_mode), "another kind of file")


@case("mknod::changed_times_success", "block", "char")
def _(kind: str) -> None:
    with times(".", CTIME, MTIME, change=True):
        make(kind, "file")


# -- rename


def _attributes(path: str) -> tuple[int, ...]:
    status = os.lstat(path)
    return (status.st_ino, status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_nlink, status.st_mtime_ns)


@case("rename::preserve_metadata", *NOT_DIRECTORIES)
def _(kind: str) -> None:
    """Of a file with two names."""
    make(kind, "file")
    os.link("file", "link")
    before = _attributes("file")
    os.rename("file", "other")
    same((_attributes("other"), _attributes("link")), (before, before), "attributes")


@case("rename::keeps_attributes", *NOT_DIRECTORIES)
def _(kind: str) -> None:
    make(kind, "file")
    before = _attributes("file")
    os.rename("file", "other")
    same(_attributes("other"), before, "attributes")
    refused(os.lstat, "file", by=(errno.ENOENT,))


@case("rename::preserve_metadata_dir")
def _() -> None:
    make("dir", "dir")
    before = _attributes("dir")[:-1]
    os.rename("dir", "other")
    same(_attributes("other")[:-1], before, "attributes")


@case("rename::preserve_metadata_symlink")
def _() -> None:
    make("symlink", "link")
    before = _attributes("link")
    os.rename("link", "other")
    same(_attributes("other"), before, "attributes")
    same(os.readlink("other"), "nothing", "target")


@case("rename::unchanged_ctime_failed", *ALL_KINDS)
def _(kind: str) -> None:
    make(kind, "file")
    with times("file", CTIME, change=False, follow=False):
        refused(as_user, USER, os.rename, "file", "other", by=(errno.EACCES, errno.EPERM))


@case("rename::write_access_required_subdir")
def _() -> None:
    make("dir", "from", 0o777)
    make("dir", "to", 0o777)
    make("dir", "from/sub", 0o700)
    make("regular", "from/file", 0)
    refused(as_user, USER, os.rename, "from/sub", "to/sub", by=(errno.EACCES,))
    as_user(USER, os.rename, "from/file", "to/file")


@case("rename::to_multiply_linked", *NOT_DIRECTORIES)
def _(kind: str) -> None:
    make(kind, "file")
    make(kind, "target")
    os.link("target", "link")
    os.rename("file", "target")
    same(os.stat("link").st_nlink, 1, "links")


@case("rename::updates_link_parent")
def _() -> None:
    make("dir", "from")
    make("dir", "to")
    make("dir", "from/sub")
    same((os.stat("from").st_nlink, os.stat("to").st_nlink), (3, 2), "links")
    os.rename("from/sub", "to/sub")
    same((os.stat("from").st_nlink, os.stat("to").st_nlink), (2, 3), "links after the rename")
    same(os.stat("to/sub/..").st_ino, os.stat("to").st_ino, "inode of ..")


@case("rename::parent_of_a_moved_directory")
def _() -> None:
    for path in ("from", "to", "from/sub"):
        make("dir", path)
    os.rename("from/sub", "to/sub")
    same(os.stat("to/sub/..").st_ino, os.stat("to").st_ino, "inode of ..")


@case("rename::changed_time_of_parents")
def _() -> None:
    for path in ("from", "to"):
        make("dir", path)
    make("regular", "from/file")
    with times("from", CTIME, MTIME, change=True), times("to", CTIME, MTIME, change=True):
        os.rename("from/file", "to/file")


@case("rename::replaces")
def _() -> None:
    write("file", b"new")
    write("target", b"old one")
    os.rename("file", "target")
    with descriptor("target", os.O_RDONLY) as fd:
        same(os.pread(fd, 10, 0), b"new", "bytes")
    make("dir", "dir")
    make("dir", "dir2")
    make("regular", "dir/file")
    os.rename("dir", "dir2")
    same(os.listdir("dir2"), ["file"], "names")


@case("rename::enotdir_from_dir_to_not_dir", *NOT_DIRECTORIES)
def _(kind: str) -> None:
    make(kind, "file")
    make("dir", "dir")
    refused(os.rename, "dir", "file", by=(errno.ENOTDIR,))


@case("rename::eisdir_to_dir_from_not_dir", *NOT_DIRECTORIES, "symlink")
def _(kind: str) -> None:
    make(kind, "file")
    make("dir", "dir")
    refused(os.rename, "file", "dir", by=(errno.EISDIR,))


@case("rename::einval_parent_from_subdir_to")
def _() -> None:
    make("dir", "dir")
    make("dir", "dir/sub")
    refused(os.rename, "dir", "dir/sub", by=(errno.EINVAL,))
    refused(os.rename, "dir", "dir/sub/sub", by=(errno.EINVAL,))


@case("rename::einval_ebusy_dot_dotdot")
def _() -> None:
    make("dir", "dir")
    refused(os.rename, "dir/.", "new", by=(errno.EINVAL, errno.EBUSY))
    refused(os.rename, "dir/..", "new", by=(errno.EINVAL, errno.EBUSY))


@case("rename::eexist_enotempty_to_non_empty", *ALL_KINDS)
def _(kind: str) -> None:
    make("dir", "from")
    make("dir", "to")
    make(kind, "to/file")
    refused(os.rename, "from", "to", by=(errno.EEXIST, errno.ENOTEMPTY))


# -- rmdir


@case("rmdir::remove_dir")
def _() -> None:
    os.rmdir(make("dir", "dir"))
    refused(os.lstat, "dir", by=(errno.ENOENT,))


@case("rmdir::changed_time_parent_success")
def _() -> None:
    make("dir", "dir")
    with times(".", CTIME, MTIME, change=True):
        os.rmdir("dir")


@case("rmdir::eexist_enotempty_non_empty_dir", *ALL_KINDS)
def _(kind: str) -> None:
    make("dir", "dir")
    make(kind, "dir/file")
    refused(os.rmdir, "dir", by=(errno.EEXIST, errno.ENOTEMPTY))


@case("rmdir::einval_dot")
def _() -> None:
    make("dir", "dir")
    refused(os.rmdir, "dir/.", by=(errno.EINVAL,))


@case("rmdir::eexist_enotempty_dotdot")
def _() -> None:
    make("dir", "dir")
    make("dir", "dir/sub")
    refused(os.rmdir, "dir/sub/..", by=(errno.EEXIST, errno.ENOTEMPTY, errno.EINVAL))


@case("rmdir::ebusy")
def _() -> None:
    make("dir", "dir")
    subprocess.run(["mount", "--bind", PLACES["elsewhere"], "dir"], check=True)
    try:
        refused(os.rmdir, "dir", by=(errno.EBUSY,))
    finally:
        subprocess.run(["umount", "-l", "dir"], check=True)


# -- symlink


@case("symlink::create_symlink", "regular", "dir", "fifo", "block", "char")
def _(kind: str) -> None:
    make(kind, "file")
    os.symlink("file", "link")
    true(stat.S_ISLNK(os.lstat("link").st_mode), "no link")
    same(os.stat("link").st_ino, os.stat("file").st_ino, "inode")
    os.unlink("link")


@case("symlink::create_symlink_to_symlink")
def _() -> None:
    make("regular", "file")
    os.symlink("file", "link")
    os.symlink("link", "link2")
    same((os.readlink("link2"), os.stat("link2").st_ino), ("link", os.stat("file").st_ino), "target and inode")


@case("symlink::changed_parent_time_success")
def _() -> None:
    with times(".", CTIME, MTIME, change=True):
        os.symlink("file", "link")


# -- unlink


@case("unlink::remove_type", *NOT_DIRECTORIES, "symlink")
def _(kind: str) -> None:
    os.unlink(make(kind, "file"))
    refused(os.lstat, "file", by=(errno.ENOENT,))


@case("unlink::update_ctime_success", *NOT_DIRECTORIES)
def _(kind: str) -> None:
    make(kind, "file")
    os.link("file", "link")
    with times("link", CTIME, change=True):
        os.unlink("file")


@case("unlink::unchanged_ctime_failed", *NOT_DIRECTORIES)
def _(kind: str) -> None:
    make(kind, "file")
    os.link("file", "link")
    with times("link", CTIME, change=False):
        refused(as_user, USER, os.unlink, "file", by=(errno.EACCES,))


@case("unlink::update_mtime_ctime_success_folder", *NOT_DIRECTORIES, "symlink")
def _(kind: str) -> None:
    make("dir", "dir")
    make(kind, "dir/file")
    with times("dir", MTIME, CTIME, change=True):
        os.unlink("dir/file")


@case("unlink::eisdir")
def _() -> None:
    refused(os.unlink, make("dir", "dir"), by=(errno.EISDIR, errno.EPERM))


@case("unlink::open_file_not_freed")
def _() -> None:
    with descriptor("file", os.O_RDWR | os.O_CREAT) as fd:
        os.unlink("file")
        same(os.fstat(fd).st_nlink, 0, "links")
        os.write(fd, b"Hello, World!")
        same((os.fstat(fd).st_size, os.pread(fd, 20, 0)), (13, b"Hello, World!"), "size and bytes")


@case("unlink::open_file_keeps_its_bytes")
def _() -> None:
    with descriptor("file", os.O_RDWR | os.O_CREAT) as fd:
        os.write(fd, b"Hello, World!")
        os.unlink("file")
        same((os.fstat(fd).st_size, os.pread(fd, 20, 0)), (13, b"Hello, World!"), "size and bytes")
