"""Who hangs and who does not: real processes that are stopped, busy, silent, or answer."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusecache.custody.child import FETCH, Child
from fusecache.custody.event_loop import EventLoop
from fusecache.custody.heartbeat import Heartbeat
from tests.support.log_check import LogCheck

pytestmark = pytest.mark.slow

TICK, HUNG = 0.1, 0.5
START = "import json, socket, sys, time\nchannel = socket.socket(fileno=int(sys.argv[1]))\nchannel.send(b'{}')\n"
PROGRAMS = {
    "answers": START + 'while channel.recv(4096): channel.send(b\'{"did": "pong"}\')',
    "is silent but moves": START + "while True: time.sleep(0.02)",
    "computes": START + "while True: pass",
    "waits for itself": START + "import threading\nlock = threading.Lock()\nlock.acquire()\nlock.acquire()",
}


class Watched:
    """One child, watched as the supervisor does."""

    def __init__(self, directory: Path, program: str) -> None:
        (directory / "the_child.py").write_text(PROGRAMS[program])
        self.loop = EventLoop()
        self.log_fd = os.open(directory / "log", os.O_WRONLY | os.O_CREAT, 0o600)
        self.child = Child(FETCH, "the_child", {**os.environ, "PYTHONPATH": str(directory)}, (), self.log_fd)
        self.heartbeat = Heartbeat(self.loop, lambda: [self.child], TICK, HUNG)
        self.is_up = False
        self.has_ended = False
        self.loop.register(self.child.channel.fileno(), self._receive)
        self.loop.register(self.child.pidfd, self._ended)
        assert self.loop.run_until(lambda: self.is_up, 30)
        self.heartbeat.begin()

    def _receive(self) -> None:
        while (message := self.child.receive()) is not None:
            self.is_up = True
            if message.get("did") == "pong":
                self.heartbeat.answered(self.child)

    def _ended(self) -> None:
        self.loop.unregister(self.child.pidfd)
        self.loop.unregister(self.child.channel.fileno())
        self.has_ended = True

    def ends_within(self, seconds: float) -> bool:
        return self.loop.run_until(lambda: self.has_ended, seconds)

    def close(self) -> None:
        self.child.kill()
        assert self.ends_within(10)
        self.child.reap()
        self.loop.close()
        os.close(self.log_fd)


@pytest.fixture
def watch(tmp_path: Path) -> Iterator[Callable[[str], Watched]]:
    made: list[Watched] = []

    def make(program: str) -> Watched:
        made.append(Watched(tmp_path, program))
        return made[-1]

    yield make
    for watched in made:
        watched.close()


@pytest.mark.parametrize("program", ["answers", "is silent but moves", "computes"])
def test_whoever_answers_or_does_anything_is_left_alone(watch: Callable[[str], Watched], program: str) -> None:
    assert not watch(program).ends_within(6 * HUNG)


def test_a_stopped_process_is_killed(watch: Callable[[str], Watched], expect_log: LogCheck) -> None:
    """It was left alone for ever, and its readers hung with it."""
    expect_log("no sign of life", level=50)
    watched = watch("answers")
    assert not watched.ends_within(3 * TICK)
    os.kill(watched.child.pid, signal.SIGSTOP)
    assert watched.ends_within(30)


def test_threads_that_wait_for_each_other_are_killed(watch: Callable[[str], Watched], expect_log: LogCheck) -> None:
    expect_log("no sign of life", level=50)
    assert watch("waits for itself").ends_within(30)


def test_while_we_did_not_run_ourselves_nothing_counts(watch: Callable[[str], Watched]) -> None:
    """A machine or a container that is stopped as a whole, and goes on: nobody was hung."""
    watched = watch("answers")
    os.kill(watched.child.pid, signal.SIGSTOP)
    for _ in range(4):
        assert not watched.ends_within(3 * TICK)
        time.sleep(2 * HUNG)
    os.kill(watched.child.pid, signal.SIGCONT)
    assert not watched.ends_within(3 * HUNG)
