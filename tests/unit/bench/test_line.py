"""When packets come out of a line."""

from __future__ import annotations

import pytest

from tests.bench.link.line import Line


def test_a_packet_takes_its_length_and_the_delay() -> None:
    line = Line(bytes_per_second=1000, delay_seconds=0.5, queue_bytes=10_000)
    assert line.accept(100, now=7.0) == pytest.approx(7.6)


def test_packets_wait_for_those_before_them() -> None:
    line = Line(bytes_per_second=1000, delay_seconds=0.5, queue_bytes=10_000)
    assert [line.accept(100, now=0.0) for _ in range(3)] == pytest.approx([0.6, 0.7, 0.8])
    assert line.accept(100, now=5.0) == pytest.approx(5.6)  # the line was idle meanwhile


def test_what_finds_a_full_queue_is_dropped() -> None:
    line = Line(bytes_per_second=1000, delay_seconds=0.0, queue_bytes=150)
    assert [line.accept(100, now=0.0) is None for _ in range(4)] == [False, False, True, True]
    assert line.dropped == 2
    assert line.accept(100, now=0.1) == pytest.approx(0.3)
