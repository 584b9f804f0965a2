"""Random changes of every kind, each byte compared, over both kinds of source and with caches that are too small for the data;
what was closed is compared with the store as well."""

from __future__ import annotations

import hashlib
import json
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support import fsx_writer
from tests.support.seaweed import Seaweed
from tests.support.writable_store import KINDS, WritableStore

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow]

LAST_OPERATIONS = 60
OPERATIONS = {name[3:] for name in dir(fsx_writer.FsxWriter) if name.startswith("do_")}
# The second one has a file of several parts; all but the third one have a reader beside them.
JOBS: tuple[dict[str, Any], ...] = (
    {"names": ["small"], "most_bytes": 256 << 10, "append": False, "follow": True},
    {"names": ["large"], "most_bytes": 40 << 20, "append": False, "follow": True},
    {"names": ["a", "b", "c"], "most_bytes": 3 << 20, "append": False, "follow": False},
    {"names": ["grows", "grows too"], "most_bytes": 1 << 20, "append": True, "follow": True},
)


@pytest.fixture(scope="module")
def seaweed() -> Iterator[Seaweed]:
    with Seaweed() as server:
        yield server


@pytest.fixture(params=KINDS)
def store(request: pytest.FixtureRequest, disk_path: Path, seaweed: Seaweed) -> Iterator[WritableStore]:
    with WritableStore(request.param, disk_path, seaweed) as store:
        yield store


@pytest.mark.timeout(400)
@pytest.mark.parametrize("quota", ["8Mi", "256Mi"])
def test_every_way_to_write_leaves_the_same_bytes(disk_path: Path, store: WritableStore, quota: str, full_length: bool) -> None:
    if not full_length and quota != "8Mi":
        pytest.skip("at full length only")
    seconds, first_seed = (60.0, random.randrange(1 << 20)) if full_length else (2.0, 0)
    with store.mounted(disk_path, quota=quota) as mounted:
        jobs = [
            {
                **job,
                "root": str(mounted.mountpoint),
                "seconds": seconds,
                "least": 25,
                "seed": seed,
                "log": str(disk_path / f"operations-{seed}"),
                "store": None if store.directory is None else str(store.directory),
            }
            for seed, job in enumerate(JOBS, first_seed)
        ]
        writers = [start(job) for job in jobs]
        outputs = [writer.communicate(timeout=seconds + 100) for writer in writers]
        files: dict[str, list[Any]] = {}
        done: Counter[str] = Counter()
        for job, writer, (out, err) in zip(jobs, writers, outputs, strict=True):
            assert writer.returncode == 0, (job, writer.returncode, err.decode(), last_operations(job), mounted.log()[-3000:])
            seen = json.loads(out)
            assert seen["wrong"] == [], (job, last_operations(job), mounted.log()[-3000:])
            done.update(seen["operations"])
            files.update(seen["files"])
        assert set(done) >= OPERATIONS, "every kind of operation"
        assert store.names() == set(files), "others than were written"
        for name, (size, digest) in files.items():
            stored = store.read(name)
            assert (len(stored), hashlib.sha256(stored).hexdigest()) == (size, digest), f"{name} in the store"
        mounted.run("drop", str(mounted.mountpoint))
        for name, (size, digest) in files.items():
            read = mounted.read_bytes(name)
            assert (len(read), hashlib.sha256(read).hexdigest()) == (size, digest), f"{name} from the store"
        assert mounted.status()["checksum_failures"] == 0


def start(job: dict[str, Any]) -> subprocess.Popen[bytes]:
    deadline = ["timeout", "-s", "KILL", str(job["seconds"] + 80)]
    return subprocess.Popen(
        [*deadline, sys.executable, fsx_writer.__file__, json.dumps(job)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def last_operations(job: dict[str, Any]) -> str:
    return "\n".join(Path(job["log"]).read_text().splitlines()[-LAST_OPERATIONS:])
