"""What becomes of files: chmod, chown, truncate, open, posix_fallocate, utimensat."""

from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import time
from collections.abc import Callable, Iterator

from tests.support.pjdfstest.tools import (
    ATIME,
    CTIME,
    KINDS,
    MTIME,
    NAP_SECONDS,
    OTHER,
    USER,
    Case,
    add,
    as_user,
    case,
    descriptor,
    make,
    mode_of,
    opened,
    refused,
    same,
    set_times,
    times,
    true,
    write,
)

DATES = [seconds * 10**9 for seconds in (1_900_000_000, 1_950_000_000, 1_960_000_000, 1_970_000_000)]
UTIME_NOW, UTIME_OMIT = (1 << 30) - 1, (1 << 30) - 2


# -- chmod


@case("chmod::changes_mode", *KINDS)
def _(kind: str) -> None:
    make(kind, "file")
    os.chmod("file", 0o111)
    same(mode_of("file"), 0o111, "mode")


@case("chmod::change_perm", *KINDS)
def _(kind: str) -> None:
    """Through a symbolic link."""
    make(kind, "file")
    os.symlink("file", "link")
    before = os.lstat("link").st_mode
    os.chmod("link", 0o222)
    same((mode_of("file"), mode_of("link")), (0o222, 0o222), "modes")
    same(os.lstat("link").st_mode, before, "mode of the link")


@case("chmod::update_ctime", *KINDS)
def _(kind: str) -> None:
    make(kind, "file")
    with times("file", CTIME, change=True):
        os.chmod("file", 0o111)


@case("chmod::failed_chmod_unchanged_ctime", *KINDS)
def _(kind: str) -> None:
    make(kind, "file")
    with times("file", CTIME, change=False):
        refused(as_user, USER, os.chmod, "file", 0o111, by=(errno.EPERM,))


@case("chmod::clear_isgid_bit")
def _() -> None:
    make("regular", "file", 0o755)
    os.chown("file", *USER)
    for mode in (0o2755, 0o755):
        as_user(USER, os.chmod, "file", mode)
        same(mode_of("file"), mode, "mode")
    os.chown("file", USER[0], OTHER[1])
    as_user(USER, os.chmod, "file", 0o2755)
    same(mode_of("file"), 0o755, "mode of a file of another group")


@case("chmod::eperm_not_owner")
def _() -> None:
    make("regular", "file")
    os.chown("file", *OTHER)
    refused(as_user, USER, os.chmod, "file", 0o600, by=(errno.EPERM,))
    as_user(OTHER, os.chmod, "file", 0o600)
    same(mode_of("file"), 0o600, "mode")


# -- chown


@case("chown::change_owner", *KINDS)
def _(kind: str) -> None:
    make(kind, "file")
    with times("file", CTIME, change=True):
        os.chown("file", *USER)
    os.chown("file", -1, OTHER[1])
    status = os.stat("file")
    same((status.st_uid, status.st_gid), (USER[0], OTHER[1]), "owner")


@case("chown::through_symlink")
def _() -> None:
    make("regular", "file")
    os.symlink("file", "link")
    os.chown("link", *USER)
    os.lchown("link", *OTHER)
    same((os.stat("file").st_uid, os.lstat("link").st_uid), (USER[0], OTHER[0]), "owners")


@case("chown::clear_set_ids")
def _() -> None:
    make("regular", "file", 0o6755)
    os.chown("file", *USER)
    os.chmod("file", 0o6755)
    as_user(USER, os.chown, "file", USER[0], USER[1])
    same(mode_of("file"), 0o755, "mode")


@case("chown::eperm_not_owner")
def _() -> None:
    make("regular", "file")
    os.chown("file", *OTHER)
    with times("file", CTIME, change=False):
        refused(as_user, USER, os.chown, "file", *USER, by=(errno.EPERM,))


@case("chown::eperm_give_away")
def _() -> None:
    make("regular", "file")
    os.chown("file", *USER)
    refused(as_user, USER, os.chown, "file", *OTHER, by=(errno.EPERM,))


# -- truncate and ftruncate


