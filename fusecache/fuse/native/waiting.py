"""Requests that wait for fetch: parked in the shared table, answered when the miss is, or when their reader is interrupted.

State: the waiters by unique (without the resend bit), and the uniques interrupted while a thread was still working on them.
Reading threads park and interrupt, the miss client's answer thread answers; `_lock` guards the two collections and each waiter's
`busy` and `interrupted`, and is never held across a call of the miss client, the filesystem or the kernel.

Invariant: a request that is in no landing slot and is not answered is in `_waiters`; it is put there before its slot is cleared.
"""

from __future__ import annotations

import errno
import functools
import logging
import threading

from fusecache.contract.errors import ANSWERS, ErrorKind
from fusecache.contract.messages import STATUS_BOUNCE, STATUS_OK, Answer, Op, Request
from fusecache.contract.shared_memory import Counter
from fusecache.fuse.filesystem_protocol import Filesystem, Miss, MissClient
from fusecache.fuse.native.device import Device
from fusecache.fuse.native.executor import Executor
from fusecache.fuse.native.protocol import UNIQUE_RESEND, Opcode
from fusecache.fuse.native.request_slots import LARGEST_PARKED_REQUEST, NO_ENTRY, RequestSlots

_log = logging.getLogger(__name__)

_READ = int(Opcode.READ)
_CHANGES = frozenset({Op.CHANGE, Op.SYNC})
# A request whose miss is answered OK this often, and misses again each time, will not end by itself. Listings that come to long
# runs of empty pages may take many rounds; ten thousand is beyond any of them.
_MAX_ROUNDS = 10_000
_MAX_REMEMBERED_INTERRUPTS = 4096


class _Waiter:
    __slots__ = ("busy", "delivered", "entry", "inode", "interrupted", "miss", "opcode", "request", "rounds", "token", "unique")

    def __init__(self, request: bytes, opcode: int, unique: int, inode: int, miss: Miss, entry: int) -> None:
        self.request = request
        self.opcode = opcode
        self.unique = unique
        self.inode = inode
        self.entry = entry
        self.miss = miss
        self.token = 0  # 0: not submitted yet
        self.rounds = 0
        self.busy = False  # the answer thread runs it now
        self.interrupted = False
        self.delivered = False  # the answer to a change

    @property
    def key(self) -> int:
        return self.unique & ~UNIQUE_RESEND


