"""A helper process that obeys on stdin, answers on stdout, and ends when its stdin does."""

from __future__ import annotations

import contextlib
import subprocess
from typing import Any

END_SECONDS = 5.0


def end(process: subprocess.Popen[Any]) -> None:
    """Close its stdin and wait for it; kill it if that is not enough. Both of its pipes are closed then."""
    assert process.stdin is not None
    assert process.stdout is not None
    with contextlib.suppress(BrokenPipeError):
        process.stdin.close()
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()
