"""An upgrade: serve and fetch are told to end, in turn, and replaced, under readers that compare every byte (figure 3)."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stress.conftest import make_files
from tests.support.killer import Killer
from tests.support.mounted import Mounted
from tests.support.readers import Readers

pytestmark = [pytest.mark.stress, pytest.mark.fuse, pytest.mark.root, pytest.mark.timed]

MODES = ["random"] * 5 + ["sequential", "walk", "direct"]
LONGEST_SECONDS = 1.0


@pytest.mark.timeout(180)
@pytest.mark.parametrize("access", ["openless", "passthrough"])
def test_readers_do_not_notice_an_upgrade(
    disk_path: Path, full_length: bool, promise: Callable[[str, str, str, str], None], access: str
) -> None:
    seconds = 30.0 if full_length else 4.0
    truth = disk_path / "truth"
    make_files(truth, small=200, large=3, large_bytes=20 << 20)
    with Mounted(disk_path, [f"file://{truth}"], arguments=["--access", access]) as mounted:
        before = {*mounted.pids("serve"), *mounted.pids("fetch")}
        readers = Readers(mounted.mountpoint, truth, seconds + 1, MODES, drop_caches=0.01)
        try:
            with Killer(mounted, ["serve", "fetch"], 0.5, number=signal.SIGTERM) as upgrade:
                time.sleep(seconds)
            seen = readers.collect()
        finally:
            readers.kill()
        after = {*mounted.pids("serve"), *mounted.pids("fetch")}
    print(upgrade.explain(seen.slowest))
    assert len(upgrade.kills) >= seconds / 1.5
    assert not before & after, "somebody was not replaced"
    promise(
        "3" if access == "openless" else "3a",
        f"serve and fetch replaced on purpose in turn, {access} mount",
        f"{len(upgrade.kills)} replaced, {seen.reads} reads: {seen.failed} failed, {seen.wrong} wrong, {seen.hung} hung, "
        f"longest {seen.longest_seconds:.2f} s",
        "0 failed, longest < 1 s",
    )
    seen.assert_clean()
    if full_length:
        assert seen.longest_seconds < LONGEST_SECONDS
