"""Reads object data through obstore (Rust), for whoever prefers it: `-o backend=obstore`.

Owns one obstore client; called from any thread (obstore has threads of its own, and must not be forked). obstore itself
refuses a 200 for a part and a Content-Range that was not asked for; length, ETag and the MD5 of whole objects are checked
here. Keys that its paths cannot hold (`a//b`, control characters) go through the REST client.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

import obstore
import obstore.exceptions
from obstore.store import S3Store

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.credentials import CredentialProvider
from fusecache.source.object_part import MAX_CHECKED_BYTES, check_etag, check_whole_body, is_md5_etag, uses_keyed_encryption
from fusecache.source.object_version import if_match_of_version
from fusecache.source.protocol import Buffer
from fusecache.source.s3_errors import Asked, read_refusal, refusal_error
from fusecache.source.s3_rest import STREAM_PIECE_BYTES, BucketSettings, S3RestClient, aws_endpoint

if TYPE_CHECKING:
    from obstore import GetOptions, GetResult
    from obstore.store import ClientConfig, S3Config, S3Credential

_PLAIN_KEY = re.compile(r"[\w./@=+,:;!()' -]+")  # what obstore is known to send unchanged
_STATUS = re.compile(r"status:? (?:code:? )?(\d{3})|(\d{3}) status code|status code: (\d{3})")
CREDENTIAL_SECONDS = 5.0  # how long obstore may keep keys before it asks again


class ObstoreReader:
    """One S3Store without retries of its own."""

    def __init__(self, settings: BucketSettings, region: str, fallback: S3RestClient, credentials: CredentialProvider) -> None:
        self._settings = settings
        self._fallback = fallback
        self._credentials = credentials
        self._checks_md5 = settings.verify_etag
        self._store = _open_store(settings, region, credentials)

    def read(self, key: bytes, version: bytes, offset: int, length: int) -> Buffer:
        name = _plain_name(key)
        if name is None:
            return self._fallback.read(key, version, offset, length)
        try:
            body = memoryview(self._get(key, name, version, offset, length).collect())
        except (obstore.exceptions.BaseError, OSError) as error:
            raise self._error(key, error) from error
        if len(body) != length:
            raise self._short(key, len(body), length)
        return body

    def stream(self, key: bytes, version: bytes, offset: int, length: int) -> Iterator[Buffer]:
        name = _plain_name(key)
        if name is None:
            yield from self._fallback.stream(key, version, offset, length)
            return
        if length <= MAX_CHECKED_BYTES:  # in one piece, so that it is checked before it is passed on
            yield self.read(key, version, offset, length)
            return
        got = 0
        try:
            for piece in self._get(key, name, version, offset, length).stream(min_chunk_size=STREAM_PIECE_BYTES):
                view = memoryview(piece)
                got += len(view)
                if got > length:
                    raise self._short(key, got, length)
                for start in range(0, len(view), MAX_CHECKED_BYTES):
                    yield view[start : start + MAX_CHECKED_BYTES]
        except (obstore.exceptions.BaseError, OSError) as error:
            raise self._error(key, error) from error
        if got != length:
            raise self._short(key, got, length)

    def close(self) -> None:
        """obstore closes its connections when the store is collected."""
        del self._store

    def _get(self, key: bytes, name: str, version: bytes, offset: int, length: int) -> _Checked:
        options: GetOptions = {"range": (offset, offset + length), "if_match": if_match_of_version(version)}
        result = obstore.get(self._store, name, options=options)
        etag = result.meta["e_tag"] or ""
        check_etag(self._place(key), etag, version)
        if result.range != (offset, offset + length):
            raise self._short(key, result.range[1] - result.range[0], length)
        is_whole = offset == 0 and result.meta["size"] == length <= MAX_CHECKED_BYTES
        return _Checked(self, key, result, etag if is_whole and self._checks_md5 and is_md5_etag(etag) else "")

    def check_body(self, key: bytes, body: Buffer, etag: str) -> None:
        """Compare with the MD5; on a mismatch ask (obstore hides it) whether keyed encryption makes it none."""
        try:
            check_whole_body(self._place(key), body, etag, {}, True)
        except CacheError:
            if not uses_keyed_encryption(self._fallback.head(key)):
                raise
            self._checks_md5 = False

    def _place(self, key: bytes) -> str:
        return f"{self._settings.url} (object {key!r})"

    def _short(self, key: bytes, got: int, length: int) -> CacheError:
        what = f"{self._place(key)}: the store sent {got} bytes instead of {length}: it is asked again"
        return CacheError(ErrorKind.UNAVAILABLE, what)

    def _error(self, key: bytes, error: Exception) -> CacheError:
        """Find the store's own words in obstore's text: it keeps the body of an error, not its headers."""
        place = self._place(key)
        text = str(error)
        if isinstance(error, (FileNotFoundError, obstore.exceptions.PreconditionError)) or " 416 " in text:
            return CacheError(ErrorKind.STALE, f"{place}: the object was replaced or deleted in the store")
        match = _STATUS.search(text)
        if match is not None:
            refusal = read_refusal(int(next(group for group in match.groups() if group)), {}, text.encode())
            if refusal.status >= 400:
                asked = Asked(self._settings.url, self._fallback.origin, self._credentials.get(), self._settings.key_names)
                failure = refusal_error(asked, refusal)
                if failure.kind is ErrorKind.DENIED and self._credentials.refresh():
                    return CacheError(ErrorKind.UNAVAILABLE, f"{failure}; the keys were replaced meanwhile: it is asked again")
                return failure
        if "InvalidCertificate" in text:
            what = f"{place}: {self._fallback.origin} shows a certificate that is not trusted: give its authority with ca_file"
            return CacheError(ErrorKind.INVALID, what)
        kind = ErrorKind.TIMEOUT if "TimedOut" in text or "timed out" in text else ErrorKind.UNAVAILABLE
        return CacheError(
            kind, f"{place}: {self._fallback.origin} did not answer rightly ({text.splitlines()[0][:200]}): asked again"
        )


class _Checked:
    """A result of which the head was checked; `etag` is the MD5 the body must have, "" for none."""

    def __init__(self, reader: ObstoreReader, key: bytes, result: GetResult, etag: str) -> None:
        self._reader = reader
        self._key = key
        self._result = result
        self._etag = etag

    def collect(self) -> obstore.Bytes:
        body = self._result.bytes()
        if self._etag:
            self._reader.check_body(self._key, memoryview(body), self._etag)
        return body

    def stream(self, min_chunk_size: int) -> Iterator[bytes]:
        yield from self._result.stream(min_chunk_size=min_chunk_size)


def _plain_name(key: bytes) -> str | None:
    try:
        name = key.decode("utf-8")
    except UnicodeDecodeError:
        return None
    is_plain = _PLAIN_KEY.fullmatch(name) is not None and name.isascii()
    return name if is_plain and not any(part in ("", ".", "..") for part in name.split("/")) else None


def _open_store(settings: BucketSettings, region: str, credentials: CredentialProvider) -> S3Store:
    endpoint = settings.endpoint_url or aws_endpoint(region)
    if not settings.is_path_style:  # obstore wants the bucket in the endpoint then
        scheme, _, host = endpoint.partition("://")
        endpoint = f"{scheme}://{settings.bucket}.{host}"
    client: ClientConfig = {
        "allow_http": endpoint.startswith("http://"),
        "connect_timeout": datetime.timedelta(seconds=settings.connect_timeout_seconds),
        "read_timeout": datetime.timedelta(seconds=settings.read_timeout_seconds),
        "timeout": datetime.timedelta(hours=1),  # of a whole request: a stream may be long
    }
    if settings.ca_file:
        with open(settings.ca_file, "rb") as file:
            client["root_certificate"] = file.read()
    config: S3Config = {
        "region": region,
        "endpoint": endpoint,
        "virtual_hosted_style_request": not settings.is_path_style,
        "request_payer": settings.requester_pays,
        "skip_signature": credentials.get() is None,
    }

    def provide() -> S3Credential:
        found = credentials.get()
        assert found is not None, "skip_signature is set for anonymous access"
        soon = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=CREDENTIAL_SECONDS)
        return {
            "access_key_id": found.access_key,
            "secret_access_key": found.secret_key,
            "token": found.session_token or None,
            "expires_at": soon,
        }

    return S3Store(
        settings.bucket,
        config=config,
        client_options=client,
        retry_config={"max_retries": 0},
        credential_provider=None if config["skip_signature"] else provide,
    )
