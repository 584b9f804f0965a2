"""Calls a function in a process of its own, as nothing on a mount under test may be open in the process that made the mount.

`call_in_child(function, ...)`: the function lies in a module that can be imported without pytest; arguments and result are JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 100.0


class ChildFailedError(Exception):
    """The function raised, or the process was killed after its time; the message is what it wrote."""


def call_in_child(
    function: Callable[..., Any],
    *arguments: object,
    directory: Path,
    seconds: float = SECONDS,
    environment: Mapping[str, str] | None = None,
) -> Any:
    """Raises: ChildFailedError."""
    child = start_in_child(function, *arguments, directory=directory, seconds=seconds, environment=environment)
    out, err = child.communicate(timeout=seconds + 10)
    if child.returncode:
        raise ChildFailedError(f"{function.__name__}: exit {child.returncode}:\n{err.decode(errors='replace')}")
    return json.loads(out.splitlines()[-1])


def start_in_child(
    function: Callable[..., Any],
    *arguments: object,
    directory: Path,
    seconds: float = SECONDS,
    environment: Mapping[str, str] | None = None,
) -> subprocess.Popen[bytes]:
    """Start the call; its last line of output is its result. It ends by itself, killed after `seconds`."""
    called = [sys.executable, "-P", "-m", __name__, function.__module__, function.__name__, json.dumps(arguments)]
    return subprocess.Popen(
        ["timeout", "-s", "KILL", str(seconds), "env", "-C", str(directory), *called],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(environment or {})},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


if __name__ == "__main__":
    module, name, given = sys.argv[1:]
    print(json.dumps(getattr(importlib.import_module(module), name)(*json.loads(given))))