def _truncate_file(size: int) -> None:
    os.truncate("file", size)


def _ftruncate_file(size: int) -> None:
    with descriptor("file", os.O_RDWR) as fd:
        os.ftruncate(fd, size)


def _register_truncations() -> None:
    def extend_shrink(call: Callable[[int], None]) -> None:
        make("regular", "file")
        for size in (1_234_567, 567):
            call(size)
            same(os.stat("file").st_size, size, "size")

    def shrink(call: Callable[[int], None]) -> None:
        write("file", os.urandom(12_345))
        for size in (23_456, 1):
            call(size)
            same(os.stat("file").st_size, size, "size")

    def update(call: Callable[[int], None]) -> None:
        make("regular", "file")
        with times("file", CTIME, MTIME, change=True):
            call(123)

    def negative(call: Callable[[int], None]) -> None:
        make("regular", "file")
        for size in (-1, -999_999):
            refused(call, size, by=(errno.EINVAL,))

    for name, call in (("truncate", _truncate_file), ("ftruncate", _ftruncate_file)):
        add(f"{name}::extend_file_shrink_sparse", extend_shrink, call)
        add(f"{name}::shrink_not_empty", shrink, call)
        add(f"{name}::update_ctime_success", update, call)
        add(f"{name}::einval_negative_length", negative, call)


_register_truncations()


@case("truncate::unchanged_ctime_failed")
def _() -> None:
    make("regular", "file")
    with times("file", CTIME, change=False):
        refused(as_user, USER, os.truncate, "file", 123, by=(errno.EACCES,))


@case("truncate::eisdir")
def _() -> None:
    refused(os.truncate, make("dir", "dir"), 0, by=(errno.EISDIR,))


@case("truncate::eacces_file")
def _() -> None:
    make("regular", "file", 0o444)
    os.chown("file", *USER)
    refused(as_user, USER, os.truncate, "file", 123, by=(errno.EACCES,))


@case("ftruncate::unchanged_ctime_failed")
def _() -> None:
    make("regular", "file")
    with times("file", CTIME, change=False), descriptor("file", os.O_RDONLY) as fd:
        refused(os.ftruncate, fd, 123, by=(errno.EINVAL, errno.EBADF))


@case("ftruncate::affected_create_flags_only")
def _() -> None:
    def grow() -> None:
        with descriptor("dir/file", os.O_CREAT | os.O_RDWR, 0) as fd:
            os.ftruncate(fd, 0)

    make("dir", "dir", 0o777)
    as_user(USER, grow)


# -- open


@case("open::exists_no_update")
def _() -> None:
    make("regular", "file")
    with times(".", CTIME, MTIME, change=False):
        opened("file", os.O_CREAT | os.O_RDWR)


@case("open::open_trunc")
def _() -> None:
    write("file", b"data")
    with times("file", MTIME, CTIME, change=True):
        opened("file", os.O_RDWR | os.O_TRUNC)
    same(os.stat("file").st_size, 0, "size")


@case("open::interact_2gb")
def _() -> None:
    size = (2 << 30) + 1
    with descriptor("file", os.O_RDWR | os.O_CREAT) as fd:
        os.pwrite(fd, b"data", size)
    same(os.stat("file").st_size, size + 4, "size")
    with descriptor("file", os.O_RDONLY) as fd:
        same(os.pread(fd, 10, size - 1), b"\0data", "bytes")


@case("open::open_nofollow")
def _() -> None:
    make("symlink", "link")
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_CREAT):
        refused(opened, "link", flags | os.O_NOFOLLOW, by=(errno.ELOOP,))


@case("open::socket_error")
def _() -> None:
    make("socket", "socket")
    for flags in (os.O_RDONLY, os.O_WRONLY, os.O_RDWR):
        refused(opened, "socket", flags, by=(errno.ENXIO,))


@case("open::fifo_nonblock_wronly")
def _() -> None:
    make("fifo", "fifo")
    refused(opened, "fifo", os.O_WRONLY | os.O_NONBLOCK, by=(errno.ENXIO,))


