"""The native engine of one serve process: reading threads, resuming after a predecessor's death, and the end of the session.

State: the reading threads; everything that must survive is in the shared memory (request_slots.py, session.py). Each reading
thread reads into its own landing slot, answers hits at once, and parks misses (waiting.py); on the way of a hit there is no lock.
A WRITE that misses stays in its slot, and the thread goes on with another one.

The threads take turns (turn.py): one reads and answers, the others stand by for when it has to wait for a disk, or for custody.
"""

from __future__ import annotations

import errno
import logging
import mmap
import os
import select
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

from fusecache.contract.shared_memory import ANSWERING, MAX_ATTEMPTS, PAGE, Counter, Layout
from fusecache.fuse.filesystem_protocol import Buffer, Filesystem, Miss, MissClient, WritableFilesystem
from fusecache.fuse.native.device import Device
from fusecache.fuse.native.executor import Executor
from fusecache.fuse.native.interrupts import InterruptRelay
from fusecache.fuse.native.notify import Notifier
from fusecache.fuse.native.operations import Operations
from fusecache.fuse.native.protocol import IN_HEADER_BYTES, IN_HEADER_START, INTERRUPT_IN, InitFlag, Notify, Opcode
from fusecache.fuse.native.request_slots import LARGEST_PARKED_REQUEST, NO_ENTRY, LandingSlot, RequestSlots, Unanswered
from fusecache.fuse.native.session import Session
from fusecache.fuse.native.settings import EngineSettings, Favours
from fusecache.fuse.native.siblings import Siblings
from fusecache.fuse.native.turn import Turn
from fusecache.fuse.native.waiting import WaitingRequests
from fusecache.fuse.native.write_operations import WriteOperations

_log = logging.getLogger(__name__)

_READ = int(Opcode.READ)
_GO_ON = frozenset({errno.ENOENT, errno.EINTR, errno.EAGAIN})  # ENOENT: the request was interrupted before it was read
_ENDED = frozenset({errno.ENODEV, errno.ECONNABORTED, errno.ENOTCONN})


