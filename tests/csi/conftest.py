"""A standalone driver over a bucket of the tests' own server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.csi_driver import CsiDriver
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed


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
