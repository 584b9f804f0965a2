"""Staging and target paths: only below roots that were allowed, never through a symbolic link, whoever swaps what meanwhile.

A path is resolved once, by the kernel (openat2), and from then on it is a descriptor that is worked on. Nothing here looks into
what is mounted at a target: O_PATH asks no file system.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from csi.errors import RpcError, invalid, not_found, refused
from csi.mounting import syscalls
from csi.volumes.fields import MAX_PATH_BYTES

_RESOLVE = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS | syscalls.RESOLVE_BENEATH
_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class Place:
    """Where something is or will be mounted: a name in an open directory. `path`: for people."""

    parent_fd: int
    name: str
    path: str

    @property
    def by_descriptor(self) -> str:
        """A path that leads there whatever happens to the directories above."""
        return f"/proc/self/fd/{self.parent_fd}/{self.name}"

    def open(self) -> int | None:
        """Return a descriptor of the directory there (of the root of what is mounted on it); None if there is nothing.

        Raises: INVALID_ARGUMENT for anything else than a directory."""
        try:
            return syscalls.openat2(self.parent_fd, self.name, _DIRECTORY, _RESOLVE & ~syscalls.RESOLVE_BENEATH)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return None
            raise _refusal(self.path, error) from error

    def exists(self) -> bool:
        """Raises: INVALID_ARGUMENT for anything else than a directory."""
        fd = self.open()
        if fd is not None:
            os.close(fd)
        return fd is not None

    def make(self) -> int:
        """Return a descriptor of the directory there, made if it is missing. Raises: RpcError."""
        for _ in range(2):
            fd = self.open()
            if fd is not None:
                return fd
            with contextlib.suppress(FileExistsError):
                try:
                    os.mkdir(self.name, 0o750, dir_fd=self.parent_fd)
                except FileExistsError:
                    raise
                except OSError as error:
                    raise refused(f"directory {self.path} cannot be made: {error.strerror}") from error
        raise refused(f"directory {self.path} comes and goes: somebody else is at work there")

    def remove(self) -> None:
        """Remove the empty directory there, if there is one. Raises: FAILED_PRECONDITION."""
        try:
            os.rmdir(self.name, dir_fd=self.parent_fd)
        except FileNotFoundError:
            pass
        except OSError as error:
            raise refused(f"directory {self.path} cannot be removed: {error.strerror}; look at what is in it") from error


class Roots:
    """Directories below which the driver may mount and make directories."""

    def __init__(self, roots: Sequence[str]) -> None:
        self._roots = tuple(dict.fromkeys(root for given in roots for root in (os.path.abspath(given), os.path.realpath(given))))

    @contextlib.contextmanager
    def place(self, path: str, field: str) -> Iterator[Place]:
        """Yield where a path leads. Raises: INVALID_ARGUMENT; NOT_FOUND if a directory above it is missing."""
        root, below = self._split(path, field)
        parent, _, name = below.rpartition("/")
        try:
            root_fd = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise not_found(f"{field}: the allowed root {root} cannot be opened: {error.strerror}") from error
        try:
            parent_fd = syscalls.openat2(root_fd, parent or ".", os.O_PATH | os.O_DIRECTORY, _RESOLVE)
        except OSError as error:
            if error.errno == errno.ENOENT:
                raise not_found(f"{field} {path}: the directory above it is missing; the caller makes it") from error
            raise _refusal(path, error) from error
        finally:
            os.close(root_fd)
        try:
            yield Place(parent_fd, name, path)
        finally:
            os.close(parent_fd)

    def _split(self, path: str, field: str) -> tuple[str, str]:
        if not path:
            raise invalid(f"{field} is missing")
        if len(path.encode(errors="surrogateescape")) > MAX_PATH_BYTES or "\0" in path:
            raise invalid(f"{field} is no path: it is too long, or holds a NUL")
        parts = path.split("/")
        if parts[0] or any(part in (".", "..") for part in parts):
            raise invalid(f"{field} {path!r} is not absolute, or goes up")
        plain = "/" + "/".join(part for part in parts if part)
        for root in self._roots:
            if plain.startswith(root.rstrip("/") + "/"):
                return root, plain[len(root.rstrip("/")) + 1 :]
        raise invalid(f"{field} {path!r} lies below none of {', '.join(self._roots)}; allow its directory with --allowed-root")


def _refusal(path: str, error: OSError) -> RpcError:
    if error.errno in (errno.ELOOP, errno.EXDEV):
        return invalid(f"{path} leads through a symbolic link: name a path without any")
    if error.errno == errno.ENOTDIR:
        return invalid(f"{path} is not a directory, or lies below a file")
    if error.errno == errno.ENAMETOOLONG:
        return invalid(f"{path[:100]}... has a name that is too long")
    return refused(f"{path} cannot be opened: {error.strerror}")
