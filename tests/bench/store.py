"""Fills the store: the bucket that everybody reads, and one for JuiceFS's own format. Stateless."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from fusecache.source.crc import crc_named
from tests.bench.dataset import NAMES, Dataset
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Seaweed

ONE_REQUEST_BYTES = 8 << 20  # what is larger is uploaded in parts, as everybody does
BUCKET = "bench"
JUICEFS_BUCKET = "juicefs"


def fill(server: Seaweed, dataset: Dataset) -> None:
    """Upload the dataset, each object under its name."""
    import obstore

    keys = server.client_environment()
    for name in (BUCKET, JUICEFS_BUCKET):
        with S3Bucket(server.endpoint_url, name, keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]) as bucket:
            bucket.create()
    store = open_store(keys, BUCKET)
    with S3Bucket(server.endpoint_url, BUCKET, keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]) as bucket:

        def upload(name: str) -> None:
            path = dataset.root / name
            if NAMES in dataset.parts:
                obstore.put(store, name, b"")
            elif path.stat().st_size > ONE_REQUEST_BYTES:
                obstore.put(store, name, path)
            else:
                data = path.read_bytes()
                bucket.put(name.encode(), data, checksum_headers(data))

        dataset.for_each(upload)


def open_store(keys: Mapping[str, str], bucket: str) -> Any:
    """Return obstore's store of a bucket; `keys`: an environment for clients of the server."""
    import obstore.store

    return obstore.store.S3Store(
        bucket,
        endpoint=keys["AWS_ENDPOINT_URL"],
        access_key_id=keys["AWS_ACCESS_KEY_ID"],
        secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region=keys["AWS_REGION"],
        virtual_hosted_style_request=False,
        unsigned_payload=True,  # as everybody does who sends a checksum; SHA-256 of all that is sent would be the client's limit
        client_options={"allow_http": True},
    )


def checksum_headers(data: bytes) -> dict[str, str]:
    """Return what AWS's command line and SDKs send with an object by default, and AWS itself makes where they do not."""
    crc = crc_named("crc64nvme")
    return {} if crc is None else {"x-amz-checksum-crc64nvme": base64.b64encode(crc(data)).decode()}
