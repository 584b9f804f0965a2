"""Proves that a store got the bytes that were sent: a checksum goes with the request, or the store's answer is compared.

Holds no state; any thread. Which of the two: a store that knows x-amz-checksum-* refuses other bytes and says the checksum
again; one that ignores it gives the MD5 as ETag, which costs 2 ms/MiB and is computed only there. OSS compares Content-MD5.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.crc import crc64nvme_of
from fusecache.source.object_part import is_md5_etag, uses_keyed_encryption
from fusecache.source.write_protocol import Body

CRC_HEADER = "x-amz-checksum-crc64nvme"


class UploadChecksums:
    def __init__(self, *, sends_crc: bool, verify_etag: bool) -> None:
        """Args: `sends_crc`: the store speaks S3; False: OSS, which gets Content-MD5."""
        self._sends_crc = sends_crc and crc64nvme_of(()) is not None
        self._verify_etag = verify_etag

    @property
    def upload_headers(self) -> dict[str, str]:
        """What the start of an upload says of the checksums of its parts."""
        return {"x-amz-checksum-algorithm": "CRC64NVME", "x-amz-checksum-type": "FULL_OBJECT"} if self._sends_crc else {}

    def headers(self, body: Body) -> dict[str, str]:
        crc = crc64nvme_of(body.pieces()) if self._sends_crc else None
        if crc is not None:
            return {CRC_HEADER: base64.b64encode(crc).decode()}
        return {"content-md5": base64.b64encode(_md5_of(body)).decode()}

    def check(self, place: str, sent: Mapping[str, str], answer: Mapping[str, str], body: Body) -> None:
        """Raises UNAVAILABLE if the store has other bytes than were sent."""
        if CRC_HEADER not in sent or answer.get(CRC_HEADER) == sent[CRC_HEADER]:
            return
        if CRC_HEADER in answer:
            raise _other_bytes(place, "CRC-64/NVME")
        etag = answer.get("etag", "")
        is_md5 = self._verify_etag and is_md5_etag(etag) and not uses_keyed_encryption(answer)
        if is_md5 and etag.strip('"').lower() != _md5_of(body).hex():
            raise _other_bytes(place, "ETag")


def _md5_of(body: Body) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    for piece in body.pieces():
        digest.update(piece)
    return digest.digest()


def _other_bytes(place: str, what: str) -> CacheError:
    cure = " (if this store's ETags are no MD5, set -o verify_etag=false)" if what == "ETag" else ""
    return CacheError(
        ErrorKind.UNAVAILABLE, f"{place}: the store's {what} does not fit the bytes that were sent: sent again{cure}"
    )