@case("open::eisdir")
def _() -> None:
    make("dir", "dir")
    for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC, os.O_WRONLY | os.O_TRUNC):
        refused(opened, "dir", flags, by=(errno.EISDIR,))


@case("open::einval_invalid_combination")
def _() -> None:
    """Which Linux takes for: may be read and written, and gives a descriptor for neither."""
    make("regular", "file")
    with contextlib.suppress(OSError):
        opened("file", os.O_RDWR | os.O_WRONLY)


@case("open::eacces_file")
def _() -> None:
    make("regular", "file")
    for mode, flags in ((0o200, os.O_RDONLY), (0o400, os.O_WRONLY), (0o400, os.O_RDONLY | os.O_TRUNC), (0o040, os.O_RDONLY)):
        os.chmod("file", mode)
        os.chown("file", *USER)
        refused(as_user, USER, opened, "file", flags, by=(errno.EACCES,))
    os.chmod("file", 0o600)
    as_user(USER, opened, "file", os.O_RDWR)


@contextlib.contextmanager
def _running() -> Iterator[None]:
    with open("/bin/sleep", "rb") as program:
        write("program", program.read())
    os.chmod("program", 0o755)
    process = subprocess.Popen(["./program", "60"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@case("open::etxtbsy")
def _() -> None:
    with _running():
        for flags in (os.O_WRONLY, os.O_RDWR, os.O_RDONLY | os.O_TRUNC):
            refused(opened, "program", flags, by=(errno.ETXTBSY,))


@case("truncate::etxtbsy")
def _() -> None:
    with _running():
        refused(os.truncate, "program", 123, by=(errno.ETXTBSY,))


# -- posix_fallocate


def _fallocate(offset: int, length: int, flags: int = os.O_RDWR) -> None:
    with descriptor("file", flags) as fd:
        os.posix_fallocate(fd, offset, length)


@case("posix_fallocate::increase_empty")
def _() -> None:
    make("regular", "file")
    _fallocate(0, 567)
    same(os.stat("file").st_size, 567, "size")
    _fallocate(20_000, 10_000)
    same(os.stat("file").st_size, 30_000, "size")


@case("posix_fallocate::increase_not_empty")
def _() -> None:
    write("file", b"data" * 100)
    _fallocate(20_000, 3_456)
    same(os.stat("file").st_size, 23_456, "size")
    with descriptor("file", os.O_RDONLY) as fd:
        same(os.pread(fd, 500, 0), b"data" * 100 + bytes(100), "bytes")


@case("posix_fallocate::update_ctime_success")
def _() -> None:
    make("regular", "file")
    with times("file", CTIME, change=True):
        _fallocate(0, 123)


@case("posix_fallocate::no_update_ctime_fail")
def _() -> None:
    make("regular", "file")
    with times("file", CTIME, change=False):
        refused(_fallocate, 0, 123, os.O_RDONLY, by=(errno.EBADF,))


@case("posix_fallocate::affected_only_create_flags")
def _() -> None:
    def allocate() -> None:
        with descriptor("dir/file", os.O_CREAT | os.O_RDWR, 0) as fd:
            os.posix_fallocate(fd, 0, 1)

    make("dir", "dir", 0o777)
    as_user(USER, allocate)


# -- utimensat


@case("utimensat::changes_timestamps", *KINDS)
def _(kind: str) -> None:
    make(kind, "file")
    os.utime("file", ns=(DATES[0], DATES[1]))
    same((os.stat("file").st_atime_ns, os.stat("file").st_mtime_ns), (DATES[0], DATES[1]), "times")


@case("utimensat::changes_mtime", *KINDS)
def _(kind: str) -> None:
    make(kind, "file")
    os.utime("file", ns=(DATES[1], DATES[1]))
    same(os.stat("file").st_mtime_ns, DATES[1], "mtime")


@case("utimensat::utime_now")
def _() -> None:
    make("regular", "file")
    before = os.stat("file")
    time.sleep(NAP_SECONDS)
    set_times("file", ((0, UTIME_NOW), (0, UTIME_NOW)))
    after = os.stat("file")
    for field in (ATIME, MTIME):
        true(0 < getattr(after, field) - getattr(before, field) < 300 * 10**9, f"{field} is not now")


@case("utimensat::utime_omit")
def _() -> None:
    make("regular", "file")
    before = os.stat("file").st_mtime_ns
    set_times("file", ((DATES[0] // 10**9, 0), (0, UTIME_OMIT)))
    same((os.stat("file").st_atime_ns, os.stat("file").st_mtime_ns), (DATES[0], before), "times")
    set_times("file", ((0, UTIME_OMIT), (DATES[1] // 10**9, 0)))
    same((os.stat("file").st_atime_ns, os.stat("file").st_mtime_ns), (DATES[0], DATES[1]), "times")


@case("utimensat::mtime_omit")
def _() -> None:
    make("regular", "file")
    before = os.stat("file").st_mtime_ns
    set_times("file", ((DATES[0] // 10**9, 0), (0, UTIME_OMIT)))
    same(os.stat("file").st_mtime_ns, before, "mtime")


@case("utimensat::order")
def _() -> None:
    make("regular", "file")
    os.utime("file", ns=(DATES[0], DATES[1]))
    os.utime("file", ns=(DATES[1], DATES[0]))


@case("utimensat::follow_symlink")
def _() -> None:
    make("regular", "file")
    os.symlink("file", "link")
    os.utime("link", ns=(DATES[0], DATES[1]))
    os.utime("link", ns=(DATES[2], DATES[3]), follow_symlinks=False)
    found = [(os.lstat(path).st_atime_ns, os.lstat(path).st_mtime_ns) for path in ("file", "link")]
    same(found, [(DATES[0], DATES[1]), (DATES[2], DATES[3])], "times")


def _now() -> None:
    set_times("file", ((0, UTIME_NOW), (0, UTIME_NOW)))


def _dates() -> None:
    os.utime("file", ns=(DATES[0], DATES[1]))


def _register_rights_to_set_times() -> None:
    def ask(mode: int, owner: tuple[int, int], user: tuple[int, int], call: Case, by: tuple[int, ...]) -> None:
        make("regular", "file", mode)
        os.chown("file", *owner)
        if by:
            with times("file", MTIME, change=False):
                refused(as_user, user, call, by=by)
        else:
            with times("file", MTIME, change=True):
                as_user(user, call)

    root = (0, 0)
    for name, mode, owner, user, call, by in (
        ("utime_now_nobody", 0o644, root, USER, _now, (errno.EACCES,)),
        ("utime_now_owner", 0o444, USER, USER, _now, ()),
        ("utime_now_root", 0o444, USER, root, _now, ()),
        ("utime_now_write_perm", 0o666, root, USER, _now, ()),
        ("nobody", 0o644, root, USER, _dates, (errno.EPERM,)),
        ("write_perm", 0o666, root, USER, _dates, (errno.EPERM,)),
        ("owner", 0o444, USER, USER, _dates, ()),
        ("root", 0o444, USER, root, _dates, ()),
    ):
        add(f"utimensat::{name}", ask, mode, owner, user, call, by)


_register_rights_to_set_times()


@case("utimensat::subsecond")
def _() -> None:
    make("regular", "file")
    wanted = (DATES[0] + 100_000_000, DATES[1] + 200_000_001)
    os.utime("file", ns=wanted)
    same((os.stat("file").st_atime_ns, os.stat("file").st_mtime_ns), wanted, "times")


@case("utimensat::y2038")
def _() -> None:
    make("regular", "file")
    wanted = ((1 << 31) * 10**9, (1 << 32) * 10**9)
    os.utime("file", ns=wanted)
    same((os.stat("file").st_atime_ns, os.stat("file").st_mtime_ns), wanted, "times")


@case("utimensat::mtime_subsecond_and_y2038")
def _() -> None:
    make("regular", "file")
    for wanted in (DATES[1] + 200_000_001, (1 << 32) * 10**9 + 1, -1):
        os.utime("file", ns=(wanted, wanted))
        same(os.stat("file").st_mtime_ns, wanted, "mtime")
