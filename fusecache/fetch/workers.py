"""Threads for calls that block: one pool for the process, one gate per store that decides what runs next.

The event loop owns all state here; threads only run `Job.run` and put the outcome on a deque. Outcomes are handed back in
batches, with one wake-up of the loop for many, so that what arrived together is committed together: on small objects that is
worth a third of the speed.
"""

from __future__ import annotations

import collections
import contextlib
import enum
import functools
import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.index.sealed import IndexDamagedError
from fusecache.source.protocol import Buffer, StartedRead

log = logging.getLogger(__name__)


# Small reads under way at once: 1,270 files/s with 16 of them, 1,320 with 32, 1,400 with 48, 1,440 with 64, 1,360 with 96.
BEGUN_FACTOR = 3


ANSWERED = (ErrorKind.NOT_FOUND, ErrorKind.NOT_A_DIRECTORY, ErrorKind.STALE)  # errors that only a store that answers gives


class Priority(enum.IntEnum):
    DEMAND = 0  # a reader waits
    PREFETCH = 1
    WARM = 2  # warm, background listing, demotion


@dataclass(slots=True)
class Job:
    """One blocking call. `done` is called in the loop with the result, or with the CacheError that ended it."""

    run: Callable[[], Any]
    done: Callable[[Any, CacheError | None], None]
    size: int = 0  # bytes that the call will hold in memory
    priority: Priority = Priority.DEMAND
    # The same in two steps, for who need not wait in between (fetch/read_loop.py): send it, with a buffer for the answer; do with
    # the bytes what `run` does. `is_quick`: the second step is short and waits for nothing, so that the event loop may do it.
    begin: Callable[[memoryview], StartedRead | None] | None = None
    take: Callable[[Buffer], Any] | None = None
    is_quick: bool = False


class Workers:
    """Invariant: every submitted job's `done` is called once, in the loop, in batches; then `after_batch` once."""

    def __init__(self, limit: int, after_batch: Callable[[], None], on_crash: Callable[[Exception], None]) -> None:
        """`on_crash` is told of what the process cannot go on with: a damaged index, and whatever `after_batch` raises."""
        self._limit = limit
        self._after_batch = after_batch
        self._on_crash = on_crash
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._finished: collections.deque[Callable[[], None]] = collections.deque()
        self._token = trio.lowlevel.current_trio_token()
        self.threads: list[threading.Thread] = []
        self._running = 0

    def start(self, job: Job) -> None:
        """Run now; the caller bounds how many run at once."""
        self._running += 1
        if self._running > len(self.threads) and len(self.threads) < self._limit:
            thread = threading.Thread(target=self._work, name=f"fetch-worker-{len(self.threads) + 1}", daemon=True)
            self.threads.append(thread)
            thread.start()
        self._queue.put(job)

    def _work(self) -> None:
        while True:
            job = self._queue.get()
            if job is None:
                return
            result: Any = None
            error: CacheError | None = None
            try:
                result = job.run()
            except CacheError as known:
                error = known.without_origin()
            except Exception as unknown:  # whatever a library raises becomes one kind here, with its trace in the log
                log.exception("unexpected error in a store call")
                error = CacheError(ErrorKind.BUG, f"unexpected {type(unknown).__name__}: {unknown}")
            self.post(functools.partial(self._finish, job, result, error))
            del job, result, error

    def post(self, callback: Callable[[], None]) -> None:
        """Have the loop call this, with the next batch. From any thread."""
        self._finished.append(callback)
        with contextlib.suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._drain, idempotent=True)

    def take_results(self, callbacks: Sequence[Callable[[], None]]) -> None:
        """Call these now, as a batch. Only from the loop."""
        self._finished.extend(callbacks)
        self._drain()

    def _finish(self, job: Job, result: Any, error: CacheError | None) -> None:
        self._running -= 1
        job.done(result, error)

    def _drain(self) -> None:
        while self._finished:
            callback = self._finished.popleft()
            try:
                callback()
            except IndexDamagedError as error:
                self._on_crash(error)
            except Exception:
                log.exception("unexpected error while taking a result")
        try:
            self._after_batch()
        except Exception as error:
            self._on_crash(error)

    def stop(self) -> None:
        """Threads end after what they are doing; they are daemons, so a stalled store does not hold the process."""
        for _ in self.threads:
            self._queue.put(None)


