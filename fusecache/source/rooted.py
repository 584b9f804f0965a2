"""A directory of this machine below which no path leads out: walked one component at a time, from its descriptor, with
O_NOFOLLOW.

Owns the descriptor of the root; the file source and its writer share it, from any thread.
"""

from __future__ import annotations

import errno
import os

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.posix_entry import error_of

DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class RootedDirectory:
    """Invariant: no system call follows a symbolic link below the root."""

    def __init__(self, root: bytes) -> None:
        """Raises: INVALID, NOT_FOUND, DENIED."""
        self.url = "file://" + os.fsdecode(root)
        self.fd = -1
        try:
            # The root itself may be a symbolic link: the user chose it.
            self.fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            if error.errno == errno.ENOTDIR:
                raise CacheError(ErrorKind.INVALID, f"{self.url} is not a directory; name the directory that holds it") from error
            if error.errno == errno.ENOENT:
                cure = "check the path, and whether its disk is mounted"
                raise CacheError(ErrorKind.NOT_FOUND, f"{self.url} does not exist; {cure}") from error
            raise error_of(error.errno or 0, f"cannot open {self.url}", error.strerror or "") from error

    def open(self, components: list[bytes], flags: int, mode: int = 0) -> int:
        """Open a path below the root, one component at a time, so that no component may be a symbolic link. Raises OSError."""
        if not components:
            return os.open(b".", flags, dir_fd=self.fd)
        fd = self.fd
        try:
            for component in components[:-1]:
                child = os.open(component, DIRECTORY_FLAGS, dir_fd=fd)
                if fd != self.fd:
                    os.close(fd)
                fd = child
            return os.open(components[-1], flags, mode, dir_fd=fd)
        finally:
            if fd != self.fd:
                os.close(fd)

    def open_directory(self, components: list[bytes]) -> int:
        return self.open(components, DIRECTORY_FLAGS)

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def place(self, path: bytes) -> str:
        return f"{self.url}/{os.fsdecode(path)}"

    def error(self, error: OSError, verb: str, path: bytes) -> CacheError:
        return error_of(error.errno or 0, f"cannot {verb} {self.place(path)}", error.strerror or "")
