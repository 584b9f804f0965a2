"""Threads and gates: how much runs at once, in which order, and what a failing call does to the rest."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
import trio.testing

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.fetch.workers import BEGUN_FACTOR, Gate, Job, MemoryBudget, Priority, Workers
from fusecache.index.sealed import IndexDamagedError
from tests.support.garbage import no_collection
from tests.support.log_check import LogCheck


class Bench:
    """Workers, with counts of what ran at once."""

    def __init__(self, threads: int = 8) -> None:
        self.batches = 0
        self.crashes: list[Exception] = []
        self.after: Callable[[], None] = lambda: None
        self.workers = Workers(threads, self._after_batch, self.crashes.append)
        self.ran: list[object] = []
        self.running = self.most = self.bytes = self.most_bytes = 0
        self.go_on = threading.Event()
        self._lock = threading.Lock()
        self._done = trio.Event()
        self._finished = 0

    def _after_batch(self) -> None:
        self.batches += 1
        self.after()

    def job(
        self, name: object = None, size: int = 0, priority: Priority = Priority.DEMAND, error: Exception | None = None
    ) -> Job:
        def run() -> object:
            with self._lock:
                self.ran.append(name)
                self.running += 1
                self.bytes += size
                self.most, self.most_bytes = max(self.most, self.running), max(self.most_bytes, self.bytes)
            self.go_on.wait(10)
            with self._lock:
                self.running -= 1
                self.bytes -= size
            if error is not None:
                raise error
            return name

        return Job(run, self._count, size, priority)

    def _count(self, result: Any, error: CacheError | None) -> None:
        self._finished += 1
        self._done.set()

    async def wait_finished(self, count: int) -> None:
        with trio.fail_after(10):
            while self._finished < count:
                self._done = trio.Event()
                await self._done.wait()

    async def wait_running(self, count: int) -> None:
        with trio.fail_after(10):
            while self.running < count:  # noqa: ASYNC110 threads change it
                await trio.sleep(0.001)


def run(test: Callable[[Bench], Awaitable[None]]) -> None:
    async def main() -> None:
        bench = Bench()
        try:
            await test(bench)
        finally:
            bench.go_on.set()
            bench.workers.stop()

    trio.run(main)


def test_no_more_run_at_once_than_the_limit_says() -> None:
    async def test(bench: Bench) -> None:
        gate = Gate(bench.workers, 4, 1 << 30)
        for number in range(20):
            gate.submit(bench.job(number))
        await bench.wait_running(4)
        bench.go_on.set()
        await bench.wait_finished(20)
        assert bench.most == 4
        assert bench.ran == list(range(20))
        assert gate.is_idle

    run(test)


def test_the_users_bound_holds_also_for_reads_that_need_no_thread() -> None:
    async def test(bench: Bench) -> None:
        begun: list[Job] = []
        gate = Gate(bench.workers, 4, 1 << 30, 5, start=begun.append)
        for number in range(10):
            job = bench.job(number)
            job.begin = lambda: None
            gate.submit(job)
        assert len(begun) == 5

    run(test)


def test_more_reads_run_at_once_if_they_need_no_thread_each() -> None:
    async def test(bench: Bench) -> None:
        begun: list[Job] = []
        gate = Gate(bench.workers, 2, 1 << 30, start=begun.append)
        for number in range(10):
            job = bench.job(number)
            job.begin = lambda: None
            gate.submit(job)
        assert len(begun) == 2 * BEGUN_FACTOR
        gate.submit(bench.job("needs a thread"))
        for number in range(8):
            begun[number].done(None, None)
        assert len(begun) == 10, "it waits until fewer than two run"
        begun[8].done(None, None)
        assert len(begun) == 11
        assert begun[10].begin is None

    run(test)


def test_bytes_in_flight_are_bounded_but_one_large_job_runs() -> None:
    async def test(bench: Bench) -> None:
        gate = Gate(bench.workers, 8, 100)
        for size in (60, 60, 60, 500, 10, 10):
            gate.submit(bench.job(size, size))
        await bench.wait_running(1)
        assert bench.running == 1
        bench.go_on.set()
        await bench.wait_finished(6)
        assert bench.most_bytes == 500

    run(test)


def test_readers_go_first_and_a_place_is_kept_for_them() -> None:
    async def test(bench: Bench) -> None:
        gate = Gate(bench.workers, 3, 1 << 30)
        for number in range(5):
            gate.submit(bench.job(f"warm {number}", priority=Priority.WARM))
        for number in range(2):
            gate.submit(bench.job(f"ahead {number}", priority=Priority.PREFETCH))
        await bench.wait_running(2)
        assert bench.ran == ["warm 0", "warm 1"]
        gate.submit(bench.job("reader", priority=Priority.DEMAND))
        await bench.wait_running(3)
        assert bench.ran[2] == "reader"
        gate.submit(bench.job("second reader", priority=Priority.DEMAND))
        bench.go_on.set()
        await bench.wait_finished(9)
        assert bench.ran[3] == "second reader"
        assert bench.ran[4:6] == ["ahead 0", "ahead 1"]

    run(test)


def test_throttling_halves_the_limit_and_success_raises_it_again() -> None:
    async def test(bench: Bench) -> None:
        bench.go_on.set()
        gate = Gate(bench.workers, 8, 1 << 30)

        async def one(error: Exception | None) -> None:
            before = bench._finished
            gate.submit(bench.job(error=error))
            await bench.wait_finished(before + 1)

        busy = CacheError(ErrorKind.UNAVAILABLE, "503", is_throttled=True)
        await one(busy)
        assert gate.limit == 4
        await one(busy)
        await one(busy)
        await one(busy)
        assert gate.limit == 2
        await one(CacheError(ErrorKind.NOT_FOUND, "404"))
        assert gate.limit == 2
        for _ in range(2 + 3 + 4 + 5 + 6 + 7):
            await one(None)
        assert gate.limit == 8
        for _ in range(20):
            await one(None)
        assert gate.limit == 8

    run(test)


def test_gates_hold_no_more_than_the_budget_together() -> None:
    """Each gate may run one job that is larger than its share: with many sources that was more than the process may take."""

    async def test(bench: Bench) -> None:
        budget = MemoryBudget(100)
        gates = [Gate(bench.workers, 4, 10, budget=budget) for _ in range(10)]
        for gate in gates:
            for _ in range(3):
                gate.submit(bench.job(size=30))
        await bench.wait_running(3)
        bench.go_on.set()
        await bench.wait_finished(30)
        assert bench.most_bytes <= 100
        assert (budget.used, budget._line) == (0, {})

    run(test)


def test_a_large_job_is_not_passed_by_small_ones_for_ever() -> None:
    async def test(bench: Bench) -> None:
        budget = MemoryBudget(100)
        small, large = (Gate(bench.workers, 8, 100, budget=budget) for _ in range(2))
        for number in range(4):
            small.submit(bench.job(f"small {number}", 20))
        large.submit(bench.job("large", 60))
        small.submit(bench.job("late", 20))  # it would fit
        await bench.wait_running(4)
        assert budget.used == 80
        bench.go_on.set()
        await bench.wait_finished(6)
        assert bench.ran.index("large") < bench.ran.index("late")

    run(test)


def test_a_job_larger_than_the_budget_runs_alone() -> None:
    async def test(bench: Bench) -> None:
        bench.go_on.set()
        budget = MemoryBudget(10)
        gates = [Gate(bench.workers, 8, 5, budget=budget) for _ in range(2)]
        for gate in gates:
            gate.submit(bench.job(size=50))
        await bench.wait_finished(2)
        assert bench.most_bytes == 50

    run(test)


def test_only_throttling_halves_the_limit() -> None:
    """A connection that was cut halved it: a store that is restarted was asked one by one for a while."""

    async def test(bench: Bench) -> None:
        bench.go_on.set()
        gate = Gate(bench.workers, 8, 1 << 30)
        for kind in (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT, ErrorKind.CORRUPT):
            gate.submit(bench.job(error=CacheError(kind, "the connection was cut")))
        await bench.wait_finished(3)
        assert gate.limit == 8

    run(test)


def test_what_is_throttled_together_halves_the_limit_once() -> None:
    async def test(bench: Bench) -> None:
        gate = Gate(bench.workers, 8, 1 << 30)
        for _ in range(8):
            gate.submit(bench.job(error=CacheError(ErrorKind.UNAVAILABLE, "503", is_throttled=True)))
        await bench.wait_running(8)
        bench.go_on.set()
        await bench.wait_finished(8)
        assert gate.limit == 4

    run(test)


def test_whatever_a_call_raises_is_one_of_our_errors(expect_log: LogCheck) -> None:
    expect_log("unexpected error in a store call", level=50)

    async def test(bench: Bench) -> None:
        bench.go_on.set()
        gate = Gate(bench.workers, 2, 1 << 30)
        assert await gate.call(lambda: 5) == 5
        with pytest.raises(CacheError) as caught:
            await gate.call(lambda: 1 // 0)
        assert caught.value.kind is ErrorKind.BUG
        with pytest.raises(CacheError) as caught:
            await gate.call(_refuse)
        assert caught.value.kind is ErrorKind.DENIED
        assert await gate.call(lambda: 6) == 6

    run(test)


def _refuse() -> None:
    raise CacheError(ErrorKind.DENIED, "no")


def test_results_that_came_together_are_taken_in_one_batch() -> None:
    async def test(bench: Bench) -> None:
        for number in range(8):
            bench.workers.start(bench.job(number))
        await bench.wait_running(8)
        bench.go_on.set()
        while bench.running:  # the loop does not turn: all results are there when it does
            pass
        await bench.wait_finished(8)
        await trio.testing.wait_all_tasks_blocked()
        assert 1 <= bench.batches <= 3

    run(test)


def test_a_result_that_cannot_be_taken_does_not_stop_the_others(expect_log: LogCheck) -> None:
    expect_log("unexpected error while taking a result", level=50)

    async def test(bench: Bench) -> None:
        bench.go_on.set()

        def explode(result: Any, error: CacheError | None) -> None:
            raise ZeroDivisionError

        gate = Gate(bench.workers, 2, 1 << 30)
        gate.submit(Job(lambda: None, explode))
        gate.submit(bench.job())
        await bench.wait_finished(1)
        assert await gate.call(lambda: 1) == 1
        assert gate.is_idle

    run(test)


@pytest.mark.parametrize("where", ["callback", "after the batch"])
def test_a_damaged_index_is_told_to_who_can_end_the_process(where: str) -> None:
    async def test(bench: Bench) -> None:
        bench.go_on.set()

        def damaged(*_: object) -> None:
            raise IndexDamagedError("a row")

        if where == "callback":
            bench.workers.start(Job(lambda: None, damaged))
        else:
            bench.after = damaged
            bench.workers.start(bench.job())
        with trio.fail_after(10):
            while not bench.crashes:  # noqa: ASYNC110 threads change it
                await trio.sleep(0.001)
        assert isinstance(bench.crashes[0], IndexDamagedError)

    run(test)


class _Result:
    pass


def test_a_result_is_freed_when_its_caller_lets_go_of_it() -> None:
    """Without a garbage collection: a listing of a million names kept 17 MiB of pages for the next one."""

    async def main(bench: Bench) -> None:
        results: list[weakref.ref[_Result]] = []

        def make() -> _Result:
            result = _Result()
            results.append(weakref.ref(result))
            return result

        gate = Gate(bench.workers, 2, 1 << 20)
        await gate.call(make)
        await trio.testing.wait_all_tasks_blocked()
        await gate.call(lambda: None)  # the thread forgets what it did last
        assert results[0]() is None

    with no_collection():
        run(main)


def test_what_an_error_came_through_is_freed_with_it() -> None:
    """Without a garbage collection: each answer of a store that failed kept its connection's buffers, 28 MiB in a minute."""

    async def main(bench: Bench) -> None:
        buffers: list[weakref.ref[_Result]] = []

        def fail() -> None:
            buffer = _Result()
            buffers.append(weakref.ref(buffer))
            try:
                raise OSError
            except OSError as cause:
                error = CacheError(ErrorKind.UNAVAILABLE, "no answer")
                raise error from cause

        gate = Gate(bench.workers, 2, 1 << 20)
        for _ in range(3):
            with pytest.raises(CacheError, match="no answer"):
                await gate.call(fail)
        await gate.call(lambda: None)  # the thread forgets what it did last
        assert [buffer() for buffer in buffers] == [None] * 3

    with no_collection():
        run(main)
