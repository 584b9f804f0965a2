"""Schedules of Cron operations: whether Kubernetes would take them (five fields, or a word such as @hourly)."""

from __future__ import annotations

import re

_WORDS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
# First and last number of each field, and names that stand for numbers.
_FIELDS: tuple[tuple[int, int, dict[str, int]], ...] = (
    (0, 59, {}),
    (0, 23, {}),
    (1, 31, {}),
    (1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    (0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_PART = re.compile(r"(\*|\?|[0-9]{1,2}|[a-z]{3})(?:-([0-9]{1,2}|[a-z]{3}))?(?:/([0-9]{1,3}))?")
_MAX_TEXT = 256


def normal_schedule(text: str) -> str:
    """Return a schedule as five fields. Raises: ValueError."""
    lower = text.strip().lower()
    fields = _WORDS.get(lower, lower).split()
    if len(text) > _MAX_TEXT or len(fields) != len(_FIELDS):
        raise ValueError(text)
    for each, (first, last, names) in zip(fields, _FIELDS, strict=True):
        for part in each.split(","):
            _check(part, first, last, names)
    return " ".join(fields)


def _check(part: str, first: int, last: int, names: dict[str, int]) -> None:
    match = _PART.fullmatch(part)
    if match is None or (match[1] in "*?" and match[2]) or match[3] == "0":
        raise ValueError(part)
    if match[3] and not int(match[3]):
        raise ValueError(part)
    bounds = [names[text] if text in names else int(text) for text in match.group(1, 2) if text and text not in "*?"]
    if any(not first <= bound <= last for bound in bounds) or bounds != sorted(bounds):
        raise ValueError(part)
