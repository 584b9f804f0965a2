"""Asks an S3-speaking store over its REST interface: listings in pages, heads, and parts of objects.

Owns the connections to one bucket and the region found for it; called from any thread of fetch. It does not retry, with
two exceptions that nobody above could do: once with other keys if they were rotated, once in the region the store names.
Redirects are never followed. OSS is asked in the same way: it has the same requests under another signature.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple
from urllib.parse import urlsplit

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.credentials import Credential, CredentialProvider
from fusecache.source.http_pool import HttpPool
from fusecache.source.http_response import HttpResponse
from fusecache.source.http_settings import HttpSettings
from fusecache.source.object_part import MAX_CHECKED_BYTES, check_part, check_whole_body
from fusecache.source.object_version import if_match_of_version
from fusecache.source.protocol import Buffer, StartedRead
from fusecache.source.s3_errors import Asked, Refusal, is_wrong_region, read_refusal, refusal_error
from fusecache.source.s3_listing import Listing, ListingError, parse_listing
from fusecache.source.sigv4 import EMPTY_SHA256, UNSIGNED_PAYLOAD, RequestSigner, encode_key, encode_query
from fusecache.source.started_part import StartedGet, StartedPart
from fusecache.source.write_protocol import Body

MAX_ERROR_BYTES = 256 << 10
STREAM_PIECE_BYTES = 1 << 20
USER_AGENT = "fusecache"
MAX_ANSWER_BYTES = 1 << 20  # of a change

Explain = Callable[[Refusal], CacheError | None]


class SmallAnswer(NamedTuple):
    """The answer to a change, read to its end."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Which bucket, where. `endpoint_url` "" means AWS, in the signer's region.

    Attributes:
        url: of the source, for messages.
        is_path_style: the bucket stands in the path, not in the host name.
        may_change_region: the user named no region, so that the one the store names may be used.
        checksum_mode: ask for x-amz-checksum-* headers.
        key_names: the variables that messages tell people to set.
    """

    url: str
    bucket: str
    endpoint_url: str
    is_path_style: bool
    may_change_region: bool
    ca_file: str = ""
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0
    verify_etag: bool = True
    requester_pays: bool = False
    checksum_mode: bool = True
    key_names: tuple[str, str] = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")


@dataclass(frozen=True, slots=True)
class _Address:
    """A pool with what goes before each key: replaced whole when the region changes."""

    pool: HttpPool
    host_header: str
    path_prefix: str
    signer: RequestSigner


class S3RestClient:
    """One bucket. Also the default ObjectReader."""

    def __init__(self, settings: BucketSettings, signer: RequestSigner, credentials: CredentialProvider) -> None:
        self._settings = settings
        self._credentials = credentials
        self.begins_reads = True
        self._lock = threading.Lock()
        self._pools: list[HttpPool] = []
        self._address = self._make_address(signer)

    @property
    def origin(self) -> str:
        return self._address.pool.settings.origin

    def list_objects(self, prefix: bytes, token: str | None, limit: int, *, delimiter: bool = True) -> Listing:
        """Return one page of the keys that start with `prefix`. Raises UNAVAILABLE if the page cannot be trusted."""
        query: list[tuple[str, bytes]] = [("list-type", b"2"), ("encoding-type", b"url"), ("max-keys", str(limit).encode())]
        if prefix:  # OSS and S3 sign an empty value in different ways
            query.append(("prefix", prefix))
        if delimiter:
            query.append(("delimiter", b"/"))
        if token is not None:
            query.append(("continuation-token", token.encode()))
        with _Answer(self._ask("GET", None, encode_query(query), {})) as response:
            try:
                if response.status != 200:
                    raise ListingError(f"its status is {response.status}")
                return parse_listing(iter(response.read, b""))
            except ListingError as error:
                what = (
                    f"{self._settings.url}: the store at {self.origin} sent a listing that cannot be used: {error}; asked again"
                )
                raise CacheError(ErrorKind.UNAVAILABLE, what) from error

    def head(self, key: bytes) -> Mapping[str, str]:
        """Return the headers of an object. Raises NOT_FOUND."""
        with _Answer(self._ask("HEAD", key, "", {})) as response:
            return response.headers

    def send(
        self,
        method: str,
        key: bytes,
        query: str,
        headers: dict[str, str],
        body: Body | None = None,
        explain: Explain | None = None,
    ) -> SmallAnswer:
        """Ask for a change, and read the answer to its end. `explain` comes before the general meaning of a refusal."""
        sent = {"content-length": str(body.size if body else 0), **headers}
        with _Answer(self._ask(method, key, query, sent, explain, body)) as response:
            return SmallAnswer(response.headers, response.read_all(MAX_ANSWER_BYTES))

    def refusal_in(self, answer: SmallAnswer) -> CacheError | None:
        """Return what an error document means that came with status 200, as the answers to slow requests may."""
        if b"<Error>" not in answer.body[:1024]:
            return None
        refusal = read_refusal(500, answer.headers, answer.body)
        return refusal_error(Asked(self._settings.url, self.origin, self._credentials.get(), self._settings.key_names), refusal)

    @property
    def settings(self) -> BucketSettings:
        return self._settings

    def read(self, key: bytes, version: bytes, offset: int, length: int) -> Buffer:
        body = bytearray(length)
        self.read_into(key, version, offset, memoryview(body))
        return body

    def read_into(self, key: bytes, version: bytes, offset: int, target: memoryview) -> None:
        length = len(target)
        response, total = self._open_part(key, version, offset, length)
        with _Answer(response):
            self._receive(response, target)
            if offset == 0 and total == length <= MAX_CHECKED_BYTES:
                self.check_object(response, key, target)

    def read_through(
        self, key: bytes, version: bytes, offset: int, length: int, buffer: memoryview, take: Callable[[memoryview], None]
    ) -> None:
        if length <= MAX_CHECKED_BYTES:  # nothing of it may be taken before all of it was checked
            body = memoryview(self.read(key, version, offset, length))
            for start in range(0, length, len(buffer)):
                take(body[start : start + len(buffer)])
            return
        response, _ = self._open_part(key, version, offset, length)
        with _Answer(response):
            left = length
            while left:
                piece = buffer[: min(left, len(buffer))]
                left -= len(piece)
                if left:
                    response.receive_into(piece)
                else:
                    self._receive(response, piece)
                take(piece)

    def stream(self, key: bytes, version: bytes, offset: int, length: int) -> Iterator[Buffer]:
        """A whole object that is small enough to be checked arrives in one piece, after the check."""
        response, total = self._open_part(key, version, offset, length)
        with _Answer(response):
            is_whole = offset == 0 and total == length <= MAX_CHECKED_BYTES
            left = length
            while left:
                piece = bytearray(left if is_whole else min(left, STREAM_PIECE_BYTES))
                left -= len(piece)
                if left:
                    response.receive_into(memoryview(piece))
                else:
                    self._receive(response, memoryview(piece))
                if is_whole:
                    self.check_object(response, key, piece)
                yield piece

    def close(self) -> None:
        with self._lock:
            pools = list(self._pools)
        for pool in pools:
            pool.close()

    def begin_read(self, key: bytes, version: bytes, length: int, buffer: memoryview) -> StartedRead | None:
        """Ask for a whole object over a connection that is free, and do not wait for the answer."""
        if length > MAX_CHECKED_BYTES or not self.begins_reads:
            return None
        try:
            credential, address = self._credentials.get(), self._address
            # Without a range, as stores send the checksum of an object only then.
            target, headers = self._request(address, credential, "GET", key, "", self._version_headers(version))
        except CacheError:
            return None
        connection = address.pool.begin_get(target, headers)
        if connection is None:
            return None
        deadline = time.monotonic() + self._settings.read_timeout_seconds
        started = StartedGet(address.pool, connection, buffer)
        return StartedPart(started, buffer, length, _Reading(self, key, version, length, credential), deadline)

    def check_part(self, response: HttpResponse, key: bytes, version: bytes, offset: int, length: int) -> int | None:
        """Raise what is wrong with the head of an answer; return the object's size, if it says so."""
        return check_part(self._place(key), response.status, response.headers, version, offset, length)

    def check_object(self, response: HttpResponse, key: bytes, body: Buffer) -> None:
        """Raise what is wrong with the bytes of a whole object."""
        etag = response.headers.get("etag", "")
        check_whole_body(self._place(key), body, etag, response.headers, self._settings.verify_etag)

    def explain_refusal(self, response: HttpResponse, key: bytes, credential: Credential | None) -> CacheError:
        """Read a refusal to its end and return what it means for a read of an object."""
        with _Answer(response):
            refusal = read_refusal(response.status, response.headers, response.read_all(MAX_ERROR_BYTES))
        return self._explain_versioned(key, refusal) or refusal_error(
            Asked(self._settings.url, self.origin, credential, self._settings.key_names), refusal
        )

    def _explain_versioned(self, key: bytes, refusal: Refusal) -> CacheError | None:
        """A missing or changed object is STALE."""
        if refusal.status not in (404, 412, 416):
            return None
        return CacheError(ErrorKind.STALE, f"{self._place(key)}: the object was replaced or deleted in the store")

    def _receive(self, response: HttpResponse, target: memoryview) -> None:
        """Fill `target` with the last bytes of the body and see that it ends there."""
        response.receive_into(target)
        if response.length is None and response.read(1):
            raise CacheError(
                ErrorKind.UNAVAILABLE, f"{self._settings.url}: the store sent more bytes than asked for: it is asked again"
            )

    def _open_part(self, key: bytes, version: bytes, offset: int, length: int) -> tuple[HttpResponse, int | None]:
        headers = self._part_headers(version, offset, length)
        response = self._ask("GET", key, "", headers, lambda refusal: self._explain_versioned(key, refusal))
        try:
            return response, self.check_part(response, key, version, offset, length)
        except BaseException:
            response.close()
            raise

    def _part_headers(self, version: bytes, offset: int, length: int) -> dict[str, str]:
        return {"range": f"bytes={offset}-{offset + length - 1}", **self._version_headers(version)}

    def _version_headers(self, version: bytes) -> dict[str, str]:
        headers = {}
        condition = if_match_of_version(version)
        if condition is not None:
            headers["if-match"] = condition
        if self._settings.checksum_mode:
            headers["x-amz-checksum-mode"] = "ENABLED"
        return headers

    def _ask(
        self,
        method: str,
        key: bytes | None,
        query: str,
        headers: dict[str, str],
        explain: Explain | None = None,
        body: Body | None = None,
    ) -> HttpResponse:
        """Return a successful answer, its body unread."""
        has_new_keys = False
        has_new_region = False
        while True:
            credential = self._credentials.get()
            address = self._address
            target, sent = self._request(address, credential, method, key, query, headers, has_body=body is not None)
            try:
                response = address.pool.request(method, target, sent, pieces=body.pieces if body else None)
            except CacheError as failure:
                raise CacheError(failure.kind, f"{self._settings.url}: {failure}") from failure
            if 200 <= response.status < 300:
                return response
            with _Answer(response):
                refusal = read_refusal(response.status, response.headers, response.read_all(MAX_ERROR_BYTES))
            known = explain(refusal) if explain is not None else None
            if known is not None:
                raise known
            if not has_new_region and self._change_region(address, refusal):
                has_new_region = True
                continue
            asked = Asked(self._settings.url, self.origin, credential, self._settings.key_names, is_listing=key is None)
            error = refusal_error(asked, refusal)
            if error.kind is ErrorKind.DENIED and not has_new_keys and (
                self._credentials.refresh() or self._credentials.get() != credential
            ):  # fmt: skip
                has_new_keys = True
                continue
            raise error

    def _request(
        self,
        address: _Address,
        credential: Credential | None,
        method: str,
        key: bytes | None,
        query: str,
        headers: dict[str, str],
        *,
        has_body: bool = False,
    ) -> tuple[str, dict[str, str]]:
        """Return the target and the signed headers. What is in a body says its checksum, not the signature."""
        encoded = encode_key(key or b"")
        path = (
            address.path_prefix + encoded
            if key is not None or address.path_prefix == "/"
            else address.path_prefix.rstrip("/") + "/"
        )
        sent = {"host": address.host_header, "user-agent": USER_AGENT, **headers}
        if self._settings.requester_pays:
            sent["x-amz-request-payer"] = "requester"
        if credential is not None:
            resource = f"/{self._settings.bucket}/{encoded}"
            payload = UNSIGNED_PAYLOAD if has_body else EMPTY_SHA256
            sent = address.signer.sign(credential, method, path, query, sent, resource=resource, payload_sha256=payload)
        return f"{path}?{query}" if query else path, sent

    def _change_region(self, old: _Address, refusal: Refusal) -> bool:
        """Move to the region that the store names; True if the request is worth repeating."""
        if not self._settings.may_change_region or not is_wrong_region(refusal):
            return False
        if not refusal.region.replace("-", "").isalnum():  # it becomes part of a host name
            return False
        with self._lock:
            if self._address is old and refusal.region != old.signer.region:
                self._address = self._make_address(old.signer.for_region(refusal.region))
            return self._address is not old

    def _make_address(self, signer: RequestSigner) -> _Address:
        settings = self._settings
        parts = urlsplit(settings.endpoint_url or aws_endpoint(signer.region))
        host = parts.hostname or ""
        base = parts.path.rstrip("/") + "/"
        if settings.is_path_style:
            base += f"{encode_key(settings.bucket.encode())}/"
        else:
            host = f"{settings.bucket}.{host}"
        port = parts.port or (443 if parts.scheme == "https" else 80)
        http = HttpSettings(
            parts.scheme, host, port, settings.ca_file, settings.connect_timeout_seconds, settings.read_timeout_seconds
        )
        pool = HttpPool(http)
        self._pools.append(pool)
        return _Address(pool, http.origin.partition("://")[2], base, signer)

    def _place(self, key: bytes) -> str:
        return f"{self._settings.url} (object {key!r})"


