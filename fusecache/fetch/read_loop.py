"""One thread for many small reads: it sends them, takes what arrives, and hands finished ones to the loop in groups.

A thread for each read spends more on waking up than on the bytes. What cannot be begun at once, and what turns out odd, goes to
the worker threads, which may wait. State: the reads under way, this thread's own; the event loop adds jobs to `_new`.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import logging
import os
import select
import threading
import time
from collections.abc import Callable
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.workers import Job, Workers
from fusecache.source.protocol import ReadState, StartedRead

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0  # between two looks at the deadlines


class ReadLoop:
    """Invariant: each job given to `start` has its `done` called once, as with Workers."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers
        self._new: collections.deque[Job] = collections.deque()
        self._thread: threading.Thread | None = None
        self._wake_fd = -1
        self._is_asleep = False
        self._is_stopping = False
        self._under_way: dict[int, tuple[Job, StartedRead]] = {}

    def start(self, job: Job) -> None:
        """Run a job, in this thread if it can be begun there. Called by the event loop."""
        if job.begin is None:
            self._workers.start(job)
            return
        if self._thread is None:
            self._wake_fd = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
            self._thread = threading.Thread(target=self._run, name="fetch-reads", daemon=True)
            self._thread.start()
        self._new.append(job)
        if self._is_asleep:
            os.eventfd_write(self._wake_fd, 1)

    def stop(self) -> None:
        """Let go of what is under way; nobody waits for it any more."""
        if self._thread is not None and not self._is_stopping:
            self._is_stopping = True
            os.eventfd_write(self._wake_fd, 1)  # the thread closes it

    # -- in the thread

    def _run(self) -> None:
        with select.epoll() as poll:
            poll.register(self._wake_fd, select.EPOLLIN)
            while not self._is_stopping:
                self._begin(poll)
                self._is_asleep = True
                events = poll.poll(0 if self._new else PATIENCE_SECONDS)
                self._is_asleep = False
                finished: list[Callable[[], None]] = []
                for fd, _ in events:
                    if fd == self._wake_fd:
                        with contextlib.suppress(BlockingIOError):
                            os.eventfd_read(fd)
                    else:
                        self._advance(poll, fd, finished)
                self._expire(poll)
                self._workers.post_all(finished)
        os.close(self._wake_fd)

    def _begin(self, poll: select.epoll) -> None:
        while self._new:
            job = self._new.popleft()
            started = self._begun(job)
            if started is None:
                self._workers.post(functools.partial(self._workers.start, job))
                continue
            self._under_way[started.fileno()] = (job, started)
            poll.register(started.fileno(), select.EPOLLIN)

    def _begun(self, job: Job) -> StartedRead | None:
        assert job.begin is not None
        try:
            return job.begin()
        except Exception:
            log.exception("unexpected error while a read was begun")
            return None

    def _advance(self, poll: select.epoll, fd: int, finished: list[Callable[[], None]]) -> None:
        job, read = self._under_way[fd]
        state = read.advance()
        if state is ReadState.WAITING:
            return
        self._forget(poll, fd)
        if state is ReadState.COMPLETE:
            finished.append(self._taken(job, read))
        else:
            self._pass_on(job, read)

    def _taken(self, job: Job, read: StartedRead) -> Callable[[], None]:
        assert job.take is not None
        try:
            return functools.partial(job.done, job.take(read.take()), None)
        except CacheError as error:
            return functools.partial(job.done, None, error)
        except Exception as error:
            log.exception("unexpected error in a read")
            return functools.partial(job.done, None, CacheError(ErrorKind.BUG, f"unexpected {type(error).__name__}: {error}"))

    def _pass_on(self, job: Job, read: StartedRead) -> None:
        """A thread that may wait ends it."""
        take = job.take
        assert take is not None

        def run() -> Any:
            return take(read.take())

        self._workers.post(functools.partial(self._workers.start, Job(run, job.done, job.size, job.priority)))

    def _expire(self, poll: select.epoll) -> None:
        now = time.monotonic()
        for fd in [fd for fd, (_, read) in self._under_way.items() if read.deadline < now]:
            job, read = self._under_way[fd]
            self._forget(poll, fd)
            self._pass_on(job, read)

    def _forget(self, poll: select.epoll, fd: int) -> None:
        del self._under_way[fd]
        with contextlib.suppress(OSError):  # closed by its read: the kernel has forgotten it already
            poll.unregister(fd)
