"""Running one request to its answer: the operation, its errors, and the counters.

Called from reading threads and from the miss client's answer thread, without locks. The counter page is this process's own; an
in-place addition to a memoryview item has no point at which CPython hands the interpreter to another thread, so none is lost.
"""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Sequence

from fusecache.contract.errors import CacheError
from fusecache.contract.messages import Answer
from fusecache.contract.shared_memory import Counter
from fusecache.fuse.filesystem_protocol import Buffer, Miss
from fusecache.fuse.native.device import Device
from fusecache.fuse.native.operations import Operation, Refused
from fusecache.fuse.native.protocol import OPCODE_LIMIT, Opcode

_log = logging.getLogger(__name__)

Completion = Callable[[Buffer, int, int, int, int, Miss, Answer], Sequence[Buffer] | None]

_READ = int(Opcode.READ)
# Error answers that speak of trouble rather than of the question. ENOENT, EROFS, ENODATA, ENOSYS and the like are ordinary
# answers.
_TROUBLE = frozenset({errno.EIO, errno.ETIMEDOUT, errno.ENOSPC, errno.EBUSY})


class Executor:
    """Runs operations. `rows` is the operation of each opcode below OPCODE_LIMIT."""

    def __init__(
        self, rows: Sequence[Operation], device: Device, counters: memoryview, completion: Completion | None = None
    ) -> None:
        """`completion` answers a request whose change was made (write_operations.py)."""
        self._rows = rows
        self._completion = completion
        self._device = device
        self._counters = counters
        self._logged: set[tuple[int, type[Exception]]] = set()

    def execute(self, request: Buffer, length: int, opcode: int, unique: int, inode: int) -> int:
        """Run and answer one request; return how many bytes the answer's payload had. Raises: Miss, and then nothing was
        answered."""
        try:
            pieces = self._rows[opcode if opcode < OPCODE_LIMIT else 0](request, length, unique, inode)
        except Miss:
            raise
        except Exception as error:
            self._answer_error(opcode, unique, error)
        else:
            if pieces is not None:
                return self._device.reply(unique, pieces)
        return 0

    def complete(self, request: Buffer, length: int, opcode: int, unique: int, inode: int, miss: Miss, answer: Answer) -> bool:
        """As `execute`, for a request whose miss was a change that has been made. Return whether the kernel took the answer.
        Raises: Miss for its next step."""
        assert self._completion is not None
        try:
            pieces = self._completion(request, length, opcode, unique, inode, miss, answer)
        except Miss:
            raise
        except Exception as error:
            self._answer_error(opcode, unique, error)
            return False
        return pieces is not None and self._device.deliver(unique, pieces)

    def _answer_error(self, opcode: int, unique: int, error: Exception) -> None:
        if isinstance(error, Refused):
            self._device.fail(unique, error.errno)
        elif isinstance(error, CacheError):
            _log.debug("errno %d: %s", error.errno, error)
            self.fail(opcode, unique, error.errno)
        else:
            self.report(opcode, error)
            self.fail(opcode, unique, errno.EIO)

    def fail(self, opcode: int, unique: int, error_number: int) -> None:
        """Answer with an errno and count it."""
        if opcode == _READ:
            if error_number != errno.EINTR:
                self._counters[Counter.READ_ERRORS] += 1
        elif error_number in _TROUBLE:
            self._counters[Counter.OTHER_ERRORS] += 1
        self._device.fail(unique, error_number)

    def report(self, opcode: int, error: Exception) -> None:
        """Log an exception that should not be: the first of its kind with its traceback, later ones without."""
        kind = (opcode, type(error))
        first = kind not in self._logged
        self._logged.add(kind)
        name = Opcode(opcode).name if opcode in Opcode.__members__.values() else str(opcode)
        if first:
            _log.error("a defect answers %s with EIO; please report this", name, exc_info=error)
        else:
            _log.debug("again %s: %r", name, error)
