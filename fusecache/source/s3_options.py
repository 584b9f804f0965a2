"""Turns the options of an `s3://` source, in every spelling users know from other tools, into settings.

Holds no state; called once when the source is opened. The spellings are those of fsspec (`endpoint_url`), the AWS CLI,
Alluxio (`alluxio.underfs.s3.*`, `aws.*`), Hadoop and Jindo (`fs.s3.*`), JuiceFS and Fluid's guides (`minio-url`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.credentials import CredentialSettings
from fusecache.source.options import OptionReader

BACKENDS = ("rest", "obstore", "s3fs")

ALIASES: dict[str, tuple[str, ...]] = {
    "endpoint_url": ("url", "minio-url", "endpoint", "alluxio.underfs.s3.endpoint", "fs.s3.endpoint", "fs.s3a.endpoint"),
    "region": (
        "region_name", "alluxio.underfs.s3.region", "alluxio.underfs.s3.endpoint.region", "fs.s3.region",
        "fs.s3a.endpoint.region",
    ),
    "access_key": (
        "access", "key", "access-key", "aws.accessKeyId", "s3a.accessKeyId", "fs.s3.accessKeyId", "fs.s3a.access.key",
        "minio-access-key", "aws_access_key_id",
    ),
    "secret_key": (
        "secret", "secret-key", "aws.secretKey", "s3a.secretKey", "fs.s3.accessKeySecret", "fs.s3a.secret.key",
        "minio-access-secret", "aws_secret_access_key",
    ),
    "session_token": ("token", "session-token", "aws.sessionToken", "fs.s3.securityToken", "aws_session_token"),
    "access_key_file": (), "secret_key_file": (), "session_token_file": (),
    "path_style": ("alluxio.underfs.s3.disable.dns.buckets", "fs.s3a.path.style.access", "force_path_style"),
    "use_tls": ("alluxio.underfs.s3.secure.http.enabled", "fs.s3.ssl.enable", "fs.s3a.connection.ssl.enabled"),
    "anonymous": ("anon",),
    "ca_file": ("ca_bundle", "verify"),
    "profile": (),
    "backend": (),
    "connect_timeout": ("fs.s3.client.connection.timeout",),
    "read_timeout": (
        "timeout", "get-timeout", "alluxio.underfs.s3.socket.timeout", "alluxio.underfs.s3.request.timeout",
        "fs.s3.client.socket.timeout",
    ),
    "parallel": (
        "parallel_requests", "alluxio.underfs.s3.threads.max", "fs.s3.download.thread.concurrency",
    ),
    "verify_etag": (),
    "conditional_writes": (),
    "requester_pays": (),
}  # fmt: skip

# Meaningful to other clients and without effect here: retries belong to fetch, writes are not this part's matter.
IGNORED = (
    "retries", "max_retries", "io-retries", "put-timeout", "max-uploads", "fs.s3.download.queue.size",
    "alluxio.underfs.s3.max.error.retry", "alluxio.underfs.s3.inherit.acl", "alluxio.underfs.s3.directory.suffix",
    "alluxio.underfs.s3.default.mode", "alluxio.underfs.s3.list.objects.v1", "alluxio.underfs.s3.upload.threads.max",
    "alluxio.underfs.object.store.breadcrumbs.enabled", "alluxio.underfs.s3.server.side.encryption.enabled",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class S3Options:
    """How one bucket is reached.

    Attributes:
        endpoint_url: scheme://host[:port][/path]; "" means AWS in `region`.
        region: "" means not given: us-east-1 is tried, and the region the store names is used from then on.
        path_style: bucket in the path instead of the host name; None decides by the endpoint (own endpoint: path).
        credentials: where the keys come from.
        ca_file: PEM file with the authorities to trust instead of the system's.
        backend: which client reads object data: `rest` (our own), `obstore` or `s3fs`.
        connect_timeout_seconds, read_timeout_seconds: longest wait for a connection, for the next bytes.
        parallel_requests: Capabilities.parallel_requests.
        verify_etag: compare whole objects read in one request with the MD5 that their ETag is.
        requester_pays: the reader agrees to pay for the transfer.
        conditional_writes: the store compares versions when it is written (If-Match, If-None-Match); None: found out by trying.
    """

    endpoint_url: str = ""
    region: str = ""
    path_style: bool | None = None
    credentials: CredentialSettings = field(default_factory=CredentialSettings)
    ca_file: str = ""
    backend: str = "rest"
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0
    parallel_requests: int = 48
    verify_etag: bool = True
    requester_pays: bool = False
    conditional_writes: bool | None = None


def parse_s3_options(scheme: str, options: Mapping[str, str], environment: Mapping[str, str]) -> S3Options:
    """Return the settings of an `s3://` source. Raises INVALID naming the option, and the nearest one if it is unknown."""
    given = fold_aliases(options, ALIASES)
    reader = OptionReader(scheme, given)
    reader.accept(*IGNORED, *(spelling for spellings in ALIASES.values() for spelling in spellings))
    return read_s3_options(scheme, reader, environment)


def fold_aliases(options: Mapping[str, str], aliases: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the options under our own names; of several spellings the first of the table counts. Unknown ones stay."""
    folded = dict(options)
    for name, spellings in aliases.items():
        for spelling in reversed((name, *spellings)):
            if spelling in options:
                folded.pop(spelling, None)
                folded[name] = options[spelling]
    return folded


