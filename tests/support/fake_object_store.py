"""A small object store in this process that speaks the read half of S3 and OSS, and lies where a test tells it to.

Owns its sockets and threads for the length of a `with`; objects may be changed from any thread. It takes every key of bytes,
which no real server does, checks that requests are signed in the dialect it was told, and records them. For behaviour of
real stores there are `seaweed` and `moto`; this one is for OSS, for keys they refuse, and for answers they never give.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl, quote, unquote_to_bytes

SIGNATURES = {
    "s3": re.compile(
        r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/[^/]+/s3/aws4_request, SignedHeaders=[^,]+, Signature=[0-9a-f]{64}"
    ),
    "oss-v4": re.compile(r"OSS4-HMAC-SHA256 Credential=[^/]+/\d{8}/[^/]+/oss/aliyun_v4_request, ?Signature=[0-9a-f]{64}"),
    "oss-v1": re.compile(r"OSS [^:]+:[A-Za-z0-9+/]{27}="),
}
LAST_MODIFIED = "2026-03-04T05:06:07.000Z"


@dataclass(frozen=True, slots=True)
class Request:
    """`key` is None for requests to the bucket; header names are lower-case."""

    method: str
    bucket: str
    key: bytes | None
    query: dict[str, bytes]
    headers: dict[str, str]
    host: str
    body: bytes = b""


@dataclass(slots=True)
class Answer:
    """What is sent. `body` may be shorter or longer than Content-Length says: then the connection is closed after it."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""


class FakeObjectStore:
    """Use as a context manager. `lie` sees each request with the honest answer and may change it or return another."""

    def __init__(self, dialect: str = "s3", bucket: str = "bucket", tls: ssl.SSLContext | None = None) -> None:
        self.dialect = dialect
        self.bucket = bucket
        self.host_names = ["oss.localhost"]  # before which a bucket may stand
        self.objects: dict[bytes, bytes] = {}
        self.object_headers: dict[str, str] = {}
        self.etags: dict[bytes, str] = {}  # where it is not the MD5
        self.access_keys: set[str] | None = None  # None: any
        self.requests: list[Request] = []
        self.lie: Callable[[Request, Answer], Answer] | None = None
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.store = self
        self._scheme = "http" if tls is None else "https"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}"

    @property
    def virtual_host_url(self) -> str:
        """An endpoint before which a bucket can stand: BUCKET.oss.localhost."""
        return f"http://oss.localhost:{self.port}"

    def answer(self, request: Request) -> Answer:
        honest = self.refuse(request) or self.serve(request)
        return self.lie(request, honest) if self.lie else honest

    def serve(self, request: Request) -> Answer:
        """Return the honest answer to a request that is not refused."""
        if request.method not in ("GET", "HEAD"):
            return error_answer(405, "MethodNotAllowed", "this store is only read")
        return self._list(request) if request.key is None else self._get(request.key, request)

    def refuse(self, request: Request) -> Answer | None:
        authorization = request.headers.get("authorization", "")
        if not SIGNATURES[self.dialect].fullmatch(authorization):
            return error_answer(403, "AccessDenied", f"not signed as {self.dialect}: {authorization[:100]}")
        if self.dialect != "oss-v1" and not (request.headers.get("x-amz-date") or request.headers.get("x-oss-date")):
            return error_answer(403, "AccessDenied", "no date")
        access_key = re.split(r"[/:]", authorization.partition("Credential=")[2] or authorization.partition(" ")[2])[0]
        if self.access_keys is not None and access_key not in self.access_keys:
            return error_answer(403, "InvalidAccessKeyId", "unknown")
        if request.bucket != self.bucket:
            return error_answer(404, "NoSuchBucket", "no such bucket")
        return None

    def _get(self, key: bytes, request: Request) -> Answer:
        body = self.objects.get(key)
        if body is None:
            return error_answer(404, "NoSuchKey", "no such key")
        etag = self.etags.get(key, etag_of(body))
        if request.headers.get("if-match", etag).strip('"').lower() != etag.strip('"').lower():
            return error_answer(412, "PreconditionFailed", "replaced")
        headers = {"etag": etag, "last-modified": "Wed, 04 Mar 2026 05:06:07 GMT", **self.object_headers}
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", request.headers.get("range", ""))
        if match is None:
            return Answer(200, {**headers, "content-length": str(len(body))}, body)
        start, end = int(match[1]), min(int(match[2]), len(body) - 1)
        if start >= len(body):
            return error_answer(416, "InvalidRange", "past the end")
        headers["content-range"] = f"bytes {start}-{end}/{len(body)}"
        return Answer(206, {**headers, "content-length": str(end + 1 - start)}, body[start : end + 1])

    def _list(self, request: Request) -> Answer:
        prefix, limit = request.query.get("prefix", b""), int(request.query.get("max-keys", b"1000"))
        after = bytes.fromhex(request.query.get("continuation-token", b"").decode())
        rows: list[tuple[bytes, str]] = []
        for key in sorted(self.objects):
            if not key.startswith(prefix):
                continue
            below = key[len(prefix) :]
            if "delimiter" in request.query and b"/" in below:
                common = prefix + below.partition(b"/")[0] + b"/"
                row = (common, f"<CommonPrefixes><Prefix>{quote(common)}</Prefix></CommonPrefixes>")
            else:
                body = self.objects[key]
                etag = self.etags.get(key, etag_of(body)).replace('"', "&quot;")
                row = (
                    key,
                    f"<Contents><Key>{quote(key)}</Key><LastModified>{LAST_MODIFIED}</LastModified>"
                    f"<ETag>{etag}</ETag><Size>{len(body)}</Size></Contents>",
                )
            if row[0] > after and (not rows or rows[-1] != row):
                rows.append(row)
        page = rows[:limit]
        more = len(rows) > limit
        token = f"<NextContinuationToken>{page[-1][0].hex()}</NextContinuationToken>" if more else ""
        return xml_answer(
            f"<ListBucketResult><Name>{self.bucket}</Name><EncodingType>url</EncodingType><KeyCount>{len(page)}</KeyCount>"
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token}{''.join(xml for _, xml in page)}</ListBucketResult>"
        )

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def etag_of(body: bytes) -> str:
    """MD5 in capitals, as OSS writes it."""
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest().upper()}"'


