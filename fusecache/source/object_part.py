"""Decides whether an answer to a ranged read is what was asked for, byte for byte as far as the store lets us know.

Holds no state; called by every client that reads objects, from any thread. Rules: status, Content-Range, Content-Length
and ETag are checked on every answer; a whole object is checked against the checksum the store keeps of it.
Checksum headers: https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity.html
"""

from __future__ import annotations

import base64
import binascii
import functools
import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple, Protocol

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.crc import crc_named
from fusecache.source.object_version import version_of_etag
from fusecache.source.protocol import Buffer

MAX_CHECKED_BYTES = 8 << 20  # larger objects are passed on while they arrive, and nobody has checksums of their parts
_CONTENT_RANGE = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)")
_MD5_ETAG = re.compile(r'"?([0-9a-fA-F]{32})"?')
_KEYED_ENCRYPTION = ("aws:kms", "aws:kms:dsse", "kms")  # ETags of such objects are no MD5 of the bytes


_CHECKSUM_BYTES = {"crc64nvme": 8, "crc32c": 4, "crc32": 4, "sha256": 32, "sha1": 20}  # the cheapest first


class _Check(NamedTuple):
    """What the bytes of an object are compared with."""

    name: str
    expected: bytes
    compute: Callable[[Buffer], bytes]


class ObjectReader(Protocol):
    """One way to get bytes of an object: see Source.read and Source.stream for what each must hold."""

    def read(self, key: bytes, version: bytes, offset: int, length: int) -> Buffer: ...

    def stream(self, key: bytes, version: bytes, offset: int, length: int) -> Iterator[Buffer]: ...

    def close(self) -> None: ...


def check_part(place: str, status: int, headers: Mapping[str, str], version: bytes, offset: int, length: int) -> int | None:
    """Return the size of the whole object (None if the store does not say), if the head of an answer is the right one.

    A 200 is right only if the whole object was asked for: from 0, as long as asked. Raises UNAVAILABLE, STALE.
    """
    if status == 200:  # another version may have another length
        check_etag(place, headers.get("etag", ""), version)
    content_length = headers.get("content-length")
    if content_length is not None and content_length != str(length):
        raise _wrong(place, f"{content_length[:30]} bytes instead of {length}")
    if status == 200:
        if offset != 0 or content_length is None:
            raise _wrong(place, "the whole object instead of a part")
        total: int | None = length
    elif status == 206:
        match = _CONTENT_RANGE.fullmatch(headers.get("content-range", ""))
        if match is None or (int(match[1]), int(match[2])) != (offset, offset + length - 1):
            sent = headers.get("content-range", "no Content-Range")[:60]
            raise _wrong(place, f"{sent!r} instead of bytes {offset}-{offset + length - 1}")
        total = None if match[3] == "*" else int(match[3])
        if total is not None and total < offset + length:
            raise _wrong(place, f"a part that ends after the object ({match[0]!r})")
        check_etag(place, headers.get("etag", ""), version)
    else:
        raise _wrong(place, f"status {status} instead of 206")
    return total


def check_etag(place: str, etag: str, version: bytes) -> None:
    """Raise STALE if an answer belongs to another version, UNAVAILABLE if it does not say to which."""
    found = version_of_etag(etag)
    if not found:
        raise _wrong(place, "no strong ETag, so that nobody knows which version it is")
    if found != version:
        raise CacheError(ErrorKind.STALE, f"{place}: the object was replaced in the store: open it again")


def check_whole_body(place: str, body: Buffer, etag: str, headers: Mapping[str, str], verify_etag: bool) -> None:
    """Compare a whole object with the best checksum the store sent. Raises UNAVAILABLE if they differ.

    An x-amz-checksum-* of the full object wins over the MD5 in the ETag: it is cheaper and says what it is.
    """
    check = _find_checksum(headers) or (_find_md5(etag, headers) if verify_etag else None)
    if check is not None and check.compute(body) != check.expected:
        cure = " (if this store's ETags are no MD5, set -o verify_etag=false)" if check.name == "ETag" else ""
        raise CacheError(
            ErrorKind.UNAVAILABLE, f"{place}: the bytes that arrived do not fit the store's {check.name}: asked again{cure}"
        )


def uses_keyed_encryption(headers: Mapping[str, str]) -> bool:
    return (
        headers.get("x-amz-server-side-encryption", "") in _KEYED_ENCRYPTION
        or headers.get("x-oss-server-side-encryption", "").lower() in _KEYED_ENCRYPTION
        or "x-amz-server-side-encryption-customer-algorithm" in headers
    )


def is_md5_etag(etag: str) -> bool:
    return _MD5_ETAG.fullmatch(etag) is not None


def _find_md5(etag: str, headers: Mapping[str, str]) -> _Check | None:
    match = _MD5_ETAG.fullmatch(etag)
    is_plain = headers.get("x-oss-object-type", "Normal") == "Normal"  # the ETag of an appendable object is no MD5
    if match is None or not is_plain or uses_keyed_encryption(headers):
        return None
    return _Check("ETag", bytes.fromhex(match[1]), lambda body: hashlib.md5(body, usedforsecurity=False).digest())


def _find_checksum(headers: Mapping[str, str]) -> _Check | None:
    if headers.get("x-amz-checksum-type", "").upper() == "COMPOSITE":
        return None
    for name, size in _CHECKSUM_BYTES.items():
        text = headers.get(f"x-amz-checksum-{name}")
        if not text or "-" in text:  # "-N": a checksum of the checksums of N parts
            continue
        try:
            expected = base64.b64decode(text, validate=True)
        except binascii.Error:
            continue
        compute = _compute_named(name)
        if len(expected) == size and compute is not None:
            return _Check(name.upper(), expected, compute)
    return None


@functools.cache
def _compute_named(name: str) -> Callable[[Buffer], bytes] | None:
    if name.startswith("sha"):
        return lambda body: hashlib.new(name, body, usedforsecurity=False).digest()
    return crc_named(name)


def _wrong(place: str, what: str) -> CacheError:
    return CacheError(ErrorKind.UNAVAILABLE, f"{place}: the store sent {what}: it is asked again")
