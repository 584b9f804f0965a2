"""The writer of buckets, over a real SeaweedFS and over moto, which keeps other conditions."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fusecache.contract.errors import ErrorKind
from fusecache.source.body import BufferBody
from fusecache.source.s3 import open_source
from fusecache.source.write_protocol import Metadata
from tests.contract.source_suite import ODD_NAMES, SourceWorld, fails
from tests.contract.test_s3_source import bucket_world
from tests.contract.writer_suite import WriterSuite, operation
from tests.support import moto as moto_server
from tests.support.moto import Moto
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, READER, Seaweed


class TestSeaweedWriter(WriterSuite):
    @pytest.fixture(params=["auto", "false"])
    def world(self, seaweed: Seaweed, request: pytest.FixtureRequest) -> Iterator[SourceWorld]:
        options = {"endpoint_url": seaweed.endpoint_url, "access_key": ADMIN.access_key, "secret_key": ADMIN.secret_key}
        if request.param != "auto":
            options["conditional_writes"] = request.param
        with S3Bucket(seaweed.endpoint_url, f"writer-{request.param}", ADMIN.access_key, ADMIN.secret_key).create() as bucket:
            bucket.put(b"outside", b"must not be seen")
            names = tuple(name for name in ODD_NAMES if b"\\" not in name)
            yield bucket_world(bucket, f"s3://{bucket.bucket}/some/prefix/", options, b"some/prefix/", odd_names=names)


class TestMotoWriter(WriterSuite):
    @pytest.fixture
    def world(self, moto: Moto) -> Iterator[SourceWorld]:
        options = {
            "endpoint_url": moto.endpoint_url, "access_key": moto_server.ACCESS_KEY, "secret_key": moto_server.SECRET_KEY,
        }  # fmt: skip
        with S3Bucket(moto.endpoint_url, "moto-writer", options["access_key"], options["secret_key"]).create() as bucket:
            yield bucket_world(
                bucket,
                "s3://moto-writer/some/prefix",
                options,
                b"some/prefix/",
                odd_names=tuple(name for name in ODD_NAMES if b"\n" not in name),
                compares_copied_versions=False,
            )


def test_keys_that_may_only_read(seaweed: Seaweed) -> None:
    options = {"endpoint_url": seaweed.endpoint_url, "access_key": READER.access_key, "secret_key": READER.secret_key}
    with S3Bucket(seaweed.endpoint_url, "read-only", ADMIN.access_key, ADMIN.secret_key).create():
        source = open_source("s3://read-only/", options, {})
        writer = source.open_writer()
        fails(ErrorKind.DENIED, writer.check)
        fails(ErrorKind.DENIED, lambda: writer.put(b"a", BufferBody(b"x"), Metadata(), None, operation()))
        source.close()