def xml_answer(text: str, status: int = 200, **headers: str) -> Answer:
    body = b'<?xml version="1.0" encoding="UTF-8"?>\n' + text.encode()
    return Answer(status, {"content-type": "application/xml", "content-length": str(len(body)), **headers}, body)


def error_answer(status: int, code: str, message: str, **headers: str) -> Answer:
    return xml_answer(f"<Error><Code>{code}</Code><Message>{message}</Message></Error>", status, **headers)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    store: FakeObjectStore

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients hang up on lies: nothing to report."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        store = self.server.store
        raw_path, _, raw_query = self.path.partition("?")
        host = self.headers.get("host", "").partition(":")[0]
        path = raw_path[1:]
        below = next((name for name in store.host_names if host.endswith(f".{name}")), None)
        if below is not None:
            bucket, rest = host.removesuffix(f".{below}"), path
        else:
            bucket, _, rest = path.partition("/")
        query = {
            name: value.encode("latin-1") for name, value in parse_qsl(raw_query, keep_blank_values=True, encoding="latin-1")
        }
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self.rfile.read(int(headers.get("content-length", "0")))
        request = Request(self.command, bucket, unquote_to_bytes(rest) if rest else None, query, headers, host, body)
        store.requests.append(request)
        answer = store.answer(request)
        self.send_response_only(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("date", answer.headers.get("date", self.date_time_string()))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)
        if answer.headers.get("content-length") != str(len(answer.body)):
            self.close_connection = True

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Requests are recorded in the store instead."""
