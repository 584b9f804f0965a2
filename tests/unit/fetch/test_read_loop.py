"""Small reads in the event loop: each job ends once, whatever its read does; what has to wait does so elsewhere."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.buffer_pool import BufferPool
from fusecache.fetch.read_loop import PATIENCE_SECONDS, ReadLoop
from fusecache.fetch.workers import Job, Workers
from fusecache.source.protocol import BEGIN_ROOM_BYTES, Buffer, ReadState
from tests.support.log_check import LogCheck


class PipeRead:
    """A read whose answer is what comes out of a pipe: any byte completes it, "!" makes it odd."""

    def __init__(self, patience: float = 60.0) -> None:
        self.fd, self.sender = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self.deadline = time.monotonic() + patience
        self.state = ReadState.WAITING
        self.taken_in: list[str] = []
        self._got = b""

    def fileno(self) -> int:
        return self.fd

    def advance(self) -> ReadState:
        self._got = os.read(self.fd, 100)
        if self._got == b".":
            return ReadState.WAITING
        self.state = ReadState.ODD if self._got == b"!" else ReadState.COMPLETE
        return self.state

    def take(self) -> Buffer:
        self.taken_in.append(threading.current_thread().name)
        if self._got == b"?":
            raise CacheError(ErrorKind.STALE, "replaced")
        if self._got == b"#":
            raise RuntimeError("a bug")
        return self._got

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.sender)


def run_jobs(act: Callable[[Callable[[Job], None], list[tuple[Any, CacheError | None]]], Any]) -> None:
    """Run `act` in an event loop with a ReadLoop; it gets what `done` was told."""

    async def main() -> None:
        outcomes: list[tuple[Any, CacheError | None]] = []

        def crash(error: Exception) -> None:
            raise error

        workers = Workers(4, lambda: None, crash)
        async with trio.open_nursery() as nursery:
            buffers = BufferPool()
            loop = ReadLoop(workers, nursery, buffers)

            def start(job: Job) -> None:
                job.done = lambda result, error: outcomes.append((result, error))
                loop.start(job)

            try:
                await act(start, outcomes)
            finally:
                workers.stop()
                nursery.cancel_scope.cancel()

    trio.run(main)


def job_of(read: PipeRead | None, *, is_quick: bool = True) -> Job:
    return Job(
        lambda: "waited",
        lambda result, error: None,
        begin=lambda buffer: read,
        take=lambda data: bytes(data),
        is_quick=is_quick,
    )


async def until(condition: Callable[[], bool]) -> None:
    with trio.fail_after(10):
        while True:
            if condition():
                return
            await trio.sleep(0.002)


def test_reads_complete_in_any_order_and_are_handed_over(tmp_path: Any) -> None:
    async def act(start: Callable[[Job], None], outcomes: list[Any]) -> None:
        reads = [PipeRead() for _ in range(20)]
        for read in reads:
            start(job_of(read))
        await trio.sleep(0.05)
        for number in (7, 3, 19):
            os.write(reads[number].sender, b".")
        await trio.sleep(0.05)
        assert outcomes == []
        for number, read in reversed(list(enumerate(reads))):
            os.write(read.sender, b"%d" % number)
        await until(lambda: len(outcomes) == 20)
        assert sorted(int(result) for result, error in outcomes) == list(range(20))
        assert all(error is None for _, error in outcomes)
        assert {name for read in reads for name in read.taken_in} == {"MainThread"}
        for read in reads:
            read.close()

    run_jobs(act)


def test_what_takes_long_once_it_is_there_is_taken_by_a_worker() -> None:
    async def act(start: Callable[[Job], None], outcomes: list[Any]) -> None:
        read = PipeRead()
        start(job_of(read, is_quick=False))
        os.write(read.sender, b"x")
        await until(lambda: outcomes == [(b"x", None)])
        assert read.taken_in[0].startswith("fetch-worker")
        read.close()

    run_jobs(act)


def test_buffers_go_round() -> None:
    """Each read has one of its own while it is under way; afterwards the next one has it."""

    async def act(start: Callable[[Job], None], outcomes: list[Any]) -> None:
        seen: list[memoryview] = []

        def job(read: PipeRead | None) -> Job:
            made = job_of(read)

            def begin(buffer: memoryview) -> PipeRead | None:
                seen.append(buffer)
                return read

            made.begin = begin
            made.size = 100_000
            return made

        for round_number in range(3):
            reads = [PipeRead() for _ in range(4)]
            for read in reads:
                start(job(read))
            start(job(None))
            for read in reads:
                os.write(read.sender, b"x")
            await until(lambda count=5 * (round_number + 1): len(outcomes) == count)
            for read in reads:
                read.close()
        assert all(len(buffer) >= 100_000 + BEGIN_ROOM_BYTES for buffer in seen)
        assert len({id(buffer.obj) for buffer in seen[:4]}) == 4, "two reads under way had one buffer"
        assert len({id(buffer.obj) for buffer in seen}) == 5

    run_jobs(act)


def test_a_job_that_cannot_be_begun_waits_in_a_worker() -> None:
    async def act(start: Callable[[Job], None], outcomes: list[Any]) -> None:
        start(job_of(None))
        start(Job(lambda: "plain", lambda result, error: None))
        await until(lambda: len(outcomes) == 2)
        assert sorted(result for result, _ in outcomes) == ["plain", "waited"]

    run_jobs(act)


def test_what_is_odd_or_late_is_taken_by_a_worker() -> None:
    async def act(start: Callable[[Job], None], outcomes: list[Any]) -> None:
        odd, late = PipeRead(), PipeRead(patience=-1.0)
        start(job_of(odd))
        start(job_of(late))
        os.write(odd.sender, b"!")
        await until(lambda: len(outcomes) == 2)
        assert all(name.startswith("fetch-worker") for read in (odd, late) for name in read.taken_in)
        assert len(odd.taken_in) == len(late.taken_in) == 1
        odd.close()
        late.close()

    run_jobs(act)


@pytest.mark.parametrize(("answer", "kind"), [(b"?", ErrorKind.STALE), (b"#", ErrorKind.BUG)])
def test_errors_are_told(answer: bytes, kind: ErrorKind, expect_log: LogCheck) -> None:
    if kind is ErrorKind.BUG:
        expect_log("unexpected error in a read", level=50)

    async def act(start: Callable[[Job], None], outcomes: list[Any]) -> None:
        read = PipeRead()
        start(job_of(read))
        os.write(read.sender, answer)
        await until(lambda: len(outcomes) == 1)
        assert outcomes[0][1].kind is kind
        read.close()

    run_jobs(act)


def test_jobs_that_come_while_it_sleeps_wake_it() -> None:
    async def act(start: Callable[[Job], None], outcomes: list[Any]) -> None:
        slept = 0.0
        for number in range(30):
            read = PipeRead()
            os.write(read.sender, b"x")
            began = time.monotonic()
            start(job_of(read))
            await until(lambda count=number + 1: len(outcomes) == count)
            slept += time.monotonic() - began
            read.close()
        assert slept < 30 * PATIENCE_SECONDS / 3, "it slept on"

    run_jobs(act)
