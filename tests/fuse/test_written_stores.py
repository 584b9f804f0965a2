"""Mounts that write to an OSS and to an NFS export, with daemons that are killed: what was acknowledged is there.

(`test_writing` does every operation over a directory and over S3; the contract suite asks each writer for each step.)
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.fake_oss import ACCESS_KEY, REGION, SECRET_KEY, FakeOss
from tests.support.ganesha import ganesha, missing_ganesha
from tests.support.killer import Killer
from tests.support.mounted import Mounted, run_below
from tests.support.plain_store import PlainStore
from tests.support.writers import Writers

pytestmark = [pytest.mark.fuse, pytest.mark.slow]

SECONDS = 5.0
INTERVAL_SECONDS = 0.7
MOST_UNNOTED = 2
MIB = 1 << 20


@pytest.fixture(params=["oss", "nfs"])
def store(request: pytest.FixtureRequest, disk_path: Path) -> Iterator[PlainStore]:
    if request.param == "oss":
        with FakeOss("oss-v4") as oss:
            keys = {"access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
            store = PlainStore("oss://bucket/data", {"endpoint_url": oss.virtual_host_url, "region": REGION, **keys})
            yield store
            store.close()
            # One whose id had not been noted when fetch died is left to the store's own rule for unfinished uploads.
            assert len(oss.uploads) <= MOST_UNNOTED, "uploads were left behind"
        return
    reason = missing_ganesha()
    if reason is not None:
        pytest.skip(reason)
    root = disk_path / "export"
    root.mkdir()
    with ganesha(root, access="RW") as server:
        store = PlainStore(server.url, {"vers": "4"})
        yield store
        store.close()


def mounted(base: Path, store: PlainStore) -> Mounted:
    options = {name: value for name, value in store.options.items() if name not in ("access_key", "secret_key")}
    keys = {"OSS_ACCESS_KEY_ID": ACCESS_KEY, "OSS_ACCESS_KEY_SECRET": SECRET_KEY}
    return Mounted(base, [store.url], options=options, arguments=["--read-write"], environment=keys)


@pytest.mark.timeout(200)
def test_nothing_is_lost_while_daemons_are_killed(disk_path: Path, store: PlainStore) -> None:
    with mounted(disk_path, store) as mount:
        writers = Writers(mount.mountpoint, SECONDS)
        try:
            with Killer(mount, ["serve", "fetch"], INTERVAL_SECONDS) as killer:
                time.sleep(SECONDS)
            written = writers.collect()
        finally:
            writers.kill()
        mount.umount()
    assert len(killer.kills) >= SECONDS / INTERVAL_SECONDS / 2, "too few kills landed"
    written.assert_clean()
    assert written.lost(store.read) == []


PATCH = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR)
os.pwrite(fd, b"p" * (1 << 20), 9 << 20)
os.close(fd)
"""


@pytest.mark.timeout(200)
def test_a_large_file_that_is_changed_in_its_middle(disk_path: Path, store: PlainStore) -> None:
    data = bytearray(os.urandom(20 * MIB))  # parts before and behind what changes; NFS 4 takes 3 MiB a second (libnfs.py)
    store.write("large", bytes(data))
    with mounted(disk_path, store) as mount:
        run_below(mount.mountpoint, [sys.executable, "-c", PATCH, "large"], 60.0)
        data[9 * MIB : 10 * MIB] = b"p" * MIB
        assert mount.read_bytes("large") == data
        mount.umount()
    assert store.read("large") == data
