"""Bytes that could not be uploaded because the store has something else by now: kept in the state directory, for a person to
look at.

Each is three files in `kept/`: the bytes under the last name of the file, `.map` (tiers/stage.py: which of them are new; the
others are those of the version that it began with), and `.json`, which says whose they are.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

KEPT_DIR = "kept"


def keep_aside(stages: Path, stage: int, path: bytes, url: str, reason: str) -> Path:
    """Move a stage there; return where the bytes are. `stages`: the directory of stages, in the state directory."""
    directory = stages.parent / KEPT_DIR
    directory.mkdir(mode=0o700, exist_ok=True)
    last = path.rpartition(b"/")[2].decode("utf-8", "backslashreplace").lstrip(".")[:100] or "file"
    name = f"{last}.{time.strftime('%Y%m%dT%H%M%S')}.{stage:x}"
    told = {"source": url, "path": path.decode("utf-8", "surrogateescape"), "time": time.time(), "reason": reason}
    (directory / f"{name}.json").write_text(json.dumps(told))
    (stages / f"{stage:x}.map").rename(directory / f"{name}.map")
    (stages / f"{stage:x}.data").rename(directory / name)
    return directory / name
