"""The log of a mount, kept from growing for ever: one file of a few MiB and its predecessor.

All processes of the mount write to it through descriptors of their own that append, so that it cannot be renamed away from them:
what is in it is copied and the file is cut to nothing. Lines written between the copy's last read and the cut are lost, which
is some microseconds in many hours. Called by the supervisor's loop.
"""

from __future__ import annotations

import contextlib
import logging
import os

from fusecache.contract.run_files import LOG_PREDECESSOR

log = logging.getLogger(__name__)

MAX_LOG_BYTES = 4 << 20  # of memory, often: run directories lie on tmpfs. 20,000 lines or so
CHECK_SECONDS = 5.0
LOG_NAME = " supervisor "  # in each of the supervisor's own lines of the log that children write to as well
_TAIL_BYTES = 16 << 10
_LONGEST_LINE = 300
_PIECE_BYTES = 256 << 10


def rotate_if_large(path: str, log_fd: int, max_bytes: int = MAX_LOG_BYTES) -> bool:
    """Begin anew if the log is larger than `max_bytes`; return whether it was. `log_fd` is open for writing."""
    size = os.fstat(log_fd).st_size
    if size <= max_bytes:
        return False
    try:
        _copy_end(path, os.path.join(os.path.dirname(path), LOG_PREDECESSOR), size - max_bytes, 2 * max_bytes)
    except OSError as error:  # a full disk: the more reason to cut it
        log.warning("the old log cannot be kept: %s", error)
    os.ftruncate(log_fd, 0)
    return True


def last_line_of_children(path: str) -> str:
    """Return the last thing that a child wrote; "" if there is none, or the log is not a file (`path` is "")."""
    with contextlib.suppress(OSError), open(path or os.devnull, "rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _TAIL_BYTES))
        for line in reversed(file.read().decode(errors="replace").splitlines()):
            if line.strip() and LOG_NAME not in line:
                return line.strip()[:_LONGEST_LINE]
    return ""


def _copy_end(path: str, target: str, start: int, most_bytes: int) -> None:
    """Copy from `start` to the end, which may move away while we read, but not for more than `most_bytes`. Raises OSError."""
    source_fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        target_fd = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            while most_bytes > 0 and (piece := os.pread(source_fd, min(most_bytes, _PIECE_BYTES), start)):
                start += len(piece)
                most_bytes -= len(piece)
                os.write(target_fd, piece)
        finally:
            os.close(target_fd)
    finally:
        os.close(source_fd)
