"""INTERRUPT requests between the serve processes of one mount.

The kernel has one queue of interrupts for all clones of a connection: any serve process may read the INTERRUPT of a request that
a sibling holds, but only the sibling's descriptor may answer that request. So the reader of the INTERRUPT looks for the request
in the siblings' slots and tables, which all share, and leaves its unique in the sibling's mailbox; the sibling looks into its
mailbox several times a second while requests wait for fetch there.

State: the mailboxes, in the upper part of each serve process's counter page. Box of process O: for each writer W a strip of
cells, each 0 or a unique. W fills empty cells of its own strip, O empties them: one writer for each change, no lock.
"""

from __future__ import annotations

import logging
import mmap
import threading
import time
from collections.abc import Callable

from fusecache.contract.shared_memory import PAGE, Layout
from fusecache.fuse.native.request_slots import RequestSlots

_log = logging.getLogger(__name__)

_BOX_OFFSET = 1024  # bytes into the counter page; counters end at 512
_BOX_CELLS = (PAGE - _BOX_OFFSET) // 8
_LOOK_SECONDS = 0.05  # what a killed reader waits at most, when another process read its INTERRUPT: a guess
_UNDELIVERED_LIMIT = 4096


class InterruptRelay:
    """Delivers interrupts to siblings, and siblings' interrupts to us.

    `interrupt` is WaitingRequests.interrupt; `nonempty` and `count_waiting` say when to look."""

    def __init__(
        self,
        memory: mmap.mmap,
        layout: Layout,
        serve_index: int,
        interrupt: Callable[[int], bool],
        nonempty: threading.Event,
        count_waiting: Callable[[], int],
    ) -> None:
        self._memory = memory
        self._layout = layout
        self._index = serve_index
        self._interrupt = interrupt
        self._nonempty = nonempty
        self._count_waiting = count_waiting
        self._strip_cells = _BOX_CELLS // layout.serve_count
        self._boxes = [self._box(index) for index in range(layout.serve_count)]
        self._siblings: dict[int, RequestSlots] = {}
        self._undelivered: list[tuple[int, int]] = []

    def _box(self, serve_index: int) -> memoryview:
        start = self._layout.serve_counters(serve_index) + _BOX_OFFSET
        return memoryview(self._memory)[start : start + 8 * _BOX_CELLS].cast("Q")

    def handle(self, unique: int) -> None:
        """An INTERRUPT for `unique` was read here: act on it, or hand it to whoever holds the request.

        If nobody does, the request was answered already; INTERRUPT itself needs no answer. (EAGAIN would have it queued again,
        which is for servers that may see an INTERRUPT before its request. Here a request is visible in its slot before that.)"""
        if self._interrupt(unique) or self._layout.serve_count == 1:
            return
        for index in range(self._layout.serve_count):
            if index == self._index:
                continue
            if index not in self._siblings:
                self._siblings[index] = RequestSlots(self._memory, self._layout, index)
            sibling = self._siblings[index]
            if sibling.holds(unique) or sibling.is_parked(unique):
                if not self._post(index, unique) and len(self._undelivered) < _UNDELIVERED_LIMIT:
                    self._undelivered.append((index, unique))
                    self._nonempty.set()
                return

    def _post(self, index: int, unique: int) -> bool:
        box = self._boxes[index]
        first = self._index * self._strip_cells
        for cell in range(first, first + self._strip_cells):
            if not box[cell]:
                box[cell] = unique
                return True
        return False

    def look(self) -> None:
        """Act on what siblings left in our box, and try again what found a full one."""
        box = self._boxes[self._index]
        for cell in range(len(box)):
            unique = box[cell]
            if unique:
                self._interrupt(unique)
                box[cell] = 0
        again, self._undelivered = self._undelivered, []
        for index, unique in again:
            if not self._post(index, unique):
                self._undelivered.append((index, unique))

    def run(self) -> None:
        """Look for ever (a daemon thread, started only when there are siblings)."""
        while True:
            self._nonempty.wait()
            self._nonempty.clear()
            while self._count_waiting() or self._undelivered:
                time.sleep(_LOOK_SECONDS)
                self.look()
