"""Python's own http.server (which ignores ranges), on loopback. Owns one process for the length of a `with`."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from tests.support.seaweed import free_ports
from tests.support.server_process import running


@contextlib.contextmanager
def python_http(root: Path) -> Iterator[str]:
    """Serve `root`; yield the URL with its trailing slash."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="fusecache-http-") as name:
        command = [sys.executable, "-m", "http.server", "-b", "127.0.0.1", "-d", str(root), str(port)]
        with running(command, port, Path(name) / "log"):
            yield f"http://127.0.0.1:{port}/"
