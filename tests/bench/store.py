"""Fills the store: the bucket that everybody reads, and one for JuiceFS's own format. Stateless."""

from __future__ import annotations

from tests.bench.dataset import NAMES, Dataset
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Seaweed

BUCKET = "bench"
JUICEFS_BUCKET = "juicefs"


def fill(server: Seaweed, dataset: Dataset) -> None:
    """Upload the dataset, each object under its name."""
    import obstore
    import obstore.store

    keys = server.client_environment()
    for name in (BUCKET, JUICEFS_BUCKET):
        with S3Bucket(server.endpoint_url, name, keys["AWS_ACCESS_KEY_ID"], keys["AWS_SECRET_ACCESS_KEY"]) as bucket:
            bucket.create()
    store = obstore.store.S3Store(
        BUCKET,
        endpoint=server.endpoint_url,
        access_key_id=keys["AWS_ACCESS_KEY_ID"],
        secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
        region=keys["AWS_REGION"],
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    if NAMES in dataset.parts:
        dataset.for_each(lambda name: obstore.put(store, name, b""))
    else:
        dataset.for_each(lambda name: obstore.put(store, name, dataset.root / name))
