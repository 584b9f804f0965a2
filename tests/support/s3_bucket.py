"""Writes into a bucket of a test server: creates it, puts, deletes and counts objects with any key of bytes.

Owns its connections; one instance may be used from several threads. Uses the product's signer, not its sources.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from fusecache.source.credentials import Credential
from fusecache.source.http_pool import HttpPool
from fusecache.source.http_settings import HttpSettings
from fusecache.source.sigv4 import UNSIGNED_PAYLOAD, Signer, encode_key, encode_query


class S3Bucket:
    """One bucket, addressed by path, as the identity given."""

    def __init__(self, endpoint_url: str, bucket: str, access_key: str, secret_key: str) -> None:
        parts = urlsplit(endpoint_url)
        self.bucket = bucket
        self._pool = HttpPool(HttpSettings("http", parts.hostname or "", parts.port or 80, read_timeout_seconds=120.0))
        self._credential = Credential(access_key, secret_key)
        self._signer = Signer("us-east-1")

    def create(self) -> Self:
        self._ask("PUT", None, b"", {}, (200, 409))
        return self

    def remove(self) -> None:
        """Remove the bucket, with what is in it (which S3 itself refuses, and our test servers do not)."""
        self._ask("DELETE", None, b"", {}, (204, 404))

    def put(self, key: bytes, body: bytes, headers: Mapping[str, str] | None = None) -> str:
        """Store an object in one request; return its ETag as sent."""
        return self._ask("PUT", key, body, headers or {}, (200,))["etag"]

    def delete(self, key: bytes) -> None:
        self._ask("DELETE", key, b"", {}, (200, 204, 404))

    def may_read(self, key: bytes) -> bool:
        """Return whether the store lets this identity read an object that is there."""
        try:
            self._ask("GET", key, b"", {"range": "bytes=0-0"}, (206,))
        except RuntimeError:
            return False
        return True

    def close(self) -> None:
        self._pool.close()

    def _ask(
        self, method: str, key: bytes | None, body: bytes, headers: Mapping[str, str], expected: tuple[int, ...]
    ) -> dict[str, str]:
        path = f"/{self.bucket}" + ("" if key is None else "/" + encode_key(key))
        host = self._pool.settings.origin.partition("://")[2]
        sent = {"host": host, "content-length": str(len(body)), **headers}
        signed = self._signer.sign(self._credential, method, path, encode_query([]), sent, payload_sha256=UNSIGNED_PAYLOAD)
        response = self._pool.request(method, path, signed, body)
        answer = response.read_all(1 << 20)
        response.finish()
        if response.status not in expected:
            raise RuntimeError(f"{method} {key!r} in {self.bucket}: {response.status} {answer[:500]!r}")
        return response.headers

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()
