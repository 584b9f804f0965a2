"""A relay before the store that counts what clients send, heads of requests included.

The store's own counter is of no use: SeaweedFS counts what it copies itself as received, too. Owns a process for the length of
a `with`; it dies with its parent.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from tests.support import piped_process


class Relay:
    def __init__(self, endpoint_url: str) -> None:
        parts = urlsplit(endpoint_url)
        self._store = (parts.hostname or "", str(parts.port or 80))
        self._process: subprocess.Popen[bytes] | None = None
        self._port = 0

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def sent_bytes(self) -> int:
        """Return how many bytes all clients have sent so far."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> int:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise OSError("the relay ended; its error is on stderr")
        return int(line)

    def __enter__(self) -> Self:
        """Raises: OSError."""
        setpriv = shutil.which("setpriv")
        self._process = subprocess.Popen(
            [
                *([setpriv, "--pdeathsig", "KILL"] if setpriv else []),
                *(sys.executable, "-m", "tests.bench.writing.relay_program", *self._store),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[3],
            start_new_session=True,  # Ctrl-C in a terminal reaches the caller only
        )
        try:
            self._port = self._answer()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._close()

    def _close(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            piped_process.end(process)
