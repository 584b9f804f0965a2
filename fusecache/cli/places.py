"""Where the files of a mount lie on this machine, and that nobody else can reach them.

Owns no state. `Places` is built once, by the command that runs, from the environment; below it nobody reads the environment.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody.mount_table import run_root


class Places(NamedTuple):
    """Directories of one user.

    Attributes:
        uid, gid: who mounts.
        cache_home: the XDG cache directory: state directories, and the default tier on disk.
        run_base: parent of the run directories of all mounts of this user.
        shared_memory: where the default MEM tier lies.
        environment: as the process was started with; passed on to the supervisor.
    """

    uid: int
    gid: int
    cache_home: str
    run_base: str
    environment: Mapping[str, str]
    shared_memory: str = "/dev/shm"

    @classmethod
    def of_process(cls) -> Places:
        """Return the places of the user who runs this process. Called by commands only."""
        return places_of(os.geteuid(), os.getegid(), dict(os.environ))

    def run_dir(self, mountpoint: str) -> str:
        """Return the run directory of a mount point (absolute, without symbolic links)."""
        digest = hashlib.blake2b(os.fsencode(mountpoint), digest_size=8).hexdigest()
        return os.path.join(self.run_base, digest)


def places_of(uid: int, gid: int, environment: Mapping[str, str]) -> Places:
    """Return the places the XDG base directory specification gives a user."""
    runtime = environment.get("XDG_RUNTIME_DIR", "")
    run_base = run_root(uid, runtime if os.path.isabs(runtime) else None)
    return Places(uid, gid, _cache_home(uid, environment), run_base, environment)


def _cache_home(uid: int, environment: Mapping[str, str]) -> str:
    named = environment.get("XDG_CACHE_HOME", "")
    if os.path.isabs(named):  # the specification: a relative one is ignored
        return named
    home = environment.get("HOME", "")
    if os.path.isabs(home):
        return os.path.join(home, ".cache")
    if uid == 0:  # a service without HOME
        return "/var/cache"
    import pwd

    with contextlib.suppress(KeyError):
        return os.path.join(pwd.getpwuid(uid).pw_dir, ".cache")
    raise CacheError(
        ErrorKind.INVALID, "neither XDG_CACHE_HOME nor HOME is set; name a directory for the cache with -o cache_dir=PATH"
    )


class CreatedDirectories:
    """The directories a command made, so that a command that fails takes them away again."""

    def __init__(self) -> None:
        self._paths: list[str] = []

    def add(self, path: str) -> None:
        self._paths.append(path)

    def remove(self) -> None:
        """Remove what was made since the start, with what our own processes put into it."""
        import shutil

        while self._paths:
            shutil.rmtree(self._paths.pop(), ignore_errors=True)


def make_private_directories(base: str, components: tuple[str, ...], uid: int, created: CreatedDirectories) -> str:
    """Make `base`/components... with mode 0700 where missing, and return the path.

    No component below `base` may be a symbolic link, belong to somebody else or be writable by others: whoever can write a
    cache directory decides what readers see. `base` itself must exist (it may be shared, like /dev/shm, if it is sticky).

    Raises: CacheError(NOT_FOUND, DENIED, NO_SPACE).
    """
    fd = _open_base(base, uid)
    path = base
    try:
        for component in components:
            path = os.path.join(path, component)
            try:
                os.mkdir(component, 0o700, dir_fd=fd)
                created.add(path)
            except FileExistsError:
                pass
            child = os.open(component, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
            os.close(fd)
            fd = child
            _check_private(path, os.fstat(fd), uid)
    except OSError as error:
        raise _directory_error(path, error) from error
    finally:
        os.close(fd)
    return path


def _open_base(base: str, uid: int) -> int:
    try:
        fd = os.open(base, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise _directory_error(base, error) from error
    status = os.fstat(fd)
    if status.st_uid not in (uid, 0) and not status.st_mode & stat.S_ISVTX:
        os.close(fd)
        raise CacheError(
            ErrorKind.DENIED,
            f"{base} belongs to uid {status.st_uid}, who could replace the cache in it; use a directory of your own",
        )
    if status.st_mode & stat.S_IWOTH and not status.st_mode & stat.S_ISVTX:
        os.close(fd)
        raise CacheError(
            ErrorKind.DENIED,
            f"{base} is writable by everybody, who could replace the cache in it; chmod o-w {base}, or chmod +t {base}",
        )
    return fd


def _check_private(path: str, status: os.stat_result, uid: int) -> None:
    if status.st_uid != uid:
        raise CacheError(
            ErrorKind.DENIED, f"{path} belongs to uid {status.st_uid}, not to you; remove it or use another directory"
        )
    if status.st_mode & 0o022:
        raise CacheError(
            ErrorKind.DENIED,
            f"{path} is writable by others, who could change what readers see; remove it, or check its contents and chmod 700 it",
        )


def _directory_error(path: str, error: OSError) -> CacheError:
    number = error.errno or 0
    if number == errno.ENOENT:
        return CacheError(ErrorKind.NOT_FOUND, f"directory {path} does not exist; create it")
    if number in (errno.ENOTDIR, errno.ELOOP):
        return CacheError(
            ErrorKind.DENIED, f"{path} is not a directory (or is a symbolic link); remove it or use another directory"
        )
    if number in (errno.ENOSPC, errno.EDQUOT):
        return CacheError(
            ErrorKind.NO_SPACE,
            f"directory {path} cannot be made: {os.strerror(number)}; free some space or use another directory",
        )
    return CacheError(ErrorKind.DENIED, f"directory {path} cannot be used: {os.strerror(number)}; use one that you may write")
