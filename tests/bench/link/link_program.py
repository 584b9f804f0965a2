"""Carries packets between two TUN devices, each as late as the line between them makes it.

Run as a module by `link`, in a new network namespace, with one device's descriptor from outside and an order as JSON on the
command line; it makes the device inside and says "ready". A line on stdin makes the link as slow as ordered, the end of stdin is
its own. One thread, one loop.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import sys
import time
from collections import deque
from collections.abc import Callable

from tests.bench.link import tun
from tests.bench.link.line import Line

READS_AT_ONCE = 16  # of one device, before the other one has its turn; a guess
INSIDE = "store"
PRIORITY = -10  # no link waits until those who use it leave it a processor


class Direction:
    """What comes in at one device and goes out at the other, in order; at once while there is no `line`."""

    def __init__(self, source: int, target: int) -> None:
        self.source = source
        self.line: Line | None = None
        self._target = target
        self._under_way: deque[tuple[float, bytes]] = deque()

    @property
    def next_due(self) -> float:
        return self._under_way[0][0] if self._under_way else float("inf")

    def take_in(self) -> None:
        with contextlib.suppress(BlockingIOError):
            for _ in range(READS_AT_ONCE):
                packet = os.read(self.source, tun.PACKET_BYTES)
                now = time.monotonic()
                due = now if self.line is None else self.line.accept(len(packet) - tun.HEADER_BYTES, now)
                if due is not None:
                    self._under_way.append((due, packet))

    def give_out(self, now: float) -> None:
        while self._under_way and self._under_way[0][0] <= now:
            with contextlib.suppress(OSError):  # what the device does not take is a lost packet
                os.write(self._target, self._under_way.popleft()[1])


def carry(directions: tuple[Direction, ...], orders: int, slow_down: Callable[[], None]) -> None:
    """Work until the descriptor `orders` ends; whatever it says before that is to slow down."""
    by_source = {direction.source: direction for direction in directions}
    while True:
        due = min(direction.next_due for direction in directions)
        timeout = None if due == float("inf") else max(0.0, due - time.monotonic())
        readable, _, _ = select.select([*by_source, orders], [], [], timeout)
        if orders in readable:
            if not os.read(orders, 100):
                return
            slow_down()
        for fd in readable:
            if fd in by_source:
                by_source[fd].take_in()
        now = time.monotonic()
        for direction in directions:
            direction.give_out(now)


def main() -> None:
    order = json.loads(sys.argv[1])
    outside = order["outside_fd"]
    tun.set_up_loopback()
    inside = tun.open_tun(INSIDE)
    tun.set_up(INSIDE, order["address"])
    directions = (Direction(outside, inside), Direction(inside, outside))

    def slow_down() -> None:
        for direction in directions:
            direction.line = Line(order["bytes_per_second"], order["round_trip_seconds"] / 2, order["queue_bytes"])
        print("slow", flush=True)

    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, PRIORITY)
    print("ready", flush=True)
    carry(directions, sys.stdin.fileno(), slow_down)


if __name__ == "__main__":
    main()
