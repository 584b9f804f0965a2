"""Bytes that could not be uploaded because the store has something else by now: kept in the state directory, for a person to
look at.

Each is three files in `kept/`: the bytes under the last name of the file, `.map` (tiers/stage.py: which of them are new; the
others are those of the version that it began with), and `.json`, which says whose they are.
"""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from fusecache.contract.run_files import KEPT_DIR


@dataclass(frozen=True, slots=True)
class KeptFile:
    """`name`: of the file in `kept/`. `time`: wall clock, when it was set aside."""

    directory: Path
    name: str
    source: str
    path: str
    time: float
    reason: str
    size: int

    @property
    def data(self) -> Path:
        return self.directory / self.name

    @property
    def map(self) -> Path:
        return self.directory / f"{self.name}.map"

    def remove(self) -> None:
        for file in (self.data, self.map, self.directory / f"{self.name}.json"):
            file.unlink(missing_ok=True)


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


def kept_files(state_dir: Path) -> list[KeptFile]:
    """Return what is kept, oldest first. What is no record of it, or has no bytes, is left out."""
    found = []
    directory = state_dir / KEPT_DIR
    for file in sorted(directory.glob("*.json")) if directory.is_dir() else []:
        name = file.name.removesuffix(".json")
        try:
            told = json.loads(file.read_text())
            size = os.stat(directory / name).st_size
            found.append(KeptFile(directory, name, told["source"], told["path"], told["time"], told["reason"], size))
        except (OSError, ValueError, KeyError, TypeError):
            continue
    return sorted(found, key=lambda kept: kept.time)
