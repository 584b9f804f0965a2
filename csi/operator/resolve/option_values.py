"""How values of options are read: in the units of the programs they were written for, into ours.

Functions raise ValueError with what is expected; the value itself is in no message.
"""

from __future__ import annotations

import re

from csi.operator.resolve.option_row import Converter, NotServed, WithoutEffect
from fusecache.base.units import KIB, MIB, parse_size
from fusecache.contract.errors import CacheError

NEVER_SECONDS = 365 * 86400.0  # what "never ask again" becomes: a mount does not live that long without being asked
_MAX_TEXT = 64  # of a number with a unit
_TRUE, _FALSE = frozenset({"1", "true", "yes", "on", ""}), frozenset({"0", "false", "no", "off"})
_DURATION = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*(ms|msec|millisecond|s|sec|second|m|min|minute|h|hour|hr|d|day|)s?", re.ASCII)
_FACTORS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_ALLOWED_ENDPOINT = re.compile(r"(https?://)?(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(:\d{1,5})?(/[A-Za-z0-9._~/-]*)?")


def boolean(text: str) -> str:
    lower = text.strip().lower()
    if lower in _TRUE or lower in _FALSE:
        return "true" if lower in _TRUE else "false"
    raise ValueError("true or false")


def _seconds_of(text: str, plain_unit: str) -> float:
    lower = text.strip().lower()
    match = _DURATION.fullmatch(lower) if len(lower) <= _MAX_TEXT else None
    if match is None:
        raise ValueError("a duration such as 30s or 5min")
    unit = match[2] or plain_unit
    return float(match[1]) * _FACTORS["ms" if unit.startswith(("ms", "milli")) else unit[0]]


def format_seconds(seconds: float) -> str:
    """Return seconds without an exponent, which settings would not take."""
    return f"{min(seconds, NEVER_SECONDS):.3f}".rstrip("0").rstrip(".")


def lasting(plain_unit: str = "s") -> Converter:
    """A time for which something is trusted: 0 and above, -1 for ever."""

    def convert(text: str) -> str:
        never = text.strip() == "-1"
        return format_seconds(NEVER_SECONDS if never else _seconds_of(text, plain_unit))

    return convert


def timeout(plain_unit: str = "s") -> Converter:
    """A time after which something is given up: at least a millisecond, at most a day."""

    def convert(text: str) -> str | None:
        seconds = _seconds_of(text, plain_unit)
        return format_seconds(min(86400.0, max(0.001, seconds))) if seconds else None

    return convert


def tenths(text: str) -> str | None:
    """`timeo` of mount(8)."""
    number = int(whole(0, 6000)(text) or 0)
    return format_seconds(number / 10) if number else None


def whole(minimum: int, maximum: int) -> Converter:
    """A number; one above the maximum is lowered to it, as more is of no use."""

    def convert(text: str) -> str:
        stripped = text.strip()
        if not re.fullmatch(r"\d{1,18}", stripped, re.ASCII) or int(stripped) < minimum:
            raise ValueError(f"a whole number from {minimum}")
        return str(min(int(stripped), maximum))

    return convert


def _bytes_of(text: str, plain_factor: int = 1) -> int:
    stripped = text.strip()
    try:
        if len(stripped) > _MAX_TEXT:
            raise ValueError
        size = parse_size(stripped)
    except (CacheError, ValueError, OverflowError):
        raise ValueError("a size such as 16MB or 1Gi") from None
    return size * plain_factor if stripped.isdigit() else size


def size(minimum: int, maximum: int, multiple: int = 1, plain_factor: int = 1) -> Converter:
    """Bytes, brought into bounds. `plain_factor`: what a number without a unit counts."""

    def convert(text: str) -> str:
        rounded = _bytes_of(text, plain_factor) // multiple * multiple
        return str(min(maximum, max(minimum, rounded)))

    return convert


block_size = size(128 * KIB, 64 * MIB, 128 * KIB)


def endpoint(text: str) -> str:
    """The address of a store, with or without a scheme."""
    stripped = text.strip().rstrip("/")
    if len(stripped) > 253 + 100 or not _ALLOWED_ENDPOINT.fullmatch(stripped):
        raise ValueError(
            "a host such as oss-cn-beijing.aliyuncs.com or an address such as http://minio:9000, without user or key"
        )
    return stripped


def word(text: str) -> str:
    """A name such as that of a region."""
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,128}", text.strip(), re.ASCII):
        raise ValueError("a name of letters, digits, dots and dashes")
    return text.strip()


def absolute_path(text: str) -> str:
    if not text.startswith("/") or "\0" in text or ".." in text.split("/"):
        raise ValueError("an absolute path without ..")
    return text


def octal(text: str) -> str:
    if not re.fullmatch(r"0?[0-7]{1,3}", text.strip()):
        raise ValueError("octal permissions such as 0022")
    return f"{int(text.strip(), 8):04o}"


def one_of(*choices: str) -> Converter:
    def convert(text: str) -> str:
        if text.strip() not in choices:
            raise ValueError("one of " + ", ".join(choices))
        return text.strip()

    return convert


def chosen(results: dict[str, str | Exception | None], *, otherwise: str | None = None, fold: bool = True) -> Converter:
    """Words, each with what it becomes, or what it raises. `otherwise`: what other words are refused with; None: a list."""

    def convert(text: str) -> str | None:
        key = text.strip().upper() if fold else text.strip()
        if key not in results:
            if otherwise is not None:
                raise NotServed(otherwise)
            raise ValueError("one of " + ", ".join(results))
        result = results[key]
        if isinstance(result, Exception):
            raise type(result)(*result.args)
        return result

    return convert


def only(expected: str, note: str) -> Converter:
    """A switch of which one position is what we do, and the other one is refused."""

    def convert(text: str) -> None:
        if boolean(text) != expected:
            raise NotServed(note)

    return convert


def when(position: str, result: str) -> Converter:
    """A switch that means something in one position only."""

    def convert(text: str) -> str | None:
        return result if boolean(text) == position else None

    return convert


def unless(expected: str, note: str) -> Converter:
    """A value that is what we do, while others have no effect."""

    def convert(text: str) -> None:
        if text.strip() != expected:
            raise WithoutEffect(note)

    return convert


def copies(text: str) -> None:
    if whole(0, 1 << 31)(text) not in ("0", "1"):
        raise WithoutEffect("one copy of a block is kept")
