"""Writing to /dev/fuse: answers, error answers, notifications. Holds the descriptor (owned by the caller); any thread may call.

One message is one writev, which the kernel takes whole or not at all.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Sequence

from fusecache.fuse.filesystem_protocol import Buffer
from fusecache.fuse.native.protocol import OUT_HEADER, OUT_HEADER_BYTES, Notify

_log = logging.getLogger(__name__)

# ENOENT: the request ended without us: interrupted, answered before a death, or requeued by RESEND. ENODEV, ECONNABORTED, EPERM:
# the connection is gone, which the reading threads find out for themselves.
_NOT_WANTED = frozenset({errno.ENOENT, errno.ENODEV, errno.ECONNABORTED, errno.EPERM, errno.ENOTCONN})

# How much of a large answer one writev may carry; UIO_MAXIOV is 1024 including the header.
_MAX_PIECES = 1000


class Device:
    """One /dev/fuse descriptor (a clone, when several serve processes share the mount)."""

    __slots__ = ("fd",)

    def __init__(self, fd: int) -> None:
        self.fd = fd

    def reply(self, unique: int, pieces: Sequence[Buffer]) -> int:
        """Answer with a payload; return its bytes. An answer that nobody waits for any more is dropped."""
        size = len(pieces[0]) if len(pieces) == 1 else sum(map(len, pieces))
        self._deliver(unique, pieces, size)
        return size

    def deliver(self, unique: int, pieces: Sequence[Buffer]) -> bool:
        """As `reply`; return whether the kernel took the answer. If not, the request may come again, by RESEND."""
        return self._deliver(unique, pieces, sum(map(len, pieces)))

    def _deliver(self, unique: int, pieces: Sequence[Buffer], size: int) -> bool:
        if len(pieces) > _MAX_PIECES:
            pieces = [b"".join(pieces)]
        try:
            os.writev(self.fd, (OUT_HEADER.pack(OUT_HEADER_BYTES + size, 0, unique), *pieces))
        except OSError as error:
            if error.errno not in _NOT_WANTED:
                # The kernel found the answer malformed, and goes on waiting: give it one that it understands.
                _log.error("the kernel refused an answer of %d bytes: %s; answering EIO instead", size, error)
                self.fail(unique, errno.EIO)
            return False
        return True

    def fail(self, unique: int, error_number: int) -> None:
        """Answer with an errno (positive)."""
        try:
            os.write(self.fd, OUT_HEADER.pack(OUT_HEADER_BYTES, -error_number, unique))
        except OSError as error:
            if error.errno not in _NOT_WANTED:
                _log.error("the kernel refused errno %d as an answer: %s", error_number, error)

    def notify(self, code: Notify, payload: bytes = b"") -> None:
        """Send a message that answers nothing. Blocks while a READ or LOOKUP of the object is unanswered.

        Raises: OSError; ENOENT is normal (the kernel does not know the inode or name)."""
        os.writev(self.fd, (OUT_HEADER.pack(OUT_HEADER_BYTES + len(payload), code, 0), payload))
