"""Attributes of files as user metadata of objects, under the names that rclone and s3fs-fuse use, so that each reads what the
others wrote. Stateless.

| header (after x-amz-meta- or x-oss-meta-) | value |
|---|---|
| mtime | seconds since the epoch, with a fraction |
| mode | of stat(2), octal with a leading 0; decimal (s3fs) is read as well |
| uid, gid | decimal |
| xattr | s3fs: a JSON object, percent-encoded, of names ("user.x") and base64 values |
"""

from __future__ import annotations

import base64
import binascii
import json
import stat
from collections.abc import Mapping
from urllib.parse import quote, unquote

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.write_protocol import Metadata

MAX_HEADER_BYTES = 2048  # of names and values together: the limit of S3
OPERATION = "fusecache-operation"
_USER = "user."
_NANOSECONDS = 1_000_000_000


def metadata_headers(prefix: str, metadata: Metadata, file_type: int = stat.S_IFREG) -> dict[str, str]:
    """Return the headers that keep `metadata`. Args: `prefix`: "x-amz-meta-". Raises: NO_SPACE beyond what a store takes."""
    values: dict[str, str] = {}
    if metadata.mtime_ns is not None:
        seconds, fraction = divmod(abs(metadata.mtime_ns), _NANOSECONDS)
        sign = "-" if metadata.mtime_ns < 0 else ""
        values["mtime"] = f"{sign}{seconds}.{fraction:09}" if fraction else f"{sign}{seconds}"
    if metadata.mode is not None:
        values["mode"] = f"0{file_type | metadata.mode:o}"
    if metadata.uid is not None:
        values["uid"] = str(metadata.uid)
    if metadata.gid is not None:
        values["gid"] = str(metadata.gid)
    if metadata.xattrs:
        pairs = {
            _USER + name.decode("utf-8", "surrogateescape"): base64.b64encode(value).decode()
            for name, value in sorted(metadata.xattrs.items())
        }
        values["xattr"] = quote(json.dumps(pairs, separators=(",", ":")), safe="")
    if sum(len(name) + len(value) for name, value in values.items()) > MAX_HEADER_BYTES - 64:  # the operation id takes some
        raise CacheError(ErrorKind.NO_SPACE, f"an object keeps {MAX_HEADER_BYTES} bytes of extended attributes: keep fewer")
    return {prefix + name: value for name, value in values.items()}


def metadata_of(prefix: str, headers: Mapping[str, str]) -> Metadata:
    """Return what the headers of an object say; None for what is missing or is no such value."""
    mode = _mode(headers.get(prefix + "mode", ""))
    return Metadata(
        mode=None if mode is None else stat.S_IMODE(mode),
        uid=_id(headers.get(prefix + "uid", "")),
        gid=_id(headers.get(prefix + "gid", "")),
        mtime_ns=_time_ns(headers.get(prefix + "mtime", "")),
        xattrs=_xattrs(headers.get(prefix + "xattr", "")),
    )


def _mode(text: str) -> int | None:
    """Octal has a leading 0, and only octal does."""
    if not text.isascii() or not text.isdigit():
        return None
    try:
        mode = int(text, 8 if text.startswith("0") else 10)
    except ValueError:
        return None
    return mode if mode <= 0o177777 else None


def _id(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and int(text) < 0xFFFFFFFF else None


def _time_ns(text: str) -> int | None:
    """In whole numbers, as a float has no nanoseconds."""
    seconds, _, fraction = text.partition(".")
    sign = -1 if seconds.startswith("-") else 1
    seconds = seconds.lstrip("+-")
    if not seconds.isascii() or not seconds.isdigit() or (fraction and not (fraction.isascii() and fraction.isdigit())):
        return None
    if len(seconds) > 12:
        return None
    whole = int(seconds) * _NANOSECONDS + int((fraction + "000000000")[:9])
    return sign * whole


def _xattrs(text: str) -> dict[bytes, bytes]:
    if not text:
        return {}
    try:
        pairs = json.loads(unquote(text))
        return {
            name.removeprefix(_USER).encode("utf-8", "surrogateescape"): base64.b64decode(value, validate=True)
            for name, value in pairs.items()
        }
    except (ValueError, AttributeError, TypeError, binascii.Error):
        return {}
