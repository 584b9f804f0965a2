"""Circles of continuation tokens are noticed, whatever their length; long listings and runs of empty pages are not mistaken."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytest

from fusecache.fetch.listing_progress import MAX_BARREN_PAGES, ListingProgress


def pages_until_the_end(tokens: Iterable[str], *, has_names: bool = True) -> int:
    """Return how many pages are asked for before the listing is given up."""
    progress = ListingProgress()
    for pages, token in enumerate(tokens, 1):
        if not progress.goes_on(token, has_names=has_names):
            return pages
    return 0


@pytest.mark.parametrize("before", [0, 1, 7, 100])
@pytest.mark.parametrize("period", [1, 2, 3, 10, 257])
def test_a_circle_is_noticed_soon(before: int, period: int) -> None:
    way_in = [f"way-{number}" for number in range(before)]
    circle = itertools.cycle([f"circle-{number}" for number in range(period)])
    assert 0 < pages_until_the_end(itertools.chain(way_in, circle)) <= 3 * (before + period) + 2


def test_a_token_that_repeats_once_at_the_very_next_page_is_a_circle() -> None:
    assert pages_until_the_end(["a", "a"]) == 2


def test_a_listing_of_many_pages_goes_on() -> None:
    assert pages_until_the_end(str(number) for number in range(100_000)) == 0


def test_pages_without_names_end_after_very_many() -> None:
    assert pages_until_the_end((str(number) for number in itertools.count()), has_names=False) == MAX_BARREN_PAGES


def test_a_name_now_and_then_is_progress() -> None:
    progress = ListingProgress()
    for number in range(3 * MAX_BARREN_PAGES):
        assert progress.goes_on(str(number), has_names=number % (MAX_BARREN_PAGES - 1) == 0)
