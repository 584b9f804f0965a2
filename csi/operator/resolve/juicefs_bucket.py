"""Plain buckets that a JuiceFS mount names by `storage` and `bucket`: the source of ours that shows their objects.

A volume that JuiceFS formatted consists of numbered blocks which only its metadata database can put together. Such a volume is
refused before it gets here, as pods would see blocks instead of files.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_AWS_HOST = re.compile(
    r"(?:(?P<bucket>[a-z0-9.-]+)\.)?s3[.-](?P<region>[a-z0-9-]+)\.amazonaws\.com(?:\.cn)?|(?:(?P<old>[a-z0-9.-]+)\.)?s3\.amazonaws\.com"
)
_STORES = {"s3": "s3", "minio": "s3", "oss": "oss", "cos": "cos", "obs": "obs", "bos": "bos", "gs": "gs"}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def source_of_bucket(storage: str, bucket: str, directory: str) -> tuple[str, str, dict[str, str]]:
    """Return store, URL and options of `bucket` as `juicefs format` takes it. Raises: ValueError, for a whole sentence."""
    store = _STORES.get(storage.strip().lower())
    if store is None:
        raise ValueError(f"option storage is none of {', '.join(sorted(_STORES))}")
    text = bucket.strip()
    parts = urlsplit(text if "://" in text else f"https://{text}")
    try:
        host = (parts.hostname or "") + (f":{parts.port}" if parts.port else "")
    except ValueError:
        host = ""
    if not host or parts.username is not None or parts.query or parts.fragment or parts.scheme not in ("http", "https"):
        raise ValueError("option bucket is no address of a bucket: write https://bucket.host or https://host/bucket")
    in_path = parts.path.strip("/")
    options: dict[str, str] = {}
    if store == "s3" and (match := _AWS_HOST.fullmatch(parts.hostname or "")):
        name = in_path or match["bucket"] or match["old"] or ""
        options = {"region": match["region"]} if match["region"] else {}
    elif in_path:
        name, options = in_path, {"endpoint_url": f"{parts.scheme}://{host}", "path_style": "true"}
    else:
        name, _, rest = host.partition(".")
        options = {"endpoint_url": f"{parts.scheme}://{rest}", "path_style": "false"}
    if store == "gs" and "." not in host:
        name, options = host, {}
    if not _NAME.fullmatch(name) or not options.get("endpoint_url", "-").removeprefix(f"{parts.scheme}://"):
        raise ValueError("option bucket names no bucket: write https://bucket.host or https://host/bucket")
    if store == "oss":
        options.pop("path_style", None)
    scheme = store if store in ("oss", "gs") else "s3"
    return store, f"{scheme}://{name}/{directory}".rstrip("/"), options
