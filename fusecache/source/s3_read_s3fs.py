"""Reads object data through s3fs (aiobotocore), for whoever prefers it: `-o backend=s3fs`.

Owns one S3FileSystem, its event loop stays in fsspec's own thread; called from any thread. Asks for the store's answer
with its headers rather than for bytes only, so that the same checks hold as for the other readers.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import botocore.exceptions
import fsspec.asyn
import s3fs

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.credentials import Credential, CredentialProvider
from fusecache.source.object_part import MAX_CHECKED_BYTES, check_part, check_whole_body
from fusecache.source.object_version import if_match_of_version
from fusecache.source.protocol import Buffer
from fusecache.source.s3_errors import Asked, Refusal, refusal_error, retry_after_seconds
from fusecache.source.s3_rest import STREAM_PIECE_BYTES, BucketSettings, aws_endpoint

CLOSE_SECONDS = 5.0


class S3fsReader:
    """One S3FileSystem per set of keys: rotated keys get a new one."""

    def __init__(self, settings: BucketSettings, region: str, credentials: CredentialProvider) -> None:
        self._settings = settings
        self._region = region
        self._credentials = credentials
        self._lock = threading.Lock()
        self._opened: tuple[Credential | None, Any] | None = None

    def read(self, key: bytes, version: bytes, offset: int, length: int) -> Buffer:
        credential = self._credentials.get()
        try:
            status, headers, body = self._fetch(credential, key, version, offset, length)
        except Exception as error:  # aiobotocore, aiohttp and s3fs each have several families
            raise self._error(key, credential, error) from error
        place = self._place(key)
        total = check_part(place, status, headers, version, offset, length)
        if len(body) != length:
            what = f"{place}: the store sent {len(body)} bytes instead of {length}: it is asked again"
            raise CacheError(ErrorKind.UNAVAILABLE, what)
        if offset == 0 and total == length <= MAX_CHECKED_BYTES:
            check_whole_body(place, body, headers.get("etag", ""), headers, self._settings.verify_etag)
        return body

    def stream(self, key: bytes, version: bytes, offset: int, length: int) -> Iterator[Buffer]:
        """In requests of their own: a body of aiobotocore cannot be read from another thread piece by piece."""
        piece = length if length <= MAX_CHECKED_BYTES else 4 * STREAM_PIECE_BYTES
        for start in range(offset, offset + length, piece):
            yield self.read(key, version, start, min(piece, offset + length - start))

    def close(self) -> None:
        opened, self._opened = self._opened, None
        if opened is not None:
            filesystem = opened[1]

            async def end() -> None:
                if filesystem._s3 is not None:
                    await filesystem._s3.__aexit__(None, None, None)

            fsspec.asyn.sync(filesystem.loop, end, timeout=CLOSE_SECONDS)

    def _fetch(
        self, credential: Credential | None, key: bytes, version: bytes, offset: int, length: int
    ) -> tuple[int, dict[str, str], bytes]:
        filesystem = self._filesystem(credential)
        arguments = {
            "Bucket": self._settings.bucket,
            "Key": key.decode("utf-8"),
            "Range": f"bytes={offset}-{offset + length - 1}",
        }
        condition = if_match_of_version(version)
        if condition is not None:
            arguments["IfMatch"] = condition

        async def ask() -> tuple[int, dict[str, str], bytes]:
            client = await filesystem.set_session()
            answer = await client.get_object(**arguments)
            async with answer["Body"] as body:
                data = await body.read()
            meta = answer["ResponseMetadata"]
            return meta["HTTPStatusCode"], {name.lower(): value for name, value in meta["HTTPHeaders"].items()}, data

        fetched: tuple[int, dict[str, str], bytes] = fsspec.asyn.sync(filesystem.loop, ask)
        return fetched

    def _filesystem(self, credential: Credential | None) -> Any:
        with self._lock:
            if self._opened is None or self._opened[0] != credential:
                self._opened = (credential, self._open(credential))
            return self._opened[1]

    def _open(self, credential: Credential | None) -> Any:
        settings = self._settings
        return s3fs.S3FileSystem(
            anon=credential is None,
            key=credential.access_key if credential else None,
            secret=credential.secret_key if credential else None,
            token=(credential.session_token or None) if credential else None,
            endpoint_url=settings.endpoint_url or aws_endpoint(self._region),
            client_kwargs={"region_name": self._region, "verify": settings.ca_file or None},
            config_kwargs={
                "s3": {"addressing_style": "path" if settings.is_path_style else "virtual"},
                "connect_timeout": settings.connect_timeout_seconds,
                "read_timeout": settings.read_timeout_seconds,
                "retries": {"total_max_attempts": 1, "mode": "standard"},
                "max_pool_connections": 64,
                "response_checksum_validation": "when_required",
            },
            requester_pays=settings.requester_pays,
            skip_instance_cache=True,
        )

    def _error(self, key: bytes, credential: Credential | None, error: Exception) -> CacheError:
        place = self._place(key)
        if isinstance(error, botocore.exceptions.ClientError):
            said, meta = error.response.get("Error", {}), error.response.get("ResponseMetadata", {})
            headers = {name.lower(): value for name, value in meta.get("HTTPHeaders", {}).items()}
            status = meta.get("HTTPStatusCode", 500)
            if status in (404, 412, 416):
                return CacheError(ErrorKind.STALE, f"{place}: the object was replaced or deleted in the store")
            refusal = Refusal(status, headers, str(said.get("Code", "")), str(said.get("Message", "")))
            asked = Asked(self._settings.url, self._settings.endpoint_url or "AWS", credential, self._settings.key_names)
            failure = refusal_error(asked, refusal)
            if failure.kind is ErrorKind.DENIED and (self._credentials.refresh() or self._credentials.get() != credential):
                what = f"{failure}; the keys were replaced meanwhile: it is asked again"
                return CacheError(ErrorKind.UNAVAILABLE, what, retry_after_seconds=retry_after_seconds(headers))
            return failure
        is_timeout = isinstance(error, TimeoutError) or "timeout" in type(error).__name__.lower()
        kind = ErrorKind.TIMEOUT if is_timeout else ErrorKind.UNAVAILABLE
        return CacheError(kind, f"{place}: the store did not answer rightly ({type(error).__name__}): it is asked again")

    def _place(self, key: bytes) -> str:
        return f"{self._settings.url} (object {key!r})"
