"""Sizes and percentages as people write and read them."""

from __future__ import annotations

import pytest

from fusecache.base.units import format_percentage, format_size, parse_size
from fusecache.contract.errors import CacheError, ErrorKind


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("1Ki", 1024),
        ("4Gi", 4 << 30),
        ("4GiB", 4 << 30),
        ("1.5g", 1_500_000_000),
        ("500M", 500_000_000),
    ],
)
def test_sizes_are_parsed_as_kubernetes_does(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "Gi", "1Xi", "ten", "1 2"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(CacheError, match="10Gi") as caught:
        parse_size(text)
    assert caught.value.kind is ErrorKind.INVALID


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0.00B"), (1023, "1023.00B"), (1024, "1.00KiB"), (1_406_599_168, "1.31GiB"), (4 << 30, "4.00GiB")]
)
def test_sizes_are_printed_as_kubectl_prints_a_dataset(size: int, text: str) -> None:
    assert format_size(size) == text


@pytest.mark.parametrize(("part", "whole", "text"), [(0, 0, "0.0%"), (1.31, 3.41, "38.4%"), (5, 5, "100.0%"), (6, 5, "100.0%")])
def test_percentages_have_one_decimal_and_stay_below_a_hundred(part: float, whole: float, text: str) -> None:
    assert format_percentage(part, whole) == text
