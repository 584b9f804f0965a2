"""OSS sources: fs.oss.* options over SeaweedFS's S3 face, and OSS' own signatures (and ossfs) over a fake OSS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from fusecache.source.oss import open_source
from tests.contract.source_suite import ODD_NAMES, SourceSuite, SourceWorld
from tests.support.fake_object_store import FakeObjectStore
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, READER, Seaweed


class TestSeaweedInPlaceOfOss(SourceSuite):
    @pytest.fixture
    def world(self, seaweed: Seaweed) -> Iterator[SourceWorld]:
        options = {
            "fs.oss.endpoint": seaweed.endpoint_url,
            "fs.oss.accessKeyId": READER.access_key,
            "fs.oss.accessKeySecret": READER.secret_key,
            "path_style": "true",
        }
        with S3Bucket(seaweed.endpoint_url, "suite-oss", ADMIN.access_key, ADMIN.secret_key).create() as bucket:

            def put(path: bytes, body: bytes) -> None:
                bucket.put(path, body)

            names = tuple(name for name in ODD_NAMES if b"\\" not in name)
            yield SourceWorld(lambda: open_source("oss://suite-oss/", options, {}), put, bucket.delete, odd_names=names)


class TestFakeOss(SourceSuite):
    """All odd names, hidden ones included: the fake takes every key."""

    @pytest.fixture(params=["v4", "v1", "ossfs"])
    def world(self, request: pytest.FixtureRequest) -> Iterator[SourceWorld]:
        with FakeObjectStore("oss-v4" if request.param == "v4" else "oss-v1") as store:
            options = {
                "fs.oss.endpoint": store.virtual_host_url,
                "fs.oss.bucket.bucket.accessKeyId": "LTAIsomebody",
                "fs.oss.bucket.bucket.accessKeySecret": "secret",
                "signature": "v4" if request.param == "v4" else "v1",
                "region": "cn-beijing",
            }
            if request.param == "ossfs":  # oss2 puts the bucket into the path where the host is an address
                options |= {"backend": "ossfs", "fs.oss.endpoint": store.url, "path_style": "true"}

            def put(path: bytes, body: bytes) -> None:
                store.objects[b"pre fix/" + path] = body

            def delete(path: bytes) -> None:
                del store.objects[b"pre fix/" + path]

            hidden = (b"/x", b"./x", b"../x", b".", b"..", b"n" * 256, b"m" * 256 + b"/x", b"nul\0")
            names = ODD_NAMES if request.param == "ossfs" else (*ODD_NAMES, b"not utf-8: \xff\xfe")
            yield SourceWorld(
                lambda: open_source("oss://bucket/pre fix", options, {}), put, delete, put, odd_names=names, hidden_keys=hidden
            )
