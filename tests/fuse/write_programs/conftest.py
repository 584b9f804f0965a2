"""Mounts that programs of users write to, one for each kind of store: each test gets a directory of its own."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.leftovers import RUN_MARK
from tests.support.mounted import Mounted
from tests.support.plain_store import PlainStore
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed
from tests.support.written_place import WrittenPlace, mount_place

BUCKET = "programs"

_numbers = itertools.count()


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    with Seaweed() as store:
        S3Bucket(store.endpoint_url, BUCKET, ADMIN.access_key, ADMIN.secret_key).create().close()
        yield store


def open_store(kind: str, base: Path, seaweed: Seaweed) -> PlainStore:
    if kind == "file":
        (base / "source").mkdir()
        return PlainStore(f"file://{base / 'source'}", {})
    keys = {"access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key}
    return PlainStore(f"s3://{BUCKET}/{os.urandom(4).hex()}", {"endpoint_url": seaweed.endpoint_url, **keys})


@pytest.fixture(scope="session", params=["file", "s3"])
def mounted(request: pytest.FixtureRequest, run_directory: Path, seaweed: Seaweed) -> Iterator[tuple[Mounted, PlainStore]]:
    """One mount for all tests: it takes longer to make than most programs run. Its daemons do not carry the run's mark, or a
    spare that starts a moment later would be taken for something that a test left behind."""
    base = Path(tempfile.mkdtemp(dir=run_directory))
    with open_store(request.param, base, seaweed) as store, mount_place(base, store, {RUN_MARK: ""}) as mounted:
        yield mounted, store
        mounted.umount()  # not lazily: no program may have anything open any more
    shutil.rmtree(base, ignore_errors=True)


@pytest.fixture
def place(mounted: tuple[Mounted, PlainStore]) -> WrittenPlace:
    return WrittenPlace(*mounted, f"place-{next(_numbers)}")


@pytest.fixture(params=["file", "s3"])
def store(request: pytest.FixtureRequest, disk_path: Path, seaweed: Seaweed) -> Iterator[PlainStore]:
    """A store of the test's own, for tests that mount it by themselves."""
    with open_store(request.param, disk_path, seaweed) as store:
        yield store
