"""The quick way to fill a bucket makes what the S3 face shows."""

from __future__ import annotations

import pytest

from fusecache.source.s3 import open_source
from tests.support.many_objects import PIPELINED, make_many_objects
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, Seaweed


@pytest.mark.slow
def test_every_object_is_there() -> None:
    names = 2 * PIPELINED + 1
    with Seaweed() as server:
        with S3Bucket(server.endpoint_url, "many", ADMIN.access_key, ADMIN.secret_key) as bucket:
            bucket.create()
        make_many_objects(server, "many", directories=9, names=names)
        source = open_source("s3://many", {"endpoint_url": server.endpoint_url}, server.client_environment())
        assert [entry.name for entry in source.list_page(b"").entries] == [b"dir-%05d" % number for number in range(9)]
        listed = source.list_page(b"dir-00008").entries
        assert [entry.name for entry in listed] == [b"name-%08d" % number for number in range(names)]
        assert all(entry.version for entry in listed)
        source.close()
