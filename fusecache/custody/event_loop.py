"""The supervisor's event loop: descriptors, timers and signals, one callback at a time.

State: what is registered. Single-threaded; callbacks must not block. Signals arrive through a wake-up descriptor, so that a
callback never runs inside another.
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
import select
import signal
import socket
import time
from collections.abc import Callable

READABLE = select.EPOLLIN
HANGUP_ONLY = 0  # errors and hang-ups are always reported


class EventLoop:
    """Invariant: a descriptor is unregistered before it is closed."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._callbacks: dict[int, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._wake_reader, self._wake_writer = socket.socketpair()
        self._on_signal: Callable[[int], None] | None = None

    def register(self, fd: int, callback: Callable[[], None], events: int = READABLE) -> None:
        self._epoll.register(fd, events)
        self._callbacks[fd] = callback

    def unregister(self, fd: int) -> None:
        if self._callbacks.pop(fd, None) is not None:
            with contextlib.suppress(OSError):
                self._epoll.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), callback))

    def catch_signals(self, numbers: tuple[signal.Signals, ...], callback: Callable[[int], None]) -> None:
        """Call `callback(number)` from the loop for each of these signals."""
        self._on_signal = callback
        self._wake_reader.setblocking(False)
        self._wake_writer.setblocking(False)
        signal.set_wakeup_fd(self._wake_writer.fileno(), warn_on_full_buffer=False)
        for number in numbers:
            signal.signal(number, lambda *_: None)
        self.register(self._wake_reader.fileno(), self._read_signals)

    def _read_signals(self) -> None:
        for number in self._wake_reader.recv(64):
            if self._on_signal is not None:
                self._on_signal(number)

    def run_once(self, timeout_seconds: float | None = None) -> None:
        """Wait for the next events or timers, at most `timeout_seconds`, and run their callbacks."""
        if self._timers:
            until_timer = max(0.0, self._timers[0][0] - time.monotonic())
            timeout_seconds = until_timer if timeout_seconds is None else min(timeout_seconds, until_timer)
        for fd, _ in self._epoll.poll(timeout_seconds):
            callback = self._callbacks.get(fd)
            if callback is not None:  # an earlier callback may have unregistered it
                callback()
        while self._timers and self._timers[0][0] <= time.monotonic():
            heapq.heappop(self._timers)[2]()

    def run_until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Run until `condition()` holds; False if it did not within `seconds`."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not condition():
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                return False
            self.run_once(left)
        return True

    def close(self) -> None:
        with contextlib.suppress(ValueError):  # not the main thread: no signals were caught
            signal.set_wakeup_fd(-1)
        self._epoll.close()
        self._wake_reader.close()
        self._wake_writer.close()


def close_quietly(*fds: int) -> None:
    for fd in fds:
        with contextlib.suppress(OSError):
            os.close(fd)
