"""fio writes blocks that carry their checksums, at random and in a row, and reads them back: at once, and after the mount was
taken away and made again with another cache, so that the bytes come out of the store."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import find_program
from tests.support.seaweed import Seaweed
from tests.support.writable_store import KINDS, WritableStore

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.requires("fio")]

SECONDS = 110
JOBS = {
    "random": ["--rw=randwrite", "--bs=4k-64k"],
    "row": ["--rw=write", "--bs=256k", "--end_fsync=1"],
    "mixed": ["--rw=randrw", "--bs=16k", "--fsync=200"],
    "mapped": ["--rw=randwrite", "--bs=4k", "--ioengine=mmap"],
}


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with Seaweed() as server:
        yield server


@pytest.mark.timeout(300)
@pytest.mark.parametrize("kind", KINDS)
def test_what_fio_wrote_verifies(disk_path: Path, seaweed: Seaweed, kind: str, full_length: bool) -> None:
    size = "96m" if full_length else "3m"
    with WritableStore(kind, disk_path, seaweed) as store:
        with store.mounted(disk_path, quota="8Mi") as mounted:
            for job in run_fio(mounted.mountpoint, disk_path, ["--size", size, "--do_verify=1"]):
                assert job["error"] == 0, job
                assert job["write"]["io_bytes"] > 0
                assert job["read"]["io_bytes"] > 0, "nothing was read back: the run proves nothing"
            assert mounted.status()["checksum_failures"] == 0
        shutil.rmtree(disk_path / "tier")
        shutil.rmtree(disk_path / "cache")
        with store.mounted(disk_path, quota="8Mi") as mounted:
            for job in run_fio(mounted.mountpoint, disk_path, ["--size", size, "--verify_only=1"]):
                assert job["error"] == 0, job
        assert store.names() == {f"{name}.0.0" for name in JOBS}


def run_fio(directory: Path, base: Path, arguments: list[str]) -> list[dict[str, Any]]:
    """Run all jobs one after the other; return what fio tells of each."""
    out = base / "fio.json"
    common = [f"--directory={directory}", "--verify=crc32c", "--verify_fatal=1", "--randseed=7", "--verify_state_save=0"]
    jobs = [word for name, words in JOBS.items() for word in (f"--name={name}", "--stonewall", *common, *arguments, *words)]
    done = subprocess.run(
        ["timeout", "-s", "KILL", str(SECONDS), find_program("fio") or "fio", "--output-format=json", f"--output={out}", *jobs],
        cwd=base,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, (done.stdout, done.stderr, out.read_text()[-2000:] if out.exists() else "")
    told: list[dict[str, Any]] = json.loads(out.read_text())["jobs"]
    return told
