"""Opens `oss://bucket/prefix`: Alibaba Cloud OSS, or an S3-speaking store that stands in for it.

Holds no state. OSS answers the same requests as S3 (ListObjectsV2, ranged and conditional GET) under a signature of its
own, and only with the bucket in the host name. So the client of S3 asks it, with that signature: this keeps paged
listings, conditional reads and all checks, and needs no switch of the bucket to another face. ossfs lists a directory as a
whole and signs with version 1 only, which new accounts refuse; it can be chosen for data (`backend=ossfs`).
"""

from __future__ import annotations

from collections.abc import Mapping

from fusecache.source.credentials import CredentialChain
from fusecache.source.object_part import ObjectReader
from fusecache.source.oss_options import OssOptions, parse_oss_options
from fusecache.source.oss_signature import OssV1, OssV4
from fusecache.source.s3 import DEFAULT_REGION, ObjectStoreSource, split_url
from fusecache.source.s3_rest import BucketSettings, S3RestClient
from fusecache.source.sigv4 import RequestSigner, Signer

SCHEMES = ("oss",)


def open_source(url: str, options: Mapping[str, str], env: Mapping[str, str]) -> ObjectStoreSource:
    """Open a bucket of OSS. No request is made. Raises INVALID or UNSUPPORTED for a bad URL or option."""
    _, bucket, prefix = split_url(url, SCHEMES)
    parsed = parse_oss_options(bucket, options, env)
    settings = BucketSettings(
        url=f"oss://{bucket}/{prefix.decode('utf-8', 'replace')}".rstrip("/"),
        bucket=bucket,
        endpoint_url=parsed.endpoint_url,
        is_path_style=parsed.path_style,
        may_change_region=False,  # the endpoint of OSS names its region
        ca_file=parsed.ca_file,
        connect_timeout_seconds=parsed.connect_timeout_seconds,
        read_timeout_seconds=parsed.read_timeout_seconds,
        verify_etag=parsed.verify_etag,
        checksum_mode=parsed.signature == "s3",
        key_names=("OSS_ACCESS_KEY_ID", "OSS_ACCESS_KEY_SECRET"),
    )
    credentials = CredentialChain(parsed.credentials, env)
    client = S3RestClient(settings, choose_signer(parsed), credentials)
    reader: ObjectReader = client
    if parsed.backend == "ossfs":
        from fusecache.source.oss_read_ossfs import OssfsReader

        reader = OssfsReader(settings, credentials)
    return ObjectStoreSource(
        settings.url,
        prefix,
        client,
        reader,
        parsed.parallel_requests,
        is_oss=parsed.signature != "s3",
        conditional_writes=parsed.conditional_writes,
    )


def choose_signer(options: OssOptions) -> RequestSigner:
    if options.signature == "v4":
        return OssV4(options.region)
    if options.signature == "v1":
        return OssV1()
    return Signer(f"oss-{options.region}" if options.region else DEFAULT_REGION)
