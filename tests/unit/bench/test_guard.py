"""Ratios that are recorded, and what is said of those that fell."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench import columns, guard
from tests.bench.figures import Figure
from tests.bench.results import Table
from tests.bench.settings import Settings

SETTINGS = guard.guard_settings(Settings(big_bytes=1, files=1, rounds=1, contenders=(), columns=()))


def test_a_column_is_compared_with_the_bare_client_where_it_has_a_figure() -> None:
    rates = {"fusecache": 50.0, "bare": 100.0, "tmpfs": 200.0}
    both = [Figure(name, "find-first", 0, rate, 1.0) for name, rate in rates.items()]
    hot = [Figure(name, "big-hot", 0, rate, 1.0) for name, rate in rates.items() if name != "bare"]
    assert guard.ratios(Table([*both, *hot])) == {"big-hot / tmpfs": 0.25, "find-first / bare": 0.5}


def test_what_fell_by_more_than_a_fifth_is_named() -> None:
    recorded, now = {"a / bare": 1.0, "b / bare": 1.0, "c / tmpfs": 1.0}, {"a / bare": 0.81, "b / bare": 0.79}
    assert [one.column for one in guard.falls(recorded, now)] == ["b"]
    said = guard.lines(recorded, now)
    assert said[-1] == "fell by 21%: b / bare (1.00, now 0.79)"
    assert any("not measured now" in line for line in said)
    assert guard.lines(recorded, recorded)[-1] == "nothing fell by more than 20%"


def test_of_two_measurements_the_better_one_counts() -> None:
    assert guard.merged({"a": 0.5, "b": 0.5}, {"a": 0.9}) == {"a": 0.9, "b": 0.5}


def test_recorded_ratios_are_those_of_the_same_sizes(tmp_path: Path) -> None:
    path = tmp_path / "recorded.json"
    with pytest.raises(ValueError, match="is not there"):
        guard.read(path, SETTINGS)
    guard.write(path, SETTINGS, {"a / bare": 0.5})
    assert guard.read(path, SETTINGS) == {"a / bare": 0.5}
    with pytest.raises(ValueError, match="other sizes"):
        guard.read(path, Settings(big_bytes=1, files=1, rounds=1, contenders=(), columns=()))


def test_the_committed_ratios_are_those_the_guard_asks_for() -> None:
    recorded = guard.read(guard.RECORDED, SETTINGS)
    assert {name.partition(" / ")[0] for name in recorded} <= set(columns.ALL)
    assert recorded
