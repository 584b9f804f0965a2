"""Values as clusters write and read them: sizes, percentages and durations that are printed, quantities that are parsed."""

from __future__ import annotations

import re
from decimal import ROUND_UP, Decimal

from fusecache.base.units import format_percentage, format_size
from fusecache.contract.errors import CacheError, ErrorKind

__all__ = [
    "CALCULATING",
    "QUANTITY_PATTERN",
    "UNFINISHED",
    "WAITING",
    "format_duration",
    "format_percentage",
    "format_size",
    "parse_quantity",
    "quantity_bytes",
]

CALCULATING = "[Calculating]"  # ufsTotal while the first listing runs
UNFINISHED = "Unfinished"  # duration of an operation that has not ended
WAITING = "-"  # duration of a Cron operation between two runs

_SUFFIXES = {
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    "": Decimal(1),
    "k": Decimal(10**3),
    **{letter: Decimal(1000**power) for power, letter in enumerate("MGTPE", 2)},
    **{f"{letter}i": Decimal(1024**power) for power, letter in enumerate("KMGTPE", 1)},
}
# An exponent of two digits is more than enough, and keeps 1e999999999 from filling the memory.
QUANTITY_PATTERN = r"^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([KMGTPE]i|[numkMGTPE]|[eE][+-]?[0-9]{1,2})?$"
_QUANTITY = re.compile(QUANTITY_PATTERN)
_NUMBER_LENGTH = re.compile(r"^[+-]?[0-9.]*")
_LARGEST = 2**63 - 1  # of a quantity in Kubernetes; what is larger counts as this
_MAX_TEXT = 64


def parse_quantity(text: str) -> Decimal:
    """Return what a Kubernetes quantity says: `4Gi`, `100M`, `1e3`, `0.5Gi`, `250m`. Raises: INVALID."""
    if len(text) > _MAX_TEXT or not _QUANTITY.fullmatch(text):
        raise CacheError(
            ErrorKind.INVALID, f"{text[:_MAX_TEXT]!r} is no quantity: write a number with a unit, such as 10Gi or 500M"
        )
    number = _NUMBER_LENGTH.match(text)
    assert number is not None  # the pattern begins with it
    suffix = text[number.end() :]
    factor = _SUFFIXES[suffix] if suffix in _SUFFIXES else Decimal(10) ** int(suffix[1:])
    value = Decimal(number[0]) * factor
    return max(Decimal(-_LARGEST), min(Decimal(_LARGEST), value))


def quantity_bytes(text: str) -> int:
    """Return whole bytes; a fraction of one counts as one, as in Kubernetes. Raises: INVALID."""
    return int(parse_quantity(text).to_integral_value(ROUND_UP))


def format_duration(seconds: float) -> str:
    """Return whole seconds as Go prints them: `34s`, `2m1s`, `1h0m5s`."""
    minutes, rest = divmod(max(0, int(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
