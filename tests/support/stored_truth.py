"""A directory whose files are also objects of a bucket: what a mount of the bucket has to show.

Owns no state; used by scenarios and benches from one thread.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import ADMIN, READER, Identity, Seaweed

UPLOADS = 8


def upload(seaweed: Seaweed, bucket: str, truth: Path) -> int:
    """Create a bucket that holds the files below `truth` under their relative paths; return how many."""
    paths = [path for path in sorted(truth.rglob("*")) if path.is_file()]
    with (
        S3Bucket(seaweed.endpoint_url, bucket, ADMIN.access_key, ADMIN.secret_key).create() as opened,
        ThreadPoolExecutor(UPLOADS) as pool,
    ):
        list(pool.map(lambda path: opened.put(bytes(path.relative_to(truth)), path.read_bytes()), paths))
    return len(paths)


def environment(endpoint_url: str, identity: Identity = READER) -> dict[str, str]:
    """Return what the environment of `fusecache mount s3://...` needs to reach a server (or a proxy before it) and no other."""
    return {
        "AWS_ACCESS_KEY_ID": identity.access_key,
        "AWS_SECRET_ACCESS_KEY": identity.secret_key,
        "AWS_ENDPOINT_URL": endpoint_url,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
