"""fetch/closed_files.py with a settling that is written down, on trio's own clock."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio
import trio.testing

from fusecache.fetch.closed_files import AT_ONCE, BUSY_SECONDS, MOST_EXTRA_DELAYS, RETRY_SECONDS, ClosedFiles
from fusecache.index.inodes import InodeNo


class Settled:
    """What was settled, and when; `fails` so many times first."""

    def __init__(self) -> None:
        self.at: list[tuple[int, float]] = []
        self.fails = 0
        self.takes = 0.0
        self.running = self.most_running = 0

    async def __call__(self, inode: InodeNo) -> bool:
        self.running += 1
        self.most_running = max(self.running, self.most_running)
        await trio.sleep(self.takes)
        self.running -= 1
        self.at.append((inode, round(trio.current_time() - START, 2)))
        self.fails -= 1
        return self.fails < 0


START = 1000.0


@asynccontextmanager
async def line(settled: Settled, delay: float) -> AsyncIterator[ClosedFiles]:
    files = ClosedFiles(settled, delay, trio.current_time)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(files.run, nursery)
        await trio.testing.wait_all_tasks_blocked()
        yield files
        nursery.cancel_scope.cancel()


def run(act: Callable[[], Awaitable[None]]) -> None:
    clock = trio.testing.MockClock(autojump_threshold=0)
    clock.jump(START - clock.current_time())
    trio.run(act, clock=clock)


def test_without_a_delay_a_file_is_settled_at_once() -> None:
    async def act() -> None:
        settled = Settled()
        async with line(settled, 0.0) as files:
            files.note_writing()
            files.put(InodeNo(7))
            await trio.sleep(0.01)
        assert settled.at == [(7, 0.0)]

    run(act)


def test_a_file_that_is_put_again_keeps_its_place() -> None:
    async def act() -> None:
        settled = Settled()
        async with line(settled, 5.0) as files:
            files.put(InodeNo(1))
            await trio.sleep(3)
            files.put(InodeNo(2))
            files.put(InodeNo(1))
            await trio.sleep(30)
        assert settled.at == [(1, 5.0), (2, 8.0)]

    run(act)


def test_what_is_due_waits_while_programs_write_but_not_for_ever() -> None:
    async def act() -> None:
        settled = Settled()
        async with line(settled, 5.0) as files:
            files.put(InodeNo(1))
            while trio.current_time() < START + 5 * MOST_EXTRA_DELAYS + 10:
                files.note_writing()
                await trio.sleep(BUSY_SECONDS / 3)
        ((_, when),) = settled.at
        assert 5 + 5 * MOST_EXTRA_DELAYS <= when <= 5 + 5 * MOST_EXTRA_DELAYS + 2 * BUSY_SECONDS

    run(act)


def test_in_a_hurry_nothing_waits_and_a_bounded_number_goes_together() -> None:
    async def act() -> None:
        settled = Settled()
        settled.takes = 1.0
        async with line(settled, 5.0) as files:
            for number in range(4 * AT_ONCE):
                files.put(InodeNo(number))
            files.note_writing()
            files.hurry()
            await trio.sleep(4 + 2 * BUSY_SECONDS)
        assert len(settled.at) == 4 * AT_ONCE
        assert settled.most_running == AT_ONCE

    run(act)


def test_what_failed_is_tried_again_and_delays_nobody() -> None:
    async def act() -> None:
        settled = Settled()
        settled.fails = 1
        async with line(settled, 0.0) as files:
            files.put(InodeNo(1))
            await trio.sleep(1)
            files.put(InodeNo(2))
            await trio.sleep(RETRY_SECONDS + 1)
        assert settled.at == [(1, 0.0), (2, 1.0), (1, RETRY_SECONDS)]

    run(act)


def test_a_file_put_while_it_is_settled_is_settled_again() -> None:
    async def act() -> None:
        settled = Settled()
        settled.takes = 1.0
        async with line(settled, 0.0) as files:
            files.put(InodeNo(1))
            await trio.sleep(0.5)
            files.put(InodeNo(1))
            await trio.sleep(3)
        assert settled.at == [(1, 1.0), (1, 1.5)]

    run(act)


def test_what_is_to_go_at_once_passes_the_others() -> None:
    async def act() -> None:
        settled = Settled()
        async with line(settled, 5.0) as files:
            files.put(InodeNo(1))
            await trio.sleep(1)
            files.put(InodeNo(2), at_once=True)
            await trio.sleep(10)
        assert [inode for inode, _ in settled.at] == [2, 1]
        assert settled.at[0][1] <= 1 + BUSY_SECONDS

    run(act)
