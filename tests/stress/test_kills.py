"""serve and fetch are killed again and again under readers that compare every byte (figures 1 and 2)."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stress.conftest import make_files
from tests.support.mounted import Mounted, kill
from tests.support.readers import Readers

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root]

MODES = ["random"] * 6 + ["sequential", "sequential", "walk", "direct"]


@pytest.mark.parametrize("options", [{}, {"debug_no_resend": "true"}], ids=["resend", "slots-only"])
def test_readers_do_not_notice_that_daemons_are_killed(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], options: dict[str, str]
) -> None:
    seconds = 60.0 if full_length else 8.0
    truth = disk_path / "truth"
    make_files(truth, small=300, large=3, large_bytes=20 << 20)
    kills = 0
    with Mounted(disk_path, [f"file://{truth}"], options=options) as mounted:
        readers = Readers(mounted.mountpoint, truth, seconds, MODES, drop_caches=0.01)
        try:
            end = time.monotonic() + seconds - 1
            while time.monotonic() < end:
                time.sleep(0.7)
                kills += kill(mounted.pid("serve" if kills % 2 else "fetch"))
            seen = readers.collect()
        finally:
            readers.kill()
        restarts = mounted.status()["restarts"]
    assert kills >= seconds / 3, "too few kills landed"
    assert restarts >= kills
    promise(
        "1b" if options else "1",
        "serve or fetch killed every 0.7 s" + (", no RESEND asked for" if options else ""),
        f"{kills} kills, {seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong, {seen.hung} hung, "
        f"longest {seen.longest_seconds:.2f} s",
        "0 failed, 0 wrong, 0 hung, longest < 0.5 s",
    )
    seen.assert_clean()
    if full_length:
        assert seen.longest_seconds < 0.5
