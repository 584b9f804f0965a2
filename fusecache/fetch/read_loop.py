"""Many small reads at once, without a thread for each: the event loop sends them and takes what arrives.

A thread for each read spends more on waking up than on the bytes, and one thread for all of them still fights the event loop for
the interpreter. What cannot be begun at once, what turns out odd, and what takes long once its bytes are there goes to the worker
threads. State: the reads under way, in an epoll of their own.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import mmap
import select
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.buffer_pool import BufferPool
from fusecache.fetch.workers import Job, Workers
from fusecache.source.protocol import BEGIN_ROOM_BYTES, ReadState, StartedRead

log = logging.getLogger(__name__)

PATIENCE_SECONDS = 1.0  # between two looks at the deadlines
AT_ONCE = 16  # reads that are looked at before others have their turn: some 5 ms, if all of them are complete


class _UnderWay(NamedTuple):
    job: Job
    read: StartedRead
    buffer: mmap.mmap


class ReadLoop:
    """Invariant: each job given to `start` has its `done` called once, as with Workers."""

    def __init__(self, workers: Workers, nursery: trio.Nursery, buffers: BufferPool) -> None:
        self._workers = workers
        self._nursery = nursery
        self._buffers = buffers
        self._poll: select.epoll | None = None
        self._under_way: dict[int, _UnderWay] = {}

    def start(self, job: Job) -> None:
        """Run a job, here if it can be begun. Called by the event loop; no checkpoint here."""
        if job.begin is None:
            self._workers.start(job)
            return
        if self._poll is None:
            self._poll = select.epoll()
            self._nursery.start_soon(self._run, self._poll)
        buffer = self._buffers.take(job.size + BEGIN_ROOM_BYTES)
        read = self._begun(job, buffer)
        if read is None:
            self._buffers.give_back(buffer)
            self._workers.start(job)
            return
        self._under_way[read.fileno()] = _UnderWay(job, read, buffer)
        self._poll.register(read.fileno(), select.EPOLLIN)

    def _begun(self, job: Job, buffer: mmap.mmap) -> StartedRead | None:
        assert job.begin is not None
        try:
            return job.begin(memoryview(buffer))
        except Exception:
            log.exception("unexpected error while a read was begun")
            return None

    async def _run(self, poll: select.epoll) -> None:
        with poll:
            while True:
                with trio.move_on_after(PATIENCE_SECONDS):
                    await trio.lowlevel.wait_readable(poll.fileno())
                finished: list[Callable[[], None]] = []
                for fd, _ in poll.poll(0, AT_ONCE):
                    self._advance(poll, fd, finished)
                self._expire(poll)
                if finished:
                    self._workers.take_results(finished)

    def _advance(self, poll: select.epoll, fd: int, finished: list[Callable[[], None]]) -> None:
        under_way = self._under_way[fd]
        state = under_way.read.advance()
        if state is ReadState.WAITING:
            return
        self._forget(poll, fd)
        if state is ReadState.COMPLETE and under_way.job.is_quick:
            finished.append(self._taken(under_way))
        else:
            self._pass_on(under_way)

    def _taken(self, under_way: _UnderWay) -> Callable[[], None]:
        job = under_way.job
        assert job.take is not None
        try:
            return functools.partial(job.done, job.take(under_way.read.take()), None)
        except CacheError as error:
            return functools.partial(job.done, None, error.without_origin())
        except Exception as error:
            log.exception("unexpected error in a read")
            return functools.partial(job.done, None, CacheError(ErrorKind.BUG, f"unexpected {type(error).__name__}: {error}"))
        finally:
            self._buffers.give_back(under_way.buffer)

    def _pass_on(self, under_way: _UnderWay) -> None:
        """A thread that may wait ends it."""
        job, take = under_way.job, under_way.job.take
        assert take is not None

        def run() -> Any:
            try:
                return take(under_way.read.take())
            finally:
                self._buffers.give_back(under_way.buffer)

        self._workers.start(Job(run, job.done, job.size, job.priority))

    def _expire(self, poll: select.epoll) -> None:
        now = time.monotonic()
        for fd in [fd for fd, under_way in self._under_way.items() if under_way.read.deadline < now]:
            under_way = self._under_way[fd]
            self._forget(poll, fd)
            self._pass_on(under_way)

    def _forget(self, poll: select.epoll, fd: int) -> None:
        del self._under_way[fd]
        with contextlib.suppress(OSError):  # closed by its read: the kernel has forgotten it already
            poll.unregister(fd)
