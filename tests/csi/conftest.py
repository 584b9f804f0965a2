"""A standalone driver over a bucket of the tests' own server."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from csi.stubs import csi_pb2
from tests.stress.conftest import make_files
from tests.support.cache_pod import CachePod
from tests.support.csi_driver import CsiDriver, Mode
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed
from tests.support.stored_truth import upload

Pods = Callable[..., CachePod]


@pytest.fixture(scope="session")
def seaweed() -> Iterator[Seaweed]:
    with Seaweed() as server:
        yield server


@pytest.fixture
def bucket(seaweed: Seaweed) -> Iterator[S3Bucket]:
    with S3Bucket(seaweed.endpoint_url, f"csi-{os.urandom(4).hex()}", ADMIN.access_key, ADMIN.secret_key) as bucket:
        yield bucket.create()


@pytest.fixture
def parameters(seaweed: Seaweed, bucket: S3Bucket) -> dict[str, str]:
    """Of a StorageClass."""
    return {"source": f"s3://{bucket.bucket}/claims", "endpoint_url": seaweed.endpoint_url}


@pytest.fixture
def driver(seaweed: Seaweed, disk_path: Path) -> Iterator[CsiDriver]:
    with CsiDriver(disk_path, seaweed.client_environment()) as driver:
        yield driver


@pytest.fixture
def target(driver: CsiDriver, seaweed: Seaweed, bucket: S3Bucket, truth: Path) -> Iterator[Path]:
    """Where a pod sees `truth`, read-only, until the test is over: nothing is left of it then."""
    context = {"source": f"s3://{bucket.bucket}", "endpoint_url": seaweed.endpoint_url}
    volume = csi_pb2.Volume(volume_id="static", volume_context=context)
    staging = driver.stage(volume, mode=Mode.MULTI_NODE_READER_ONLY)
    target = driver.publish(volume, staging, "pod", mode=Mode.MULTI_NODE_READER_ONLY)
    yield target
    driver.unpublish(volume, target)
    driver.unstage(volume, staging)
    assert driver.leftovers() == []


# -- the node plugin with cache pods


@pytest.fixture
def node(disk_path: Path) -> Iterator[CsiDriver]:
    (disk_path / "ssd").mkdir()
    mode = ("node", "--node-id", "node-1", "--daemons", "pods", "--cache-root", str(disk_path / "ssd"))
    with CsiDriver(disk_path, {}, mode=mode) as driver:
        yield driver


@pytest.fixture
def source(seaweed: Seaweed, bucket: S3Bucket) -> dict[str, Any]:
    """As the operator writes it down."""
    return {
        "url": f"s3://{bucket.bucket}", "place": "", "options": {"endpoint_url": seaweed.endpoint_url},
        "secret_options": {"access_key": "0.access_key", "secret_key": "0.secret_key"},
    }  # fmt: skip


@pytest.fixture
def pods(node: CsiDriver, source: dict[str, Any]) -> Iterator[Pods]:
    """Makes cache pods of the Dataset, with their volumes."""
    with ExitStack() as stack:

        def make(pod: str, **more: Any) -> CachePod:
            made = CachePod(node, pod, more.pop("sources", [source]), **more)
            stack.callback(made.close)
            made.publish()
            return made

        yield make


@pytest.fixture
def truth(disk_path: Path, seaweed: Seaweed, bucket: S3Bucket) -> Path:
    directory = disk_path / "truth"
    make_files(directory, small=80, large=2, large_bytes=4 << 20)
    upload(seaweed, bucket.bucket, directory)
    return directory
