"""Serve and fetch are killed again and again under writers: nothing that was acknowledged is lost, and no call fails."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from fusecache.source.registry import open_source
from tests.support.killer import Killer
from tests.support.mounted import Mounted
from tests.support.writers import Writers, Written

pytestmark = [pytest.mark.fuse, pytest.mark.slow]


@pytest.fixture
def source(disk_path: Path) -> Path:
    directory = disk_path / "source"
    directory.mkdir()
    return directory


def write_under_kills(
    disk_path: Path, url: str, seconds: float, interval: float, options: dict[str, str]
) -> tuple[Written, Killer]:
    with Mounted(disk_path, [url], options=options, arguments=["--read-write"]) as mounted:
        writers = Writers(mounted.mountpoint, seconds)
        try:
            with Killer(mounted, ["serve", "fetch"], interval) as killer:
                time.sleep(seconds)
            written = writers.collect()
        finally:
            writers.kill()
        if written.errors or written.wrong or written.hung:
            print(mounted.log())
    return written, killer


@pytest.mark.timeout(300)
def test_serve_and_fetch_are_killed_under_writers(disk_path: Path, source: Path, full_length: bool) -> None:
    seconds = 60.0 if full_length else 6.0
    written, killer = write_under_kills(disk_path, f"file://{source}", seconds, 0.7, {})
    assert len(killer.kills) >= seconds / 0.7 / 2, "too few kills landed"
    written.assert_clean()
    opened = open_source(f"file://{source}", {}, {})

    def read(name: str) -> bytes:
        entry = opened.stat(name.encode())
        return bytes(opened.read(name.encode(), entry.version, 0, entry.size)) if entry.size else b""

    assert written.lost(read) == []
    opened.close()
