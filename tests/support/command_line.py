"""Runs `fusecache` as a user would, with directories of the test's own, and ends what it mounted.

Owns the mounts a test made through it. The run directory of root is the machine's; everything else lies in the test's directory.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60.0


class CommandLine:
    """`run` returns a finished process with text output; `mount` makes a mount point of that name first."""

    def __init__(self, directory: Path, environment: Mapping[str, str] | None = None) -> None:
        self.directory = directory
        self.environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(ROOT),
            "HOME": str(directory / "home"),
            "AWS_EC2_METADATA_DISABLED": "true",
            **{name: value for name, value in os.environ.items() if name.startswith("FUSECACHE_TEST")},
            **(environment or {}),
        }
        self._mounted: list[str] = []

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "fusecache.cli", *arguments]

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(*arguments),
            env={**self.environment, **environment},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            cwd="/",
            stdin=subprocess.DEVNULL,
            check=False,
        )

    def mount(self, *arguments: str, name: str = "mnt", **environment: str) -> subprocess.CompletedProcess[str]:
        """Mount with one tier in the test's directory."""
        mountpoint = self.directory / name
        mountpoint.mkdir(exist_ok=True)
        self._mounted.append(str(mountpoint))
        tier = f"{self.directory / 'tier'}:64Mi"
        return self.run("mount", *arguments, str(mountpoint), "--tier", tier, "--timeout", "30", **environment)

    def status(self, name: str = "mnt") -> dict[str, Any]:
        answer = self.run("status", "--json", str(self.directory / name))
        assert answer.returncode == 0, answer.stderr
        (status,) = json.loads(answer.stdout)
        return dict(status)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for mountpoint in reversed(self._mounted):
            self.run("umount", "--lazy", mountpoint)
