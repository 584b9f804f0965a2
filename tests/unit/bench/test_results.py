"""Medians, ratios, the choice of columns, the order of turns."""

from __future__ import annotations

import pytest

from tests.bench import columns
from tests.bench.figures import Figure
from tests.bench.results import Table
from tests.bench.rounds import rotated
from tests.bench.sessions import PHASES, SESSIONS


def figure(contender: str, column: str, value: float) -> Figure:
    return Figure(contender, column, 0, value, 1.0, 0.5, 0.25, 0.125, 0.0, 1 << 20)


def test_a_cell_is_the_median_with_its_spread() -> None:
    cell = Table([figure("fusecache", "big-cold", value) for value in (300.0, 100.0, 200.0)]).cell("big-cold", "fusecache")
    assert cell is not None
    assert (cell.median, cell.lowest, cell.highest) == (200.0, 100.0, 300.0)


def test_ratios_are_given_where_both_have_figures() -> None:
    table = Table(
        [figure("fusecache", "big-cold", 100.0), figure("juicefs", "big-cold", 400.0), figure("bare", "find-first", 1.0)]
    )
    assert table.ratio("big-cold", "fusecache", "juicefs") == 0.25
    assert table.ratio("find-first", "fusecache", "bare") is None
    assert table.below_juicefs() == [("big-cold", 0.25)]


@pytest.mark.parametrize(("theirs", "apart"), [((400.0, 500.0), True), ((290.0, 500.0), False), ((150.0, 250.0), False)])
def test_columns_whose_rounds_overlap_say_nothing(theirs: tuple[float, ...], apart: bool) -> None:
    mine = [figure("fusecache", "big-hot", value) for value in (100.0, 300.0)]
    assert Table([*mine, *(figure("juicefs", "big-hot", value) for value in theirs)]).is_apart("big-hot") is apart


def test_columns_are_chosen_by_name_group_and_beginning() -> None:
    assert columns.select(["find-first", "big-c"]) == ("big-cold", "big-cached", "big-cold-2", "big-cached-2", "find-first")
    assert columns.select(["big-2"]) == ("big-cold-2", "big-cached-2", "big-hot-2")
    assert columns.select(["small-hot"]) == ("small-hot-1", "small-hot-2")
    with pytest.raises(ValueError, match="no column is called 'tall'"):
        columns.select(["tall"])


def test_each_column_is_measured_in_one_session() -> None:
    assert sorted(name for session in SESSIONS for name in session.columns) == sorted(columns.ALL)


def test_each_session_belongs_to_one_phase() -> None:
    parts = [part for phase in PHASES for part in phase]
    assert {session.part for session in SESSIONS} == set(parts)
    assert len(parts) == len(set(parts))


def test_less_is_better_for_seconds() -> None:
    table = Table([figure("fusecache", "first-byte-cold", 0.5), figure("juicefs", "first-byte-cold", 1.0)])
    assert table.ratio("first-byte-cold", "fusecache", "juicefs") == 2.0


def test_cpu_is_that_of_daemons_and_for_each_gib() -> None:
    table = Table([Figure("fusecache", "big-cold", 0, 1.0, 1.0, contender_cpu=3.0, reader_cpu=9.0)])
    assert table.cpu_per_gib("big-cold", "fusecache", 2 << 30) == 1.5


def test_turns_begin_with_another_contender_each_time() -> None:
    three = ["a", "b", "c"]
    assert [rotated(three, number)[0] for number in range(4)] == ["a", "b", "c", "a"]  # type: ignore[arg-type, comparison-overlap]


def test_what_takes_long_is_measured_on_request_only() -> None:
    assert set(columns.ALL) - set(columns.USUAL) == set(columns.select(["names", "small-cold-listed-2"]))
