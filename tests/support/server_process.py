"""Starts a server program for tests, demo and benches, waits until its port answers, and ends it again.

Owns one process for the length of a `with`; it dies with its parent, so that even SIGKILL of a test run leaves no server.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

READY_TIMEOUT_SECONDS = 30.0
STOP_TIMEOUT_SECONDS = 5.0


@contextlib.contextmanager
def running(
    command: Sequence[str],
    port: int,
    log_path: Path,
    environment: Mapping[str, str] | None = None,
    address: str = "127.0.0.1",
) -> Iterator[int]:
    """Run a program that stays in the foreground; yield its pid once address:port accepts connections.

    Raises: RuntimeError with the end of its log if it does not get there.
    """
    setpriv = shutil.which("setpriv")
    full = [*([setpriv, "--pdeathsig", "KILL"] if setpriv else []), *command]
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            full, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, cwd=log_path.parent,
            env={"PATH": os.environ.get("PATH", ""), "HOME": str(log_path.parent), **(environment or {})},
        )  # fmt: skip
    try:
        _wait_ready(process, address, port, log_path)
        yield process.pid
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(STOP_TIMEOUT_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait_ready(process: subprocess.Popen[bytes], address: str, port: int, log_path: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            socket.create_connection((address, port), 1).close()
            return
        time.sleep(0.02)
    tail = log_path.read_text(errors="replace")[-2000:]
    raise RuntimeError(f"{process.args!r} did not become ready; its log ends with:\n{tail}")