def read_s3_options(scheme: str, reader: OptionReader, environment: Mapping[str, str]) -> S3Options:
    """Read the folded options of an S3-speaking source."""
    use_tls = optional_boolean(reader, "use_tls")
    endpoint = reader.text("endpoint_url") or environment.get("AWS_ENDPOINT_URL_S3") or environment.get("AWS_ENDPOINT_URL") or ""
    settings = S3Options(
        endpoint_url=normalise_endpoint(scheme, endpoint, use_tls) if endpoint else "",
        region=reader.text("region") or environment.get("AWS_REGION") or environment.get("AWS_DEFAULT_REGION") or "",
        path_style=optional_boolean(reader, "path_style"),
        credentials=CredentialSettings(
            access_key=reader.text("access_key") or "",
            secret_key=reader.text("secret_key") or "",
            session_token=reader.text("session_token") or "",
            access_key_file=reader.text("access_key_file") or "",
            secret_key_file=reader.text("secret_key_file") or "",
            session_token_file=reader.text("session_token_file") or "",
            profile=reader.text("profile") or environment.get("AWS_PROFILE") or "",
            anonymous=reader.boolean("anonymous", False),
            instance_role=not endpoint,
        ),
        ca_file=reader.text("ca_file") or environment.get("AWS_CA_BUNDLE") or "",
        backend=reader.choice("backend", "rest", BACKENDS),
        connect_timeout_seconds=read_duration(scheme, reader, "connect_timeout", 5.0),
        read_timeout_seconds=read_duration(scheme, reader, "read_timeout", 30.0),
        parallel_requests=reader.integer("parallel", 48, 1, 1024),
        verify_etag=reader.boolean("verify_etag", True),
        requester_pays=reader.boolean("requester_pays", False),
        conditional_writes=optional_boolean(reader, "conditional_writes"),
    )
    reader.reject_unknown()
    return settings


def normalise_endpoint(scheme: str, text: str, use_tls: bool | None) -> str:
    """Return scheme://host[:port][/path] without a trailing slash; HTTPS where none is written. Raises INVALID."""
    text = text.strip()
    if "://" not in text:
        text = f"{'http' if use_tls is False else 'https'}://{text}"
    parts = urlsplit(text)
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1 or parts.query or parts.fragment:
        raise CacheError(ErrorKind.INVALID, f"endpoint_url of a {scheme}:// source is not http(s)://host[:port]: correct it")
    if parts.username is not None:
        raise CacheError(ErrorKind.INVALID, f"endpoint_url of a {scheme}:// source holds a password: use access_key_file instead")
    return f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/')}"


_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|msec|s|sec|second|seconds|m|min|minute|minutes|h|hour|hours|)")
_FACTORS = {"": 1.0, "m": 60.0, "h": 3600.0, "s": 1.0, "ms": 0.001}


def read_duration(scheme: str, reader: OptionReader, key: str, default: float) -> float:
    """Return seconds of `30`, `500ms`, `30s`, and of Alluxio's `500sec` and `5min`. Raises INVALID."""
    text = reader.text(key)
    if text is None:
        return default
    match = _DURATION.fullmatch(text.strip().lower())
    if match is not None:
        unit = match[2]
        value = float(match[1]) * _FACTORS["ms" if unit.startswith("ms") else unit[:1]]
        if 0 < value < 1e6:
            return value
    raise CacheError(ErrorKind.INVALID, f"option {key} of a {scheme}:// source is {text!r}; it must be a duration such as 30s")


def optional_boolean(reader: OptionReader, key: str) -> bool | None:
    return None if reader.text(key) is None else reader.boolean(key, False)
