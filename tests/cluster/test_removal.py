"""A cluster leaves nothing behind: not after a start that failed half-way, and not after one that was killed."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cluster_harness import boot, builds, needs, removal
from tests.cluster_harness.boxes import CHECKOUT
from tests.cluster_harness.cluster import Cluster
from tests.cluster_harness.progress import Progress
from tests.cluster_harness.record import lock
from tests.support.mounted import wait_until

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]

SEEN_SECONDS = 30.0


@pytest.fixture
def programs(disk_path: Path) -> dict[str, Path]:
    """The programs of a cluster whose API server ends at once."""
    if reason := needs.missing():
        pytest.skip(reason)
    (disk_path / "broken").mkdir()
    broken = disk_path / "broken" / "kubernetes"
    broken.write_text("#!/bin/sh\necho no API server today\nexit 1\n")
    broken.chmod(0o755)
    return {**builds.build(*builds.OF_CLUSTER), "kubernetes": broken.parent}


def test_half_a_boot_is_taken_back(disk_path: Path, programs: dict[str, Path]) -> None:
    directory = disk_path / "cluster"
    with lock(directory, create=True):
        with pytest.raises(boot.BootError, match="no API server today"):
            boot.boot(directory, Progress(), programs)
        cluster = Cluster.load(directory)
        assert cluster is not None
        assert len(removal.leftovers(cluster)) > 5, "there is something to remove"
        removal.remove(directory)
    assert removal.leftovers(cluster) == []


@pytest.mark.parametrize("seen", ["cluster.json", "boxes/node-1/first.json", "boxes/node-3/programs/containerd.json"])
def test_a_boot_that_was_killed_is_taken_back(disk_path: Path, seen: str) -> None:
    """As soon as a certain file is there."""
    if reason := needs.missing():
        pytest.skip(reason)
    directory = disk_path / "cluster"
    command = [sys.executable, "-m", "tests.cluster_harness", f"--directory={directory}", "up"]
    process = subprocess.Popen(command, cwd=CHECKOUT, stdout=subprocess.DEVNULL, start_new_session=True)
    assert wait_until((directory / seen).exists, SEEN_SECONDS, 0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    cluster = Cluster.load(directory)
    assert cluster is not None
    for _ in range(2):  # the second finds nothing to do
        subprocess.run([*command[:-1], "down"], cwd=CHECKOUT, check=True, stdout=subprocess.DEVNULL, timeout=60)
    assert removal.leftovers(cluster) == []
