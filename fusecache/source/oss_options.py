"""Turns the options of an `oss://` source (`fs.oss.*` of Jindo and Fluid, `OSS_*` of the environment) into settings.

Holds no state; called once when the source is opened.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.credentials import OSS_NAMES, CredentialSettings
from fusecache.source.options import OptionReader
from fusecache.source.s3_options import fold_aliases, normalise_endpoint, optional_boolean, read_duration

SIGNATURES = ("auto", "v4", "v1", "s3")
BACKENDS = ("rest", "ossfs")

ALIASES: dict[str, tuple[str, ...]] = {
    "endpoint_url": ("fs.oss.endpoint", "endpoint", "url"),
    "region": ("fs.oss.region", "region_name"),
    "access_key": ("fs.oss.accessKeyId", "access", "key", "access-key"),
    "secret_key": ("fs.oss.accessKeySecret", "secret", "secret-key"),
    "session_token": ("fs.oss.securityToken", "token", "session-token"),
    "access_key_file": (), "secret_key_file": (), "session_token_file": (),
    "path_style": (), "signature": (), "anonymous": ("anon",), "ca_file": (), "backend": (),
    "connect_timeout": (), "read_timeout": ("timeout",),
    "parallel": ("parallel_requests", "fs.oss.download.thread.concurrency"),
    "verify_etag": (),
    "conditional_writes": (),
}  # fmt: skip
_PER_BUCKET = {
    "endpoint": "endpoint_url", "region": "region", "accessKeyId": "access_key", "accessKeySecret": "secret_key",
    "securityToken": "session_token",
}  # fmt: skip
IGNORED = (
    "retries", "max_retries", "fs.oss.download.queue.size", "fs.oss.upload.thread.concurrency", "fs.oss.upload.queue.size",
    "fs.oss.upload.max.pending.tasks.per.stream",
)  # fmt: skip
REFUSED = ("fs.oss.provider.endpoint", "fs.oss.provider.format")

_ENDPOINT_REGION = re.compile(r"(?:s3\.)?oss-([a-z0-9-]+?)(?:-internal)?\.aliyuncs\.com")


@dataclass(frozen=True, slots=True)
class OssOptions:
    """How one bucket of OSS, or of an S3-speaking store in its place, is reached.

    Attributes:
        signature: `v4`, `v1`, or `s3` for stores that speak S3 (and for OSS' own S3 face, s3.oss-REGION.aliyuncs.com).
        path_style: False except where asked for: OSS itself refuses path-style requests.
        The others: see S3Options.
    """

    endpoint_url: str
    region: str
    credentials: CredentialSettings
    signature: str
    path_style: bool = False
    ca_file: str = ""
    backend: str = "rest"
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0
    parallel_requests: int = 48
    verify_etag: bool = True
    conditional_writes: bool | None = None


def parse_oss_options(bucket: str, options: Mapping[str, str], environment: Mapping[str, str]) -> OssOptions:
    """Return the settings of an `oss://` source. Raises INVALID or UNSUPPORTED, naming the option."""
    for name in REFUSED:
        if name in options:
            raise CacheError(
                ErrorKind.UNSUPPORTED, f"option {name}: credential services are not supported yet: give keys or files"
            )
    reader = OptionReader("oss", fold_aliases(_fold_bucket(bucket, options), ALIASES))
    reader.accept(*IGNORED, *(spelling for spellings in ALIASES.values() for spelling in spellings))
    endpoint = reader.text("endpoint_url") or environment.get("OSS_ENDPOINT") or ""
    if not endpoint:
        raise CacheError(
            ErrorKind.INVALID, "an oss:// source needs its endpoint: give -o fs.oss.endpoint=oss-REGION.aliyuncs.com"
        )
    endpoint = normalise_endpoint("oss", endpoint, None)
    host = urlsplit(endpoint).hostname or ""
    if re.search(r"(^|[.-])dls([.-]|$)", host):
        raise CacheError(
            ErrorKind.UNSUPPORTED, f"{host} is an endpoint of OSS-HDFS, another protocol: give the OSS endpoint of the region"
        )
    match = _ENDPOINT_REGION.fullmatch(host)
    region = reader.text("region") or environment.get("OSS_REGION") or (match[1] if match else "")
    path_style = reader.boolean("path_style", False)
    settings = OssOptions(
        endpoint_url=endpoint,
        region=region.removeprefix("oss-"),
        credentials=_read_credentials(reader),
        signature=_choose_signature(reader.choice("signature", "auto", SIGNATURES), host, region, path_style),
        path_style=path_style,
        ca_file=reader.text("ca_file") or "",
        backend=reader.choice("backend", "rest", BACKENDS),
        connect_timeout_seconds=read_duration("oss", reader, "connect_timeout", 5.0),
        read_timeout_seconds=read_duration("oss", reader, "read_timeout", 30.0),
        parallel_requests=reader.integer("parallel", 48, 1, 1024),
        verify_etag=reader.boolean("verify_etag", True),
        conditional_writes=optional_boolean(reader, "conditional_writes"),
    )
    reader.reject_unknown()
    return settings


def _fold_bucket(bucket: str, options: Mapping[str, str]) -> dict[str, str]:
    """Let fs.oss.bucket.BUCKET.* of this bucket win over the general keys, and drop those of other buckets."""
    folded = {key: value for key, value in options.items() if not key.startswith("fs.oss.bucket.")}
    prefix = f"fs.oss.bucket.{bucket}."
    for key, value in options.items():
        if key.startswith(prefix):
            name = key.removeprefix(prefix)
            if name not in _PER_BUCKET:
                raise CacheError(ErrorKind.INVALID, f"unknown option {key!r}; known after {prefix!r}: {', '.join(_PER_BUCKET)}")
            for spelling in ALIASES[_PER_BUCKET[name]]:
                folded.pop(spelling, None)
            folded[_PER_BUCKET[name]] = value
    return folded


def _read_credentials(reader: OptionReader) -> CredentialSettings:
    return CredentialSettings(
        access_key=reader.text("access_key") or "",
        secret_key=reader.text("secret_key") or "",
        session_token=reader.text("session_token") or "",
        access_key_file=reader.text("access_key_file") or "",
        secret_key_file=reader.text("secret_key_file") or "",
        session_token_file=reader.text("session_token_file") or "",
        anonymous=reader.boolean("anonymous", False),
        names=OSS_NAMES,
    )


def _choose_signature(wanted: str, host: str, region: str, path_style: bool) -> str:
    """Version 4 wherever the region is known. A bucket in the path means that it is not OSS that is addressed."""
    if wanted == "v4" and not region:
        raise CacheError(ErrorKind.INVALID, f"signature=v4 needs the region of {host}: give -o region= (such as cn-beijing)")
    if wanted != "auto":
        return wanted
    if path_style or host.startswith("s3."):
        return "s3"
    return "v4" if region else "v1"
