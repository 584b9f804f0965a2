"""Calls that may wait for a daemon for ever."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest

from csi.mounting.slow_calls import in_time


def test_what_comes_in_time() -> None:
    undone: list[int] = []
    assert asyncio.run(in_time(5.0, lambda: 7, undone.append)) == 7

    def fail() -> int:
        raise FileNotFoundError("x")

    with pytest.raises(FileNotFoundError):
        asyncio.run(in_time(5.0, fail, undone.append))
    assert undone == []


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_what_comes_late_is_undone(is_cancelled: bool) -> None:
    goes_on, undone = threading.Event(), list[int]()

    def call() -> int:
        goes_on.wait(10)
        return 7

    async def run() -> None:
        task = asyncio.create_task(in_time(10.0 if is_cancelled else 0.05, call, undone.append))
        await asyncio.sleep(0.02)
        if is_cancelled:
            task.cancel()
        with pytest.raises(asyncio.CancelledError if is_cancelled else TimeoutError):
            await task
        assert undone == []
        goes_on.set()
        for _ in range(100):
            await asyncio.sleep(0.01)
            if undone:
                return

    asyncio.run(run())
    assert undone == [7]


def test_what_comes_when_nobody_is_there_any_more_is_undone() -> None:
    """And the program did not wait for it."""
    goes_on, undone = threading.Event(), threading.Event()
    began = time.monotonic()
    with contextlib.suppress(TimeoutError):
        asyncio.run(in_time(0.05, lambda: goes_on.wait(10), lambda _: undone.set()))
    assert time.monotonic() - began < 5
    goes_on.set()
    assert undone.wait(5)
