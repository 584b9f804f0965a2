"""A supervisor that waits for its order says when it would obey at once."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.custody.spawn import supervisor_environment

SILENCE_SECONDS = 0.5
PATIENCE_SECONDS = 30.0

pytestmark = pytest.mark.slow


class Waiting:
    """A supervisor without an order, and with the fetch of tests/support."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        order, self.order_fd = os.pipe()
        self.report_fd, report = os.pipe()
        lock = os.open(directory / "lock", os.O_RDWR | os.O_CREAT)
        arguments = ["--order-fd", order, "--status-fd", report, "--lock-fd", lock, "--custody", directory, "--foreground"]
        arguments += ["--fetch-module", "tests.support.fake_fetch", "--serve-module", "tests.support.fake_serve"]
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "fusecache.custody", *map(str, arguments)],
            env=supervisor_environment({**os.environ, "FAKE_DIR": str(directory)}),
            pass_fds=(order, report, lock),
        )
        for fd in (order, report, lock):
            os.close(fd)

    def says(self, seconds: float) -> str:
        """Return its next line; "" if none comes in time."""
        if not select.select([self.report_fd], [], [], seconds)[0]:
            return ""
        return os.read(self.report_fd, 4096).decode()

    def order(self, spec_path: str) -> None:
        os.write(self.order_fd, spec_path.encode())
        self.close_order()

    def close_order(self) -> None:
        if self.order_fd >= 0:
            os.close(self.order_fd)
            self.order_fd = -1

    def close(self) -> None:
        self.close_order()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(PATIENCE_SECONDS)
        self.process.kill()
        self.process.wait()
        os.close(self.report_fd)


@pytest.fixture
def waiting(tmp_path: Path) -> Iterator[Waiting]:
    (tmp_path / "fetch.cold").write_text("1")
    one = Waiting(tmp_path)
    try:
        yield one
    finally:
        (tmp_path / "fetch.cold").unlink(missing_ok=True)
        one.close()


def test_warm_is_said_once_every_daemon_has_imported(waiting: Waiting) -> None:
    assert waiting.says(SILENCE_SECONDS) == "", "fetch still imports"
    (waiting.directory / "fetch.cold").unlink()
    assert json.loads(waiting.says(PATIENCE_SECONDS)) == {"state": "warm"}
    waiting.close_order()
    assert waiting.process.wait(PATIENCE_SECONDS) == 0


def test_an_order_is_obeyed_before_all_have_imported(waiting: Waiting) -> None:
    waiting.order(str(waiting.directory / "missing.json"))
    assert waiting.process.wait(PATIENCE_SECONDS) != 0, "it looked for the spec"
    assert "warm" not in waiting.says(PATIENCE_SECONDS)
