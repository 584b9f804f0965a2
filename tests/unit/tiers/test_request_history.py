"""The last three requests for a block, in a table of fixed size."""

from __future__ import annotations

import pytest

from fusecache.tiers import request_history
from fusecache.tiers.request_history import LAST_TICK, RequestHistory


def test_the_last_three_requests_are_told() -> None:
    history = RequestHistory()
    assert (history.last(7, 0), history.third_last(7, 0)) == (None, None)
    for tick in (3, 5):
        history.note(7, 0, tick)
    assert (history.last(7, 0), history.third_last(7, 0)) == (5, None)
    for tick in (8, LAST_TICK):
        history.note(7, 0, tick)
    assert (history.last(7, 0), history.third_last(7, 0)) == (LAST_TICK, 5)
    assert history.last(7, 1) is None


def test_requests_of_one_tick_are_one_visit() -> None:
    history = RequestHistory()
    for tick in (3, 3, 3, 4, 4):
        history.note(7, 0, tick)
    assert history.third_last(7, 0) is None


def test_what_is_kept_looks_as_if_it_had_been_asked_for_three_times() -> None:
    history = RequestHistory()
    history.note_thrice(7, 0, 3)
    assert (history.last(7, 0), history.third_last(7, 0)) == (3, 3)


def test_whoever_comes_last_has_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(request_history, "TABLE_SLOTS", 1)
    history = RequestHistory()
    history.note(7, 0, 3)
    history.note(8, 0, 4)
    assert (history.last(7, 0), history.last(8, 0)) == (None, 4)
