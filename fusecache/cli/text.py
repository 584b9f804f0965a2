"""Text on a terminal: names from stores and users must not move its cursor or break a line.

Stateless; every command prints through it.
"""

from __future__ import annotations


def printable(text: str) -> str:
    """Return `text` on one line, control characters and bytes that are not UTF-8 escaped."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def seconds_left(seconds: float) -> str:
    """Return `42s`, `3m05s`, `2h10m`."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole}s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{rest:02d}s"
    return f"{minutes // 60}h{minutes % 60:02d}m"
