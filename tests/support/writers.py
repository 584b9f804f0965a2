"""Verifying writers as processes: start several, let something bad happen meanwhile, collect what was acknowledged.

A writer that does not end is killed and counted as hung: a hang must never become a pass.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

PROGRAM = Path(__file__).with_name("verifying_writer.py")
GRACE_SECONDS = 60.0
MODES = ("sequential", "random", "small", "rename")


@dataclass(slots=True)
class Written:
    """What all writers of a run did together. `files`: names with the SHA-256 of what must be there."""

    calls: int = 0
    wrong: int = 0
    hung: int = 0
    longest_seconds: float = 0.0
    errors: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)

    def assert_clean(self) -> None:
        assert self.calls > 0, "the writers wrote nothing: the run proves nothing"
        assert not self.wrong, self.examples
        assert not self.errors, (self.errors, self.examples)
        assert not self.hung, f"{self.hung} writers hung"

    def lost(self, read: Callable[[str], bytes]) -> list[str]:
        """Return the files that are not in the store as they were acknowledged."""
        lost = []
        for name, digest in sorted(self.files.items()):
            try:
                found = hashlib.sha256(read(name)).hexdigest()
            except Exception as error:
                lost.append(f"{name}: {error}")
                continue
            if found != digest:
                lost.append(f"{name}: other bytes than were acknowledged")
        return lost


class Writers:
    def __init__(self, root: Path, seconds: float, modes: Sequence[str] = MODES) -> None:
        self._seconds = seconds
        self._processes = [
            subprocess.Popen(
                [
                    sys.executable,
                    str(PROGRAM),
                    json.dumps({"root": str(root), "seconds": seconds, "mode": mode, "seed": seed}),
                ],
                stdout=subprocess.PIPE,
            )
            for seed, mode in enumerate(modes)
        ]

    def collect(self, grace_seconds: float = GRACE_SECONDS) -> Written:
        written = Written()
        for process in self._processes:
            try:
                out, _ = process.communicate(timeout=self._seconds + grace_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                written.hung += 1
                continue
            if process.returncode:
                written.errors[f"writer exit {process.returncode}"] += 1
                continue
            one = json.loads(out)
            written.calls += one["calls"]
            written.wrong += one["wrong"]
            written.errors.update(one["errors"])
            written.examples += one["examples"]
            written.longest_seconds = max(written.longest_seconds, one["longest_seconds"])
            written.files.update(one["files"])
        return written

    def kill(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