class _Reading:
    """A whole object that is being read (`started_part.Reading`)."""

    def __init__(self, client: S3RestClient, key: bytes, version: bytes, length: int, credential: Credential | None) -> None:
        self._client = client
        self._key = key
        self._version = version
        self._length = length
        self._credential = credential

    def check_head(self, response: HttpResponse) -> None:
        self._client.check_part(response, self._key, self._version, 0, self._length)

    def check_body(self, response: HttpResponse, body: memoryview) -> None:
        self._client.check_object(response, self._key, body)

    def refused(self, response: HttpResponse) -> Buffer:
        error = self._client.explain_refusal(response, self._key, self._credential)
        if error.kind in (ErrorKind.STALE, ErrorKind.UNAVAILABLE):
            raise error
        return self.again()  # keys may have been rotated, the bucket may be in another region

    def unsuited(self) -> None:
        self._client.begins_reads = False

    def again(self) -> Buffer:
        return self._client.read(self._key, self._version, 0, self._length)


class _Answer:
    """Finishes an answer on the way out, drops its connection if an error passes."""

    def __init__(self, response: HttpResponse) -> None:
        self._response = response

    def __enter__(self) -> HttpResponse:
        return self._response

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._response.finish()
        else:
            self._response.close()


def aws_endpoint(region: str) -> str:
    """Return the endpoint of AWS for a region, by its partition."""
    suffix = "amazonaws.com.cn" if region.startswith("cn-") else "amazonaws.com"
    return f"https://s3.{region}.{suffix}"
