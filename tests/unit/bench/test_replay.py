"""Requests replayed: every process answers, and the table says what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import replay


@pytest.mark.slow
def test_each_number_of_processes_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "PROCESSES", (1, 2))
    found = replay.measure(tmp_path, seconds=0.1, files=20)
    assert [one.processes for one in found] == [1, 2]
    assert all(one.rate > 100 and 1 < one.cpu_us < 10_000 for one in found)
    head, *rows = replay.lines(found)
    assert len(rows) == 2
    assert all(len(row) == len(head) for row in rows)


def test_nothing_measured_is_nothing_said() -> None:
    assert replay.lines([]) == []
