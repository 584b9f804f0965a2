"""Signs requests for Alibaba Cloud OSS, with its version 4 or its version 1 signature.

Holds no state (keys are derived per request: 4 HMACs, 8 us); called by the REST client from any thread.
Specifications: https://www.alibabacloud.com/help/en/oss/developer-reference/recommend-to-use-signature-version-4 and
https://www.alibabacloud.com/help/en/oss/developer-reference/include-signatures-in-the-authorization-header
"""

from __future__ import annotations

import base64
import email.utils
import hashlib
import hmac
import time
from collections.abc import Mapping
from urllib.parse import unquote

from fusecache.source.credentials import Credential

_SUBRESOURCES = frozenset(
    {"continuation-token", "partNumber", "uploadId", "uploads"}
)  # of the parameters we use, those that version 1 signs


class OssV4:
    """Version 4: knows the region it is for. New accounts of OSS accept nothing else."""

    def __init__(self, region: str) -> None:
        self.region = region

    def for_region(self, region: str) -> OssV4:
        return OssV4(region)

    def sign(
        self,
        credential: Credential,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        *,
        resource: str = "",
        payload_sha256: str = "",
        now_seconds: float | None = None,
    ) -> dict[str, str]:
        """See RequestSigner.sign; bodies are never signed. x-oss-* headers are signed; the others OSS leaves out by default."""
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now_seconds))
        signed = {**headers, "x-oss-date": stamp, "x-oss-content-sha256": "UNSIGNED-PAYLOAD"}
        if credential.session_token:
            signed["x-oss-security-token"] = credential.session_token
        canonical_headers = _oss_headers(signed, also=("content-md5", "content-type"))
        canonical = f"{method}\n{resource}\n{query}\n{canonical_headers}\n\nUNSIGNED-PAYLOAD"
        scope = f"{stamp[:8]}/{self.region}/oss/aliyun_v4_request"
        to_sign = f"OSS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = ("aliyun_v4" + credential.secret_key).encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
        signed["authorization"] = f"OSS4-HMAC-SHA256 Credential={credential.access_key}/{scope},Signature={signature}"
        return signed


class OssV1:
    """Version 1: needs no region, so it serves custom domains and old private installations."""

    region = ""

    def for_region(self, region: str) -> OssV1:
        return self

    def sign(
        self,
        credential: Credential,
        method: str,
        path: str,
        query: str,
        headers: Mapping[str, str],
        *,
        resource: str = "",
        payload_sha256: str = "",
        now_seconds: float | None = None,
    ) -> dict[str, str]:
        """See RequestSigner.sign; bodies are never signed."""
        signed = {**headers, "date": email.utils.formatdate(now_seconds, usegmt=True)}
        if credential.session_token:
            signed["x-oss-security-token"] = credential.session_token
        parameters = (pair.partition("=") for pair in query.split("&"))
        signed_parameters = [
            f"{name}={unquote(value)}" if value else name for name, _, value in parameters if name in _SUBRESOURCES
        ]
        plain_resource = unquote(resource, errors="surrogateescape") + (
            "?" + "&".join(signed_parameters) if signed_parameters else ""
        )
        to_sign = "\n".join(
            [
                method,
                signed.get("content-md5", ""),
                signed.get("content-type", ""),
                signed["date"],
                _oss_headers(signed) + plain_resource,
            ]
        )
        digest = hmac.digest(credential.secret_key.encode(), to_sign.encode("utf-8", "surrogateescape"), "sha1")
        signed["authorization"] = f"OSS {credential.access_key}:{base64.b64encode(digest).decode()}"
        return signed


def _oss_headers(headers: Mapping[str, str], also: tuple[str, ...] = ()) -> str:
    chosen = sorted((name, value.strip()) for name, value in headers.items() if name.startswith("x-oss-") or name in also)
    return "".join(f"{name}:{value}\n" for name, value in chosen)
