"""S3 sources over a real SeaweedFS with each read client, and over moto for the keys that SeaweedFS refuses or folds."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fusecache.contract.errors import ErrorKind
from fusecache.source.s3 import open_source
from tests.contract.source_suite import ODD_NAMES, SourceSuite, SourceWorld, fails
from tests.support import moto as moto_server
from tests.support.moto import Moto
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, READER, Seaweed


def bucket_world(bucket: S3Bucket, url: str, options: dict[str, str], prefix: bytes, **flags: object) -> SourceWorld:
    def put(path: bytes, body: bytes) -> None:
        bucket.put(prefix + path, body)

    def delete(path: bytes) -> None:
        bucket.delete(prefix + path)

    return SourceWorld(lambda: open_source(url, options, {}), put, delete, **flags)  # type: ignore[arg-type]


class TestSeaweed(SourceSuite):
    @pytest.fixture(params=["rest", "obstore", "s3fs"])
    def world(self, seaweed: Seaweed, request: pytest.FixtureRequest) -> Iterator[SourceWorld]:
        options = {
            "endpoint_url": seaweed.endpoint_url,
            "access_key": READER.access_key,
            "secret_key": READER.secret_key,
            "backend": request.param,
        }
        with S3Bucket(seaweed.endpoint_url, f"suite-{request.param}", ADMIN.access_key, ADMIN.secret_key).create() as bucket:
            bucket.put(b"outside", b"must not be seen")
            names = tuple(name for name in ODD_NAMES if b"\\" not in name)  # SeaweedFS makes a slash of it
            begins = request.param == "rest"
            url = f"s3://{bucket.bucket}/some/prefix/"
            yield bucket_world(bucket, url, options, b"some/prefix/", odd_names=names, begins_reads=begins)


def test_an_object_is_no_directory_to_mount(seaweed: Seaweed) -> None:
    keys = {"access_key": READER.access_key, "secret_key": READER.secret_key}
    with S3Bucket(seaweed.endpoint_url, "objects", ADMIN.access_key, ADMIN.secret_key).create() as bucket:
        bucket.put(b"deep/object", b"x")
        for end in ("", "/"):
            source = open_source(f"s3://objects/deep/object{end}", {"endpoint_url": seaweed.endpoint_url, **keys}, {})
            assert "mount the prefix it lies in" in str(fails(ErrorKind.INVALID, source.check))
            source.close()
        for prefix in ("", "deep", "deep/obj", "nothing/yet"):  # an empty prefix may be filled later
            source = open_source(f"s3://objects/{prefix}", {"endpoint_url": seaweed.endpoint_url, **keys}, {})
            source.check()
            source.close()


class TestMoto(SourceSuite):
    @pytest.fixture
    def world(self, moto: Moto) -> Iterator[SourceWorld]:
        keys = {"access_key": moto_server.ACCESS_KEY, "secret_key": moto_server.SECRET_KEY}
        options = {"endpoint_url": moto.endpoint_url, **keys}
        with S3Bucket(moto.endpoint_url, "suite", **keys).create() as bucket:
            names = tuple(name for name in ODD_NAMES if b"\n" not in name)  # moto's routes do not match a line end
            hidden = (b"/x", b"./x", b"../x", b".", b"..", b"n" * 256, b"m" * 256 + b"/x", b"nul\0")
            world = bucket_world(bucket, "s3://suite", options, b"", odd_names=names, hidden_keys=hidden)
            world.put_odd = world.put
            yield world
