"""Paths of values in an object, as people read them: `spec.mounts[0].options['fs.oss.endpoint']`."""

from __future__ import annotations

import re
from collections.abc import Iterable

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_MAX_KEY = 100  # of a key that somebody made up


def step(before: str, key: str | int) -> str:
    """Return the path of what lies one step below a path."""
    if isinstance(key, int):
        return f"{before}[{key}]"
    shown = key if len(key) <= _MAX_KEY else key[:_MAX_KEY] + "..."
    if not _PLAIN_KEY.fullmatch(shown):
        return f"{before}[{shown!r}]"
    return f"{before}.{shown}" if before else shown


def json_path(keys: Iterable[str | int]) -> str:
    path = ""
    for key in keys:
        path = step(path, key)
    return path
