from __future__ import annotations

import functools
import os
import signal
import time
from collections.abc import Iterator

import pytest

from fusecache.custody.event_loop import HANGUP_ONLY, EventLoop


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    one = EventLoop()
    yield one
    one.close()


def test_timers_run_in_order_and_may_add_others(loop: EventLoop) -> None:
    ran: list[str] = []
    loop.call_later(0.02, lambda: ran.append("late"))

    def add_another() -> None:
        ran.append("first")
        loop.call_later(0.0, lambda: ran.append("second"))

    loop.call_later(0.0, add_another)
    assert loop.run_until(lambda: len(ran) == 3, 5.0)
    assert ran == ["first", "second", "late"]


def test_condition_that_never_holds_ends_by_its_deadline(loop: EventLoop) -> None:
    began = time.monotonic()
    assert not loop.run_until(lambda: False, 0.03)
    assert 0.03 <= time.monotonic() - began < 10.0


def test_writer_learns_that_its_reader_went_away(loop: EventLoop) -> None:
    reader, writer = os.pipe()
    seen: list[bool] = []

    def reader_gone() -> None:
        seen.append(True)
        loop.unregister(writer)

    loop.register(writer, reader_gone, HANGUP_ONLY)
    assert not loop.run_until(lambda: bool(seen), 0.02)
    os.close(reader)
    assert loop.run_until(lambda: bool(seen), 5.0)
    os.close(writer)


def test_callback_unregistered_by_an_earlier_one_does_not_run(loop: EventLoop) -> None:
    pipes = [os.pipe() for _ in range(2)]
    ran: list[int] = []

    def end_all(number: int) -> None:
        ran.append(number)
        for reader, _ in pipes:
            loop.unregister(reader)

    for number, (reader, writer) in enumerate(pipes):
        loop.register(reader, functools.partial(end_all, number))
        os.write(writer, b"x")
    loop.run_once(1.0)
    assert len(ran) == 1
    for pipe in pipes:
        for fd in pipe:
            os.close(fd)


def test_signals_come_through_the_loop(loop: EventLoop) -> None:
    caught: list[int] = []
    before = signal.getsignal(signal.SIGUSR1)
    try:
        loop.catch_signals((signal.SIGUSR1,), caught.append)
        os.kill(os.getpid(), signal.SIGUSR1)
        assert loop.run_until(lambda: bool(caught), 5.0)
        assert caught == [signal.SIGUSR1]
    finally:
        signal.signal(signal.SIGUSR1, before)
