"""Sizes and durations as people write them; parsed once, at the edge."""

from __future__ import annotations

import re

from fusecache.contract.errors import CacheError, ErrorKind

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

_SIZE = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([kmgtpe]?)(i?)b?\s*$", re.IGNORECASE)
_POWERS = {"": 0, "k": 1, "m": 2, "g": 3, "t": 4, "p": 5, "e": 6}


def parse_size(text: str) -> int:
    """Return bytes for `4Gi`, `4GiB`, `500M`, `1.5g`, `4096`.

    Like Kubernetes quantities: `Gi` is 2^30, `G` is 10^9. Raises INVALID.
    """
    match = _SIZE.match(text)
    if match is None:
        raise CacheError(ErrorKind.INVALID, f"{text!r} is not a size: write a number with a unit such as 512Mi, 10Gi or 2T")
    number, unit, binary = match.groups()
    return int(float(number) * (1024 if binary else 1000) ** _POWERS[unit.lower()])


def format_size(size_bytes: float) -> str:
    """Return two decimals, binary unit, no space, as `kubectl get dataset` prints: `0.00B`, `1.31GiB`."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB", "PiB"):
        if size < 1024 or unit == "PiB":
            return f"{size:.2f}{unit}"
        size /= 1024
    raise AssertionError("unreachable")


def format_percentage(part: float, whole: float) -> str:
    """Return one decimal and `%`, never above `100.0%`; nothing of nothing is `0.0%`."""
    return f"{percentage(part, whole):.1f}%"


def percentage(part: float, whole: float) -> float:
    """Return 0.0-100.0."""
    return min(100.0, 100.0 * part / whole) if whole > 0 else 0.0
