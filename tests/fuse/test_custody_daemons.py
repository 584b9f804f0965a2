"""The supervisor with the real fetch and serve over a directory: they start, die, are replaced, and end together."""

from __future__ import annotations

import itertools
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fusecache.contract.mount_spec import Access, Medium, SourceSpec, TierSpec
from fusecache.contract.run_files import CLEAN_MARKER
from fusecache.custody.unmount import unmount
from tests.support.custody_mount import CustodyMount

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

READER = """
import os, random, sys, time
mounted, source, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
data = open(source, "rb").read()
end, count, longest = time.monotonic() + seconds, 0, 0.0
while time.monotonic() < end:
    offset = random.randrange(len(data) - 131072)
    began = time.monotonic()
    with open(mounted, "rb", 0) as file:
        assert os.pread(file.fileno(), 131072, offset) == data[offset : offset + 131072]
    longest = max(longest, time.monotonic() - began)
    count += 1
print(count, longest)
"""


@pytest.fixture
def mount(disk_path: Path, access: Access) -> Iterator[CustodyMount]:
    source, tier = disk_path / "source", disk_path / "cache"
    source.mkdir()
    tier.mkdir(mode=0o700)
    (source / "data").write_bytes(random.Random(1).randbytes(8 << 20))
    one = CustodyMount(
        disk_path,
        sources=(SourceSpec(f"file://{source}"),),
        tiers=(TierSpec(str(tier), Medium.SSD, 64 << 20),),
        serve_processes=2,
        access=access,
    )
    one.modules = ()
    yield one
    one.close()


@pytest.mark.parametrize("access", [Access.OPENLESS, Access.PASSTHROUGH])
def test_readers_see_no_death(mount: CustodyMount, disk_path: Path, allowed: Callable[[float], float]) -> None:
    assert mount.start() == {"state": "ready"}
    assert mount.record.access == mount.spec.access
    mount.wait_spares()
    arguments = [str(mount.mountpoint / "data"), str(disk_path / "source" / "data"), "4"]
    reader = subprocess.Popen(["timeout", "-s", "KILL", "60", sys.executable, "-c", READER, *arguments], stdout=subprocess.PIPE)
    kills = 0
    for turn in itertools.count():
        time.sleep(0.7)
        if reader.poll() is not None:
            break
        record = mount.record
        victim = [record.fetch, *record.serve][turn % 3]
        if victim is not None and victim.is_alive:
            os.kill(victim.pid, signal.SIGKILL)
            kills += 1
    output = reader.communicate()[0].split()
    assert reader.returncode == 0
    longest = float(output[1])
    print(
        f"{mount.spec.access}: {int(output[0])} reads, none failed or wrong, {kills} kills, longest wait {longest * 1000:.0f} ms"
    )
    assert kills >= 3
    assert longest < allowed(1.0)
    mount.wait(lambda record: record.restarts == kills and record.state == "ready")
    unmount(str(mount.run_root), str(mount.mountpoint))
    assert mount.leftovers() == []
    assert mount.wait_ended() == 0
    assert (Path(mount.spec.state_dir) / CLEAN_MARKER).exists()


@pytest.mark.parametrize("access", [Access.PASSTHROUGH])
def test_killed_supervisor_is_cleaned_up_after(mount: CustodyMount) -> None:
    mount.start()
    record = mount.record
    assert mount.process is not None
    mount.process.kill()
    mount.process.wait()
    assert len(mount.read("data")) == 4096
    unmount(str(mount.run_root), str(mount.mountpoint))
    assert mount.leftovers() == []
    assert not any(process.is_alive for process in record.daemons)
    assert (Path(mount.spec.state_dir) / CLEAN_MARKER).exists()  # fetch was told, not killed
    assert mount.start() == {"state": "ready"}
