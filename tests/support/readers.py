"""Verifying readers as processes: start several, let something bad happen meanwhile, collect what they saw.

A reader that does not end is killed and counted as hung: a hang must never become a pass.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PROGRAM = Path(__file__).with_name("verifying_reader.py")
GRACE_SECONDS = 30.0


@dataclass(slots=True)
class Seen:
    """What all readers of a run saw together."""

    reads: int = 0
    bytes: int = 0
    wrong: int = 0
    hung: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    longest_seconds: float = 0.0
    examples: list[str] = field(default_factory=list)
    slowest: list[tuple[float, float, str]] = field(default_factory=list)  # seconds, monotonic time at the end, what

    @property
    def failed(self) -> int:
        return sum(self.errors.values())

    def assert_clean(self) -> None:
        assert self.reads > 0, "the readers read nothing: the run proves nothing"
        assert not self.wrong, self.examples
        assert not self.errors, (self.errors, self.examples)
        assert not self.hung, f"{self.hung} readers hung"


class Readers:
    """Started at once; `collect` waits for all."""

    def __init__(
        self,
        root: Path,
        truth: Path,
        seconds: float,
        modes: Sequence[str],
        *,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        """One reader for each of `modes` (random, direct, sequential, walk). `prefix`: a command line that starts them."""
        self._seconds = seconds
        self._processes = [
            subprocess.Popen(
                [
                    *prefix,
                    sys.executable,
                    str(PROGRAM),
                    json.dumps({"root": str(root), "truth": str(truth), "seconds": seconds, "mode": mode, "seed": seed, **more}),
                ],
                stdout=subprocess.PIPE,
                env=dict(environment) if environment is not None else dict(os.environ),
            )
            for seed, mode in enumerate(modes)
        ]

    def __len__(self) -> int:
        return len(self._processes)

    def collect(self, grace_seconds: float = GRACE_SECONDS) -> Seen:
        seen = Seen()
        for process in self._processes:
            try:
                out, _ = process.communicate(timeout=self._seconds + grace_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                seen.hung += 1
                continue
            if process.returncode:
                seen.errors[f"reader exit {process.returncode}"] += 1
                continue
            one = json.loads(out)
            seen.reads += one["reads"]
            seen.bytes += one["bytes"]
            seen.wrong += one["wrong"]
            seen.errors.update(one["errors"])
            seen.longest_seconds = max(seen.longest_seconds, one["longest_seconds"])
            seen.examples += one["examples"]
            seen.slowest += [tuple(slow) for slow in one["slowest"]]
        seen.slowest.sort(reverse=True)
        return seen

    def kill(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.wait()
            if process.stdout is not None:
                process.stdout.close()
