"""Programs that set modes, times and extended attributes of files, each a function that runs in a process of its own, in a
directory on a mount that may be written. They raise AssertionError if what they read back is not what they set."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable

TIME_NS = 981_173_106_789_000_000


def set_between_upload_and_close(rounds: int) -> None:
    """The bytes are in the store already when the attributes are set, and no byte is written afterwards."""
    for number in range(rounds):
        descriptor = os.open(f"open-{number}", os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644)
        os.write(descriptor, b"bytes")
        os.fsync(descriptor)
        os.fchmod(descriptor, 0o600)
        os.utime(descriptor, ns=(TIME_NS, TIME_NS))
        os.setxattr(descriptor, "user.late", b"value")
        os.close(descriptor)
    _check(f"open-{number}" for number in range(rounds))


def set_right_after_close(rounds: int) -> None:
    """By name, while the mount may still be busy with the end of the file."""
    for number in range(rounds):
        name = f"closed-{number}"
        with open(name, "wb") as file:
            file.write(b"bytes")
        os.chmod(name, 0o600)
        os.utime(name, ns=(TIME_NS, TIME_NS))
        os.setxattr(name, "user.late", b"value")
    _check(f"closed-{number}" for number in range(rounds))


def change_directories() -> None:
    """Each name that comes or goes changes the time of its directory, and no other call does."""
    os.mkdir("one")
    os.mkdir("two")
    descriptor = os.open("one/open", os.O_CREAT | os.O_WRONLY)

    def changes(name: str, call: Callable[[], object]) -> bool:
        before = os.stat(name).st_mtime_ns
        time.sleep(0.01)
        call()
        return os.stat(name).st_mtime_ns > before

    assert changes("one", lambda: os.mkdir("one/dir"))
    assert changes("one", lambda: os.rename("one/open", "one/renamed"))
    assert changes("two", lambda: os.rename("one/renamed", "two/moved"))
    assert changes("one", lambda: os.rmdir("one/dir"))
    assert not changes("two", lambda: os.write(descriptor, b"x"))
    assert not changes("two", lambda: os.close(descriptor))
    assert not changes("two", lambda: os.chmod("two/moved", 0o600))
    assert changes("two", lambda: os.unlink("two/moved"))
    os.utime("two", ns=(TIME_NS, TIME_NS))
    time.sleep(1.5)
    assert os.stat("two").st_mtime_ns == TIME_NS


def _check(names: Iterable[str]) -> None:
    names = list(names)
    for pause in (0.0, 1.5):  # at once, and when files are settled and the kernel's attributes have expired
        time.sleep(pause)
        for name in names:
            status = os.stat(name)
            assert (status.st_mode & 0o777, status.st_mtime_ns) == (0o600, TIME_NS), (
                name,
                oct(status.st_mode),
                status.st_mtime_ns,
            )
            assert os.getxattr(name, "user.late") == b"value"
            with open(name, "rb") as file:
                assert file.read() == b"bytes"
