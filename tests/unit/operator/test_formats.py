"""Printed values look as in `kubectl get`; quantities mean what they mean in Kubernetes."""

from __future__ import annotations

from decimal import Decimal

import pytest

from csi.operator.formats import format_duration, format_percentage, format_size, parse_quantity, quantity_bytes
from fusecache.contract.errors import CacheError

GIB = 1 << 30


@pytest.mark.parametrize(
    ("size_bytes", "printed"),
    [
        (0, "0.00B"),
        (1023, "1023.00B"),
        (1024, "1.00KiB"),
        (int(1.31 * GIB), "1.31GiB"),
        (10 * GIB, "10.00GiB"),
        (150 * GIB, "150.00GiB"),
    ],
)
def test_sizes(size_bytes: int, printed: str) -> None:
    assert format_size(size_bytes) == printed


@pytest.mark.parametrize(
    ("part", "whole", "printed"), [(0, 3.41, "0.0%"), (1.31, 3.41, "38.4%"), (3, 3, "100.0%"), (4, 3, "100.0%"), (0, 0, "0.0%")]
)
def test_percentages(part: float, whole: float, printed: str) -> None:
    assert format_percentage(part, whole) == printed


@pytest.mark.parametrize(
    ("seconds", "printed"),
    [
        (0, "0s"), (34.9, "34s"), (60, "1m0s"), (121, "2m1s"), (3599, "59m59s"), (3600, "1h0m0s"), (3605, "1h0m5s"),
        (90061, "25h1m1s"), (-3, "0s"),
    ],
)  # fmt: skip
def test_durations(seconds: float, printed: str) -> None:
    assert format_duration(seconds) == printed


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4Gi", 4 * GIB), ("0.5Gi", GIB // 2), ("100M", 100_000_000), ("1e3", 1000), ("1E3", 1000), ("1E", 10**18), ("2k", 2000),
        ("1Ki", 1024), ("5.", 5), (".5Ki", 512), ("+7", 7), ("-1Gi", -GIB), ("1", 1), ("100m", 1), ("1.5", 2), ("1e-3", 1),
        ("1Ei", 1 << 60), ("900E", 2**63 - 1), ("-900E", 1 - 2**63), ("1e99", 2**63 - 1),
    ],
)  # fmt: skip
def test_quantities(text: str, size_bytes: int) -> None:
    assert quantity_bytes(text) == size_bytes


def test_fractions_of_quantities_are_exact() -> None:
    assert (parse_quantity("250m"), parse_quantity("10n"), parse_quantity("3u")) == (
        Decimal("0.25"),
        Decimal("1e-8"),
        Decimal("3e-6"),
    )


@pytest.mark.parametrize(
    "text", ["", "Gi", "4gi", "4 Gi", "4GiB", "1e", "1e999999999", "1,5Gi", "١Gi", "4Gi\n", "--1", ".", "9" * 65]
)
def test_no_quantities(text: str) -> None:
    with pytest.raises(CacheError, match="is no quantity: write"):
        quantity_bytes(text)
