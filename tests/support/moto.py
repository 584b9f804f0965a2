"""A moto server on loopback: an S3 that takes every key, where SeaweedFS refuses or folds the odd ones.

Owns one process; used by tests, from one thread. Any key and secret are accepted.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from types import TracebackType
from typing import Self

from tests.support.seaweed import free_ports

READY_TIMEOUT_SECONDS = 60.0  # it imports for 2-5 s
ACCESS_KEY, SECRET_KEY = "AKIAFUSECACHEMOTO000", "moto-takes-any-secret"


class Moto:
    """One running server with an empty S3. Use as a context manager, or call `start` and `close`."""

    def __init__(self) -> None:
        self.port = free_ports(1)[0]
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> Self:
        """Start the server and wait until it answers. Raises RuntimeError with the end of its log if it does not."""
        environment = {**os.environ, "AWS_EC2_METADATA_DISABLED": "true", "MOTO_CALL_RESET_API": "false"}
        with tempfile.TemporaryFile() as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment, start_new_session=True,
            )  # fmt: skip
            deadline = time.monotonic() + READY_TIMEOUT_SECONDS
            while time.monotonic() < deadline and self.process.poll() is None:
                if self._answers():
                    return self
                time.sleep(0.1)
            log.seek(0)
            tail = log.read()[-2000:].decode(errors="replace")
        self.close()
        raise RuntimeError(f"moto_server did not become ready; its log ends with:\n{tail}")

    def close(self) -> None:
        process, self.process = self.process, None
        if process is not None:
            process.kill()
            process.wait()

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(self.endpoint_url, timeout=2).close()
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            return False
        return True

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
