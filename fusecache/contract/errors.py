"""The error kinds of the project, with the four ways each is answered.

Code raises `CacheError(kind, message) from cause`. Only these read the table: the FUSE reply (errno), the gRPC
interceptor (status name), the operator (temporary or permanent) and the retry loop of fetch (retry).
A message is one sentence for the person who has to act: what happened, to what, and what can be done.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self


class Retry(enum.Enum):
    """What the retry loop does with an error of this kind."""

    NO = "no"
    YES = "yes"
    REOPEN = "reopen"  # the object was replaced: look the name up again
    REFETCH_ONCE = "refetch once"


class ErrorKind(enum.IntEnum):
    """Values travel in messages between processes: never renumber."""

    INVALID = 1
    NOT_FOUND = 2
    EXISTS = 3
    DENIED = 4
    READ_ONLY = 5
    UNSUPPORTED = 6
    UNAVAILABLE = 7  # network, 5xx, throttling: the store may answer later
    TIMEOUT = 8
    BUSY = 9
    NO_SPACE = 10
    STALE = 11  # the object was replaced or deleted since its version was recorded
    CORRUPT = 12
    BUG = 13
    NOT_A_DIRECTORY = 14
    IS_A_DIRECTORY = 15
    NAME_TOO_LONG = 16
    NO_ATTRIBUTE = 17
    INTERRUPTED = 18
    NOT_EMPTY = 19
    NOT_PERMITTED = 20
    CROSS_DEVICE = 21


@dataclass(frozen=True, slots=True)
class Answer:
    """One row of the table."""

    errno: int
    grpc_status: str
    retry: Retry


ANSWERS: dict[ErrorKind, Answer] = {
    ErrorKind.INVALID: Answer(errno.EINVAL, "INVALID_ARGUMENT", Retry.NO),
    ErrorKind.NOT_FOUND: Answer(errno.ENOENT, "NOT_FOUND", Retry.NO),
    ErrorKind.EXISTS: Answer(errno.EEXIST, "ALREADY_EXISTS", Retry.NO),
    ErrorKind.DENIED: Answer(errno.EACCES, "PERMISSION_DENIED", Retry.NO),
    ErrorKind.READ_ONLY: Answer(errno.EROFS, "FAILED_PRECONDITION", Retry.NO),
    ErrorKind.UNSUPPORTED: Answer(errno.EOPNOTSUPP, "UNIMPLEMENTED", Retry.NO),
    ErrorKind.UNAVAILABLE: Answer(errno.EIO, "UNAVAILABLE", Retry.YES),
    ErrorKind.TIMEOUT: Answer(errno.ETIMEDOUT, "DEADLINE_EXCEEDED", Retry.YES),
    ErrorKind.BUSY: Answer(errno.EBUSY, "ABORTED", Retry.YES),
    ErrorKind.NO_SPACE: Answer(errno.ENOSPC, "RESOURCE_EXHAUSTED", Retry.YES),
    ErrorKind.STALE: Answer(errno.ESTALE, "ABORTED", Retry.REOPEN),
    ErrorKind.CORRUPT: Answer(errno.EIO, "DATA_LOSS", Retry.REFETCH_ONCE),
    ErrorKind.BUG: Answer(errno.EIO, "INTERNAL", Retry.NO),
    ErrorKind.NOT_A_DIRECTORY: Answer(errno.ENOTDIR, "INVALID_ARGUMENT", Retry.NO),
    ErrorKind.IS_A_DIRECTORY: Answer(errno.EISDIR, "INVALID_ARGUMENT", Retry.NO),
    ErrorKind.NAME_TOO_LONG: Answer(errno.ENAMETOOLONG, "INVALID_ARGUMENT", Retry.NO),
    ErrorKind.NO_ATTRIBUTE: Answer(errno.ENODATA, "NOT_FOUND", Retry.NO),
    ErrorKind.INTERRUPTED: Answer(errno.EINTR, "CANCELLED", Retry.NO),
    ErrorKind.NOT_EMPTY: Answer(errno.ENOTEMPTY, "FAILED_PRECONDITION", Retry.NO),
    ErrorKind.NOT_PERMITTED: Answer(errno.EPERM, "FAILED_PRECONDITION", Retry.NO),
    ErrorKind.CROSS_DEVICE: Answer(errno.EXDEV, "INVALID_ARGUMENT", Retry.NO),
}


class CacheError(Exception):
    """The one exception that crosses module borders.

    Attributes:
        kind: which row of `ANSWERS` applies.
        retry_after_seconds: what the store asked for (Retry-After), or None.
        is_throttled: the store said that it is asked too much.
    """

    def __init__(
        self, kind: ErrorKind, message: str, *, retry_after_seconds: float | None = None, is_throttled: bool = False
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.retry_after_seconds = retry_after_seconds
        self.is_throttled = is_throttled

    def without_origin(self) -> Self:
        """Let go of the frames it came through and of what caused it, and return it: for an error that goes on elsewhere as an
        answer. One that a frame keeps in a local variable would else keep that frame, with its buffers, until the next garbage
        collection."""
        self.__traceback__ = self.__cause__ = self.__context__ = None
        return self

    @property
    def errno(self) -> int:
        return ANSWERS[self.kind].errno

    @property
    def is_retryable(self) -> bool:
        return ANSWERS[self.kind].retry is Retry.YES


def not_ready_in_time(sources: Sequence[str], timeout_seconds: float) -> CacheError:
    """Return what a mount that takes too long ends with. `sources`: URLs."""
    doctor = f"fusecache doctor {sources[0] if len(sources) == 1 else 'SOURCE'}"
    what = f"the mount of {' and '.join(sources)} was not ready within {timeout_seconds:g} s"
    return CacheError(ErrorKind.TIMEOUT, f"{what}; see whether the source answers ({doctor}), or raise --timeout")