class NativeEngine:
    """Serves one /dev/fuse descriptor until the mount is gone.

    Args:
        fuse_fd: this process's descriptor (a clone when there are several). Stays the caller's.
        shared_memory: custody's memfd, mapped whole.
        favours: None: never passthrough.
    """

    def __init__(
        self,
        fuse_fd: int,
        shared_memory: mmap.mmap,
        layout: Layout,
        serve_index: int,
        filesystem: Filesystem,
        misses: MissClient,
        favours: Favours | None = None,
        settings: EngineSettings | None = None,
    ) -> None:
        self._settings = settings or EngineSettings()
        self._serve_index = serve_index
        self._device = Device(fuse_fd)
        page = layout.serve_counters(serve_index)
        self._counters = memoryview(shared_memory)[page : page + PAGE].cast("Q")
        self._readers = layout.readers
        self._slots = RequestSlots(shared_memory, layout, serve_index)
        self._session = Session(shared_memory, layout, self._device, self._settings)
        self._turn = Turn()
        filesystem.on_wait(self._turn.give)
        rows = Operations(filesystem, self._session, favours, self._counters, self._turn.give).rows
        rows[Opcode.INTERRUPT] = self._interrupt
        completion = None
        if self._settings.writes:
            writes = WriteOperations(
                cast("WritableFilesystem", filesystem), tuple(rows), self._slots, self._settings.checks_opens
            )
            for opcode, operation in writes.rows.items():
                rows[opcode] = operation
            completion = writes.complete
        self._executor = Executor(rows, self._device, self._counters, completion)
        self._waiting = WaitingRequests(self._slots, misses, filesystem, self._executor, self._device, self._counters)
        self._relay = InterruptRelay(
            shared_memory, layout, serve_index, self._waiting.interrupt, self._waiting.nonempty, lambda: len(self._waiting)
        )
        self._has_siblings = layout.serve_count > 1
        self._siblings = Siblings(memoryview(shared_memory), layout, serve_index)
        self._notifier = Notifier(self._device, filesystem)
        misses.on_invalidate(self._notifier.put)

    @property
    def waiting(self) -> WaitingRequests:
        return self._waiting

    def run(self, on_ready: Callable[[], None] = lambda: None) -> None:
        """Serve until the file system is unmounted or its connection aborted.

        `on_ready` is called once, from any thread: when INIT was answered or the session resumed. Only serve process 0 waits for
        INIT with that, as the kernel sends it to whoever reads first.
        Raises: OSError when the descriptor cannot be read at all."""
        sys.setswitchinterval(self._settings.switch_interval_seconds)
        self._slots.prefault()
        report_now = self._session.is_initialized or self._serve_index != 0
        if not report_now:
            self._session.on_initialized = on_ready
        self._replay()
        self._slots.open()
        if self._settings.resend and self._session.flags & InitFlag.HAS_RESEND:
            self._ask_resend()
        self._notifier.start()
        if self._has_siblings:
            threading.Thread(target=self._relay.run, name="interrupts", daemon=True).start()
        failures: list[OSError] = []
        threads = [
            threading.Thread(target=self._read_until_end, args=(failures,), name=f"reader-{reader}", daemon=True)
            for reader in range(self._readers)
        ]
        for thread in threads:
            thread.start()
        if report_now:
            on_ready()
        for thread in threads:
            thread.join()
        if failures:
            raise failures[0]

    def _read_until_end(self, failures: list[OSError]) -> None:
        slot = self._slots.take_slot()
        while True:
            gave_slot_away = False
            try:
                gave_slot_away = self._read_requests(slot)
                if not gave_slot_away:
                    return
            except OSError as error:
                failures.append(error)
                return
            except Exception:  # a defect in the engine itself; it must cost one request, not the mount
                _log.exception("a defect in the engine answers EIO; please report this")
                if slot.words[0]:
                    self._device.fail(slot.unique, errno.EIO)
            finally:
                self._turn.give()
            if gave_slot_away:
                slot = self._slots.take_slot()

    def _read_requests(self, slot: LandingSlot) -> bool:
        """The loop of a reading thread. Returns False when the session has ended, True if the slot was given away."""
        readv, fd, buffer, words = os.readv, self._device.fd, slot.buffer, slot.words
        target = (buffer,)
        unpack, execute, counters = IN_HEADER_START.unpack_from, self._executor.execute, self._counters
        requests, hits, hit_bytes = int(Counter.REQUESTS), int(Counter.HITS), int(Counter.HIT_BYTES)
        take_turn, look_for_request = self._turn.take, self._make_lookout()
        while True:
            take_turn()
            counters[ANSWERING] = 0
            look_for_request()
            try:
                readv(fd, target)  # blocks if there is nothing yet; of several waiting processes the kernel wakes one
            except OSError as error:
                words[0] = 0
                if error.errno in _ENDED:
                    return False
                if error.errno not in _GO_ON:
                    raise
                if error.errno == errno.EAGAIN:  # somebody made the descriptor non-blocking
                    select.select([fd], [], [])
                continue
            counters[ANSWERING] = 1
            length, opcode, unique, inode = unpack(buffer)
            counters[requests] += 1
            try:
                size = execute(buffer, length, opcode, unique, inode)
                if opcode == _READ and size:
                    counters[hits] += 1
                    counters[hit_bytes] += size
            except Miss as miss:
                if length > LARGEST_PARKED_REQUEST:
                    self._waiting.park(bytes(buffer[:length]), opcode, unique, inode, miss, entry=self._slots.stay(slot))
                    return True
                self._waiting.park(bytes(buffer[:length]), opcode, unique, inode, miss)
            words[0] = 0

    def _make_lookout(self) -> Callable[[], None]:
        """Return what a thread does before it sleeps: look for the next request a while, unless somebody else needs the core."""
        spin_seconds, calm_seconds = self._settings.spin_seconds, self._settings.calm_seconds
        queue = select.poll()
        queue.register(self._device.fd, select.POLLIN)
        has_request, clock, give_way, is_busy = queue.poll, time.perf_counter, os.sched_yield, self._siblings.is_one_answering
        calm_until = 0.0

        def look() -> None:
            nonlocal calm_until
            if has_request(0):
                return
            now = clock()
            if is_busy():
                calm_until = now + calm_seconds
            elif now >= calm_until:
                deadline = now + spin_seconds
                while clock() < deadline and not has_request(0):
                    give_way()

        return look if spin_seconds else lambda: None

    def _replay(self) -> None:
        """Take up what the predecessor took and perhaps did not answer. Answering twice is harmless: the kernel says ENOENT."""
        for left in self._slots.unanswered():
            self._counters[Counter.REPLAYED] += 1
            self._replay_one(left)

    def _replay_one(self, left: Unanswered) -> None:
        length, opcode, unique, inode = IN_HEADER_START.unpack_from(left.request)
        if left.slot is not None:
            left.slot.attempts = left.attempts
        else:
            self._slots.set_attempts(left.entry, left.attempts)
            self._slots.set_running(left.entry, True)
        entry, parked = left.entry, False
        if left.errno:
            self._device.fail(unique, left.errno)
        elif left.attempts + 1 >= MAX_ATTEMPTS:
            _log.error("request %d (opcode %d, inode %d) ended %d processes; answering EIO", unique, opcode, inode, left.attempts)
            self._counters[Counter.POISONED] += 1
            self._executor.fail(opcode, unique, errno.EIO)
        else:
            try:
                self._executor.execute(left.request, length, opcode, unique, inode)
            except Miss as miss:
                parked = True
                if left.slot is not None and length > LARGEST_PARKED_REQUEST:
                    entry = self._slots.stay(left.slot)
                self._waiting.park(left.request, opcode, unique, inode, miss, left.attempts, entry)
        if left.slot is not None and entry == NO_ENTRY:
            left.slot.empty()
        elif not parked:
            self._slots.clear(entry)

    def _ask_resend(self) -> None:
        try:
            self._device.notify(Notify.RESEND)
        except OSError as error:
            _log.error("the kernel does not send lost requests again (%s); readers that wait for them have to be killed", error)

    def _interrupt(self, request: Buffer, length: int, unique: int, inode: int) -> Sequence[Buffer] | None:
        """Operation for INTERRUPT; it has no answer."""
        self._relay.handle(INTERRUPT_IN.unpack_from(request, IN_HEADER_BYTES)[0])
        return None
