"""The exit statuses of every command: scripts depend on the numbers, docs/operations.md lists them.

Owns no state; the command line reads it, and the supervisor, which is `fusecache mount --foreground` from a certain moment on.
"""

from __future__ import annotations

import enum

from fusecache.contract.errors import ErrorKind


class ExitStatus(enum.IntEnum):
    """Never renumber."""

    OK = 0
    FAILED = 1  # it ran, and not everything succeeded: files not warmed, a doctor's finding, a store's refusal of another kind
    USAGE = 2  # the command line or the configuration is wrong
    NOT_FOUND = 3  # no such bucket, path, mount point or mount
    DENIED = 4  # credentials or permissions
    UNAVAILABLE = 5  # the store or the mount does not answer
    TIMEOUT = 6  # not ready within --timeout
    BUSY = 7  # mounted already, or still in use
    NO_SPACE = 8  # a quota or a disk
    BUG = 70  # EX_SOFTWARE of sysexits.h
    INTERRUPTED = 130  # 128 + SIGINT, as shells count


_BY_KIND = {
    ErrorKind.INVALID: ExitStatus.USAGE,
    ErrorKind.NOT_FOUND: ExitStatus.NOT_FOUND,
    ErrorKind.DENIED: ExitStatus.DENIED,
    ErrorKind.UNAVAILABLE: ExitStatus.UNAVAILABLE,
    ErrorKind.TIMEOUT: ExitStatus.TIMEOUT,
    ErrorKind.BUSY: ExitStatus.BUSY,
    ErrorKind.NO_SPACE: ExitStatus.NO_SPACE,
    ErrorKind.NOT_A_DIRECTORY: ExitStatus.USAGE,
    ErrorKind.BUG: ExitStatus.BUG,
    ErrorKind.INTERRUPTED: ExitStatus.INTERRUPTED,
}


def exit_status_of(kind: ErrorKind) -> ExitStatus:
    """Return what a command that ended with an error of this kind exits with."""
    return _BY_KIND.get(kind, ExitStatus.FAILED)