class MemoryBudget:
    """The memory that jobs of all gates may hold together.

    Invariants: `used` is at most `total`, unless a single job is larger; whoever waits first gets what it waits for, whatever
    the others want: so much of what is free is kept for it.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self._line: dict[Gate, int] = {}  # who waits for how much, the first first

    def take(self, gate: Gate, size: int) -> bool:
        """Return whether the memory was given; if not, `gate` is asked again when some is given back."""
        if not size:
            return True
        first = next(iter(self._line), gate)
        kept = 0 if first is gate else self._line[first]
        if self.used and self.used + size + kept > self.total:
            self._line[gate] = size
            return False
        self._line.pop(gate, None)
        self.used += size
        return True

    def give_back(self, size: int) -> None:
        self.used -= size
        if size:
            for gate in list(self._line):
                gate.pump()


@dataclass(slots=True, eq=False)
class Gate:
    """How much one store is asked at once. `limit` adapts: halved when the store says that it is asked too much, grown again by
    success. Other failures say nothing about that: a connection that was cut, a store that is restarted.

    Invariant: at most `limit` jobs run, BEGUN_FACTOR times as many if they need no thread each; their sizes sum to at most
    `memory_bytes`, unless a single job is larger, and those of all gates with the same `budget` to no more than that has. So a
    store that hangs holds no memory but its share, and the process no more than it may.
    """

    workers: Workers
    limit: int
    memory_bytes: int
    most: int = 0  # jobs at once, also of those that need no thread; 0: no bound but BEGUN_FACTOR
    max_limit: int = 0
    start: Callable[[Job], None] | None = None  # Workers.start, unless somebody else runs some of the jobs
    budget: MemoryBudget | None = None
    answered_at: float = 0.0  # when the store last answered anything (monotonic)
    _waiting: tuple[collections.deque[Job], ...] = field(default_factory=lambda: tuple(collections.deque() for _ in Priority))
    _running: int = 0
    _bytes: int = 0
    _successes: int = 0
    _halvings: int = 0

    def __post_init__(self) -> None:
        self.max_limit = self.max_limit or self.limit
        self.start = self.start or self.workers.start

    def submit(self, job: Job) -> None:
        self._waiting[job.priority].append(job)
        self.pump()

    def note_answer(self) -> None:
        """The store answers: also called for the parts of long reads."""
        self.answered_at = time.monotonic()

    def waiting(self, priority: Priority) -> int:
        return len(self._waiting[priority])

    @property
    def is_idle(self) -> bool:
        return self._running == 0 and not any(self._waiting)

    def pump(self) -> None:
        """Start what may run now."""
        while True:
            line = next((line for line in self._waiting if line), None)
            if line is None:
                return
            limit = self.limit if line[0].begin is None else min(self.limit * BEGUN_FACTOR, self.most or 1 << 30)
            if self._running >= limit:
                return
            # One place is kept for readers: a queue of large prefetches must not delay the next demand by a whole range.
            if line is not self._waiting[Priority.DEMAND] and self._running >= max(1, limit - 1):
                return
            if self._bytes and self._bytes + line[0].size > self.memory_bytes:
                return
            if self.budget is not None and not self.budget.take(self, line[0].size):
                return
            job = line.popleft()
            self._running += 1
            self._bytes += job.size
            inner = job.done
            halvings = self._halvings

            def done(
                result: Any,
                error: CacheError | None,
                job: Job = job,
                inner: Callable[..., None] = inner,
                halvings: int = halvings,
            ) -> None:
                job.done = inner  # else it and the job hold each other, and the result, until the next garbage collection
                self._running -= 1
                self._bytes -= job.size
                if self.budget is not None:
                    self.budget.give_back(job.size)
                if error is None or error.kind in ANSWERED:
                    self.note_answer()
                self._adapt(error, halvings)
                try:
                    inner(result, error)
                finally:
                    self.pump()

            job.done = done
            assert self.start is not None
            self.start(job)

    def _adapt(self, error: CacheError | None, halvings: int) -> None:
        """`halvings`: how many there had been when the job was started. What was under way together counts once."""
        if error is not None and error.is_throttled:
            self._successes = 0
            if halvings == self._halvings:
                self.limit = max(2, self.limit // 2)
                self._halvings += 1
        elif error is None and self.limit < self.max_limit:
            self._successes += 1
            if self._successes >= self.limit:
                self.limit += 1
                self._successes = 0

    async def call(self, run: Callable[[], Any], priority: Priority = Priority.DEMAND) -> Any:
        """Run one call and return its result. Raises its CacheError. Cancellation: the call goes on, its result is dropped."""
        event = trio.Event()
        outcome: list[Any] = []

        def done(result: Any, error: CacheError | None) -> None:
            outcome.extend((result, error))
            event.set()

        self.submit(Job(run, done, priority=priority))
        await event.wait()
        result, error = outcome
        outcome.clear()
        try:
            if error is not None:
                raise error
            return result
        finally:
            del error  # or it and this frame hold each other
