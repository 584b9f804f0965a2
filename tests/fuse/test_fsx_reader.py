"""Random reads of every kind, each byte compared, while the cache is too small for the data; on both engines and access modes."""

from __future__ import annotations

import importlib.util
import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import fsx_reader
from tests.support.mounted import Mounted

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

NO_PYFUSE3 = pytest.mark.skipif(importlib.util.find_spec("pyfuse3") is None, reason="pyfuse3 is not installed")
SIZES = (0, 1, 4095, 4097, 131_071, 131_073, 1 << 20, (1 << 20) + 1, 5_000_000, 9 << 20)
SECONDS = 2.5
READERS = 3


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("--access", "openless"), id="native-openless"),
        pytest.param(("--access", "passthrough"), id="native-passthrough"),
        pytest.param(("--access", "openless", "--serve-processes", "2"), id="native-two-serves"),
        pytest.param(("--engine", "pyfuse3"), id="pyfuse3", marks=NO_PYFUSE3),
    ],
)
@pytest.mark.parametrize("quota", ["8Mi", "64Mi"])
def test_every_way_to_read_gives_the_same_bytes(disk_path: Path, arguments: tuple[str, ...], quota: str) -> None:
    truth = disk_path / "truth"
    truth.mkdir()
    source = random.Random(3)
    for number, size in enumerate(SIZES):
        (truth / f"{number}-{size}").write_bytes(source.randbytes(size))
    with Mounted(disk_path, [f"file://{truth}"], tiers=[f"{disk_path / 'tier'}:{quota}"], arguments=arguments) as mounted:
        readers = [start(mounted.mountpoint, truth, seed) for seed in range(READERS)]
        outputs = [reader.communicate(timeout=SECONDS + 60) for reader in readers]
        status = mounted.status()
    for reader, (out, err) in zip(readers, outputs, strict=True):
        assert reader.returncode == 0, err.decode()
        seen = json.loads(out)
        assert seen["wrong"] == [], seen["last"]
        assert sum(seen["operations"].values()) > 100
        assert len(seen["operations"]) >= 10
    assert status["errors"] == 0
    assert status["checksum_failures"] == 0


def start(mountpoint: Path, truth: Path, seed: int) -> subprocess.Popen[bytes]:
    job = {"root": str(mountpoint), "truth": str(truth), "seconds": SECONDS, "seed": seed}
    deadline = ["timeout", "-s", "KILL", str(SECONDS + 45)]
    return subprocess.Popen(
        [*deadline, sys.executable, fsx_reader.__file__, json.dumps(job)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