class WaitingRequests:
    """All requests of this serve process that wait for fetch.

    Attributes:
        unprotected: how often a request had to wait without an entry in the table (full, or too long for one). If serve dies
            meanwhile, only RESEND brings it back.
        nonempty: set when a request is parked; for whoever has to do something only while there are some.
    """

    def __init__(
        self,
        slots: RequestSlots,
        misses: MissClient,
        filesystem: Filesystem,
        executor: Executor,
        device: Device,
        counters: memoryview,
    ) -> None:
        self._slots = slots
        self._misses = misses
        self._filesystem = filesystem
        self._executor = executor
        self._device = device
        self._counters = counters
        self._lock = threading.Lock()
        self._waiters: dict[int, _Waiter] = {}
        self._interrupted: set[int] = set()
        self.unprotected = 0
        self.nonempty = threading.Event()

    def __len__(self) -> int:
        return len(self._waiters)

    def park(
        self, request: bytes, opcode: int, unique: int, inode: int, miss: Miss, attempts: int = 0, entry: int = NO_ENTRY
    ) -> None:
        """Let a request wait for its miss. `entry`: where it is parked already (a replay). The caller clears its landing slot
        after."""
        if entry == NO_ENTRY:
            entry = self._slots.park(request, unique, attempts)
            if entry == NO_ENTRY:
                if not self.unprotected and len(request) <= LARGEST_PARKED_REQUEST:
                    _log.warning("the table of parked requests is full (%d wait); further ones wait without an entry", len(self))
                self.unprotected += 1
        else:
            self._slots.set_running(entry, False)
        if opcode == _READ:
            self._counters[Counter.MISSES] += 1
        waiter = _Waiter(request, opcode, unique, inode, miss, entry)
        with self._lock:
            older = self._waiters.pop(waiter.key, None)  # RESEND brought again what waits here already
            waiter.interrupted = waiter.key in self._interrupted
            self._interrupted.discard(waiter.key)
            if not waiter.interrupted:
                self._waiters[waiter.key] = waiter
        if older is not None:
            self._forget(older)
        if waiter.interrupted:
            self._end(waiter, errno.EINTR)
            return
        self.nonempty.set()
        self._submit(waiter, miss)

    def interrupt(self, unique: int) -> bool:
        """Answer a waiting request with EINTR. False: it neither waits nor is worked on in this process."""
        key = unique & ~UNIQUE_RESEND
        with self._lock:
            waiter = self._waiters.get(key)
            if waiter is None:
                if not self._slots.holds(unique):
                    return False
                # A reading thread works on it: it will answer in a moment, or park it and see this.
                if len(self._interrupted) >= _MAX_REMEMBERED_INTERRUPTS:
                    self._interrupted.clear()  # of requests answered long ago
                self._interrupted.add(key)
                return True
            if waiter.busy or waiter.miss.op is Op.CHANGE:  # a change that is under way cannot be taken back
                waiter.interrupted = waiter.busy
                return True
            del self._waiters[key]
        if waiter.token:
            self._misses.cancel(waiter.token)
        self._end(waiter, errno.EINTR)
        return True

    def _submit(self, waiter: _Waiter, miss: Miss) -> None:
        waiter.rounds += 1
        this_round = waiter.rounds
        waiter.miss = miss
        waiter.token = 0
        request = Request(miss.op, 0, miss.inode, miss.offset, miss.size, miss.name)
        try:
            token = self._misses.submit(request, functools.partial(self._answered, waiter))
        except Exception as error:
            self._executor.report(waiter.opcode, error)
            if self._remove(waiter):
                self._end(waiter, errno.EIO)
            return
        # The answer may have come before submit returned, and have led to the next round, whose token must stay.
        if waiter.rounds == this_round:
            waiter.token = token
            if self._waiters.get(waiter.key) is not waiter:  # interrupted meanwhile, when there was no token to cancel
                self._misses.cancel(token)

    def _answered(self, waiter: _Waiter, answer: Answer) -> None:
        """Runs in the answer thread: take the request up again."""
        with self._lock:
            wanted = self._waiters.get(waiter.key) is waiter
            waiter.busy = wanted
        leased = waiter.miss.op is Op.READ and answer.status in (STATUS_OK, STATUS_BOUNCE)
        again: Miss | None = None
        if wanted:
            self._slots.set_running(waiter.entry, True)
            again = self._try(waiter, answer)
        if leased:
            self._misses.done(answer.token)
        if not wanted:
            return
        if again is None:
            self._remove(waiter)
            self._slots.clear(waiter.entry)
            # Only now, as a successor asks again for what it finds here; and not if the request was sent again meanwhile
            # (RESEND), whose second answer is the one that counts.
            if waiter.miss.op is Op.CHANGE and waiter.delivered:
                self._misses.settled(answer.token)
            self._filesystem.end_miss(waiter.miss)
            return
        self._slots.set_running(waiter.entry, False)
        with self._lock:
            waiter.busy = False
            superseded = self._waiters.get(waiter.key) is not waiter
            ends = waiter.interrupted or waiter.rounds >= _MAX_ROUNDS
            if ends and not superseded:
                del self._waiters[waiter.key]
        if superseded:
            self._slots.clear(waiter.entry)
        elif waiter.interrupted:
            self._end(waiter, errno.EINTR)
        elif ends:
            _log.error("fetch answered %s of inode %d %d times, but it is still missing", again.op.name, again.inode, _MAX_ROUNDS)
            self._end(waiter, errno.EIO)
        else:
            self._submit(waiter, again)

    def _try(self, waiter: _Waiter, answer: Answer) -> Miss | None:
        """Answer the kernel, if this answer of fetch allows it; else return what is missing still."""
        try:
            if answer.status == STATUS_OK and waiter.miss.op in _CHANGES:
                waiter.delivered = self._executor.complete(
                    waiter.request, len(waiter.request), waiter.opcode, waiter.unique, waiter.inode, waiter.miss, answer
                )
                return None
            if answer.status == STATUS_BOUNCE and waiter.miss.is_part:
                self._filesystem.keep_bounced(waiter.miss, answer)
                size = self._executor.execute(waiter.request, len(waiter.request), waiter.opcode, waiter.unique, waiter.inode)
            elif answer.status == STATUS_OK:
                size = self._executor.execute(waiter.request, len(waiter.request), waiter.opcode, waiter.unique, waiter.inode)
            elif answer.status == STATUS_BOUNCE:
                size = self._device.reply(waiter.unique, self._filesystem.read_bounced(answer))
            else:
                error_number = ANSWERS[ErrorKind(answer.status)].errno
                if waiter.miss.op in _CHANGES:
                    self._slots.mark_failing(waiter.entry, error_number)
                self._executor.fail(waiter.opcode, waiter.unique, error_number)
                return None
        except Miss as miss:
            return miss
        except Exception as error:
            self._executor.report(waiter.opcode, error)
            self._executor.fail(waiter.opcode, waiter.unique, errno.EIO)
            return None
        if waiter.opcode == _READ:
            self._counters[Counter.MISS_BYTES] += size
        return None

    def _remove(self, waiter: _Waiter) -> bool:
        with self._lock:
            if self._waiters.get(waiter.key) is not waiter:
                return False
            del self._waiters[waiter.key]
            return True

    def _forget(self, older: _Waiter) -> None:
        """Let go of a request whose repetition waits instead."""
        if older.busy:
            return  # the answer thread is at it, finds that it was superseded, and cleans up
        if older.token:
            self._misses.cancel(older.token)
        self._slots.clear(older.entry)

    def _end(self, waiter: _Waiter, error_number: int) -> None:
        self._executor.fail(waiter.opcode, waiter.unique, error_number)
        self._slots.clear(waiter.entry)
        self._filesystem.end_miss(waiter.miss)
