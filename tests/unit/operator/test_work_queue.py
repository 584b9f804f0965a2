"""Keys that have to be looked at: each once, never by two at a time, again after an error."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable

import pytest

from csi.operator import work_queue
from csi.operator.work_queue import WorkQueue


def run(work: Callable[[str], Awaitable[float | None]], drive: Callable[[WorkQueue[str]], Awaitable[None]]) -> None:
    async def main() -> None:
        queue = WorkQueue(work, workers=3)
        running = asyncio.create_task(queue.run())
        await drive(queue)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running

    asyncio.run(main())


async def until(condition: Callable[[], bool]) -> None:
    for _ in range(10_000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise TimeoutError


def test_a_key_that_is_named_often_is_looked_at_once_and_again_if_named_meanwhile() -> None:
    seen: Counter[str] = Counter()
    gate = asyncio.Event()

    async def work(key: str) -> None:
        seen[key] += 1
        await gate.wait()

    async def drive(queue: WorkQueue[str]) -> None:
        for _ in range(5):
            queue.add("a")
        await until(lambda: seen["a"] == 1)
        queue.add("a")
        queue.add("a")
        await asyncio.sleep(0.01)
        assert seen["a"] == 1, "two at a time"
        gate.set()
        await until(lambda: seen["a"] == 2)
        await asyncio.sleep(0.01)
        assert seen["a"] == 2

    run(work, drive)


def test_an_error_is_tried_again_and_others_go_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work_queue, "FIRST_PAUSE_SECONDS", 0.001)
    seen: Counter[str] = Counter()

    async def work(key: str) -> None:
        seen[key] += 1
        if key == "bad" and seen[key] < 4:
            raise OSError("not yet")

    async def drive(queue: WorkQueue[str]) -> None:
        queue.add("bad")
        queue.add("good")
        await until(lambda: seen["bad"] == 4 and seen["good"] == 1)

    with pytest.MonkeyPatch.context() as quiet:
        quiet.setattr(work_queue.log, "warning", lambda *_, **__: None)
        run(work, drive)


def test_looking_again_later_and_sooner_when_named() -> None:
    seen: Counter[str] = Counter()

    async def work(key: str) -> float | None:
        seen[key] += 1
        return {"soon": 0.001, "late": 100.0}.get(key)

    async def drive(queue: WorkQueue[str]) -> None:
        for key in ("soon", "late", "once"):
            queue.add(key)
        await until(lambda: seen["soon"] > 3)
        assert (seen["late"], seen["once"]) == (1, 1)
        queue.add("late")
        await until(lambda: seen["late"] == 2)
        queue.add_later("once", 0.001)
        await until(lambda: seen["once"] == 2)

    run(work, drive)


def test_many_keys_never_two_at_a_time() -> None:
    busy: set[str] = set()
    done: Counter[str] = Counter()

    async def work(key: str) -> None:
        assert key not in busy
        busy.add(key)
        await asyncio.sleep(0.0005)
        busy.discard(key)
        done[key] += 1

    async def drive(queue: WorkQueue[str]) -> None:
        for number in range(400):
            queue.add(f"key-{number % 40}")
            if number % 50 == 0:
                await asyncio.sleep(0.002)
        await until(lambda: len(done) == 40 and queue.depth == 0 and not busy)

    run(work, drive)
