"""Reads object data through ossfs (Alibaba's oss2), for whoever prefers it: `-o backend=ossfs`.

Owns one OSSFileSystem per set of keys; called from any thread. It asks for the answer with its headers rather than for
bytes only, so that the same checks hold as for the other readers. It signs with version 1 (ossfs knows no other).
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import oss2
import oss2.exceptions
import ossfs

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.credentials import Credential, CredentialProvider
from fusecache.source.object_part import MAX_CHECKED_BYTES, check_part, check_whole_body
from fusecache.source.object_version import if_match_of_version
from fusecache.source.protocol import Buffer
from fusecache.source.s3_errors import Asked, Refusal, refusal_error
from fusecache.source.s3_rest import STREAM_PIECE_BYTES, BucketSettings

POOL_CONNECTIONS = 64  # its default of 10 throws connections away when fetch asks more at once


class OssfsReader:
    """One OSSFileSystem without retries."""

    def __init__(self, settings: BucketSettings, credentials: CredentialProvider) -> None:
        self._settings = settings
        self._credentials = credentials
        self._lock = threading.Lock()
        self._opened: tuple[Credential | None, Any] | None = None

    def read(self, key: bytes, version: bytes, offset: int, length: int) -> Buffer:
        credential = self._credentials.get()
        conditions = {"Accept-Encoding": "identity"}
        condition = if_match_of_version(version)
        if condition is not None:
            conditions["If-Match"] = condition
        try:
            answer = self._filesystem(credential)._call_oss(
                "get_object",
                key.decode("utf-8"),
                bucket=self._settings.bucket,
                timeout=self._settings.read_timeout_seconds,
                retry=1,
                byte_range=(offset, offset + length - 1),
                headers=conditions,
            )
            headers = {str(name).lower(): str(value) for name, value in answer.headers.items()}
            total = check_part(self._place(key), answer.status, headers, version, offset, length)
            body: bytes = answer.read()
        except CacheError:
            raise
        except Exception as error:  # oss2, requests and ossfs each have their families
            raise self._error(key, credential, error) from error
        if len(body) != length:
            what = f"{self._place(key)}: the store sent {len(body)} bytes instead of {length}: it is asked again"
            raise CacheError(ErrorKind.UNAVAILABLE, what)
        if offset == 0 and total == length <= MAX_CHECKED_BYTES:
            check_whole_body(self._place(key), body, headers.get("etag", ""), headers, self._settings.verify_etag)
        return body

    def stream(self, key: bytes, version: bytes, offset: int, length: int) -> Iterator[Buffer]:
        piece = length if length <= MAX_CHECKED_BYTES else 4 * STREAM_PIECE_BYTES
        for start in range(offset, offset + length, piece):
            yield self.read(key, version, start, min(piece, offset + length - start))

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            opened[1]._session.session.close()

    def _filesystem(self, credential: Credential | None) -> Any:
        with self._lock:
            if self._opened is None or self._opened[0] != credential:
                filesystem = ossfs.OSSFileSystem(
                    endpoint=self._settings.endpoint_url,
                    key=credential.access_key if credential else None,
                    secret=credential.secret_key if credential else None,
                    token=(credential.session_token or None) if credential else None,
                    skip_instance_cache=True,
                )
                filesystem._session = oss2.Session(pool_size=POOL_CONNECTIONS)
                self._opened = (credential, filesystem)
            return self._opened[1]

    def _error(self, key: bytes, credential: Credential | None, error: Exception) -> CacheError:
        cause = error.__cause__ if isinstance(error.__cause__, oss2.exceptions.OssError) else error
        place = self._place(key)
        if isinstance(cause, oss2.exceptions.OssError) and cause.status >= 300:
            if cause.status in (404, 412, 416):
                return CacheError(ErrorKind.STALE, f"{place}: the object was replaced or deleted in the store")
            headers = {str(name).lower(): str(value) for name, value in cause.headers.items()}
            refusal = Refusal(cause.status, headers, str(cause.code or ""), str(cause.message or ""))
            asked = Asked(self._settings.url, self._settings.endpoint_url, credential, self._settings.key_names)
            failure = refusal_error(asked, refusal)
            if failure.kind is ErrorKind.DENIED and (self._credentials.refresh() or self._credentials.get() != credential):
                return CacheError(ErrorKind.UNAVAILABLE, f"{failure}; the keys were replaced meanwhile: it is asked again")
            return failure
        kind = ErrorKind.TIMEOUT if "timed out" in str(cause).lower() else ErrorKind.UNAVAILABLE
        return CacheError(kind, f"{place}: the store did not answer rightly ({type(cause).__name__}): it is asked again")

    def _place(self, key: bytes) -> str:
        return f"{self._settings.url} (object {key!r})"
