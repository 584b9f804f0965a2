"""JSON files that survive a power cut: written under another name, synced, renamed, the directory synced.

Stateless; blocking, and quick enough for an event loop (a few kilobytes).
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

SUFFIX = ".json"
_SCRATCH = ".new"


def write(path: Path, value: Mapping[str, Any]) -> None:
    """Replace a file, mode 0600. Raises: OSError; the old file stays then."""
    scratch = path.with_name(path.name + _SCRATCH)
    with open(scratch, "w", opener=lambda name, flags: os.open(name, flags | os.O_NOFOLLOW, 0o600)) as file:
        json.dump(value, file, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    os.rename(scratch, path)
    _sync(path.parent)


def remove(path: Path) -> None:
    """Remove a file, if it is there. Raises: OSError."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        _sync(path.parent)


def load_all(directory: Path) -> dict[str, dict[str, Any]]:
    """Return name (without suffix) → content of all files of a directory; what is no such file is left out. Raises: OSError."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(directory.glob(f"*{SUFFIX}")):
        with contextlib.suppress(ValueError):
            value = json.loads(path.read_text())
            if isinstance(value, dict):
                found[path.name.removesuffix(SUFFIX)] = value
    return found


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
