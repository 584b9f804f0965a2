"""The `http://` and `https://` source: a web server's directory listings as a tree.

Owns the connection pools (one for the host, one more if it redirects to its own https) and the threads of `stat_many`; fetch
calls it from any thread. No request ever leaves the host of the URL, whatever redirects or links say.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote_from_bytes, unquote_to_bytes, urljoin, urlsplit

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.http_auth import AuthSettings, HttpAuth
from fusecache.source.http_listing import looks_like_listing, parse_listing
from fusecache.source.http_pool import HttpPool
from fusecache.source.http_response import HttpResponse
from fusecache.source.http_settings import HttpSettings
from fusecache.source.http_version import HttpVersion, conditions, parse_date
from fusecache.source.options import OptionReader
from fusecache.source.posix_entry import split_path
from fusecache.source.protocol import Buffer, Capabilities, Entry, EntryKind, Page
from fusecache.source.s3_errors import THROTTLING, retry_after_seconds

logger = logging.getLogger(__name__)

MAX_LISTING_BYTES = 64 << 20  # about 600,000 names; a guess that keeps an endless page from filling the memory
PIECE_BYTES = 1 << 20  # of `stream`
MAX_REDIRECTS = 4
_SKIP_BYTES = 1 << 20
_PROBED_FILES = 3  # how many files `check` looks at to learn whether the server does ranges
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def open_source(url: str, options: Mapping[str, str], env: Mapping[str, str]) -> HttpSource:
    """Open `http(s)://host[:port]/directory/`. Raises: INVALID."""
    parts = urlsplit(url)
    scheme = parts.scheme.lower()
    if parts.username is not None or parts.password is not None:
        message = f"{scheme}://{parts.hostname}: credentials in a URL are seen by everybody; use -o user=, -o password_file="
        raise CacheError(ErrorKind.INVALID, message)
    try:
        port = parts.port or (443 if scheme == "https" else 80)
    except ValueError:
        port = 0
    if not parts.hostname or parts.query or parts.fragment or not port:
        raise CacheError(ErrorKind.INVALID, f"{url!r} is not a web directory; write {scheme}://host[:port]/directory/")
    reader = OptionReader(scheme, options)
    settings = HttpSettings(
        scheme=scheme,
        host=parts.hostname,
        port=port,
        ca_file=reader.text("ca_file") or "",
        connect_timeout_seconds=reader.seconds("connect_timeout", 5.0),
        read_timeout_seconds=reader.seconds("read_timeout", 30.0),
    )
    auth = AuthSettings(
        user=reader.text("user") or "",
        user_file=reader.text("user_file") or "",
        password_file=reader.text("password_file") or "",
        token_file=reader.text("token_file") or "",
        netrc_file=reader.text("netrc_file") or _default_netrc(env),
    )
    ranges = reader.choice("ranges", "auto", ("auto", "yes", "no"))
    parallel = reader.integer("parallel_requests", 16, 1, 256)
    reader.reject_unknown()
    root = "/" + parts.path.strip("/")
    return HttpSource(settings, root.rstrip("/") + "/", auth, {"auto": None, "yes": True, "no": False}[ranges], parallel)


def _default_netrc(env: Mapping[str, str]) -> str:
    if env.get("NETRC"):
        return env["NETRC"]
    path = Path(env["HOME"]) / ".netrc" if env.get("HOME") else None
    return str(path) if path is not None and path.is_file() else ""


class HttpSource:
    """A directory of a web server.

    Args: `root`: the path of the URL, percent-encoded, with a slash at both ends. `ranges`: None to find out.
    """

    def __init__(
        self, settings: HttpSettings, root: str, auth: AuthSettings, ranges: bool | None = None, parallel_requests: int = 16
    ) -> None:
        self._settings = settings
        self._root = root
        self.url = settings.origin + root
        self._auth = HttpAuth(auth, settings.host)
        self._lock = threading.Lock()
        self._pools = {settings.origin: HttpPool(settings)}
        self._executor: ThreadPoolExecutor | None = None
        self._ranges = ranges
        self._parallel_requests = parallel_requests

    @property
    def capabilities(self) -> Capabilities:
        """`ranges` is True until `check` or a read has seen that the server ignores them."""
        # strong_versions False: most servers make their ETag of time and size, so it is no stronger than these.
        return Capabilities(ranges=self._ranges is not False, strong_versions=False, parallel_requests=self._parallel_requests)

    def check(self) -> None:
        page, body = self._list(b"")
        if not page.entries and not looks_like_listing(body):
            message = f"{self.url} shows no links to files below it; turn on directory listings there, or mount another directory"
            raise CacheError(ErrorKind.INVALID, message)
        names = [entry.name for entry in page.entries if entry.kind is EntryKind.FILE]
        for name in names[:_PROBED_FILES]:
            if self._ranges is None:
                self._ranges = self._probe_ranges(name)

    def list_page(self, path: bytes, token: str | None = None, limit: int = 1000) -> Page:
        """Return the whole directory: web servers have no pages."""
        return self._list(path)[0]

    def stat(self, path: bytes) -> Entry:
        name = path.rpartition(b"/")[2]
        if not path:
            return Entry(b"", EntryKind.DIRECTORY)
        target = self._target(path)
        response = self._request("HEAD", target)
        try:
            if _leads_to_directory(response, target):
                return Entry(name, EntryKind.DIRECTORY)
        finally:
            response.finish()
        if 300 <= response.status < 400:
            response, _ = self._follow("HEAD", target)
            response.finish()
        if response.status in (405, 501) or (response.status == 200 and response.headers.get("content-length") is None):
            return self._stat_by_range(path, name)
        self._require(response, (200,), path)
        return _file_entry(name, response.headers, int(response.headers["content-length"]))

    def stat_many(self, paths: Sequence[bytes]) -> list[Entry | CacheError]:
        """Stat many paths with parallel HEADs; the results stand in the order of the paths."""
        with self._lock:
            if self._executor is None:
                self._executor = ThreadPoolExecutor(self._parallel_requests, "http-stat")
            executor = self._executor
        return list(executor.map(self._stat_or_error, paths))

    def read(self, path: bytes, version: bytes, offset: int, length: int) -> Buffer:
        response = self._open(path, version, offset, length)
        try:
            data = bytearray(length)
            response.receive_into(memoryview(data))
        except BaseException:
            response.close()
            raise
        response.finish()
        return data

    def stream(self, path: bytes, version: bytes, offset: int, length: int) -> Iterator[Buffer]:
        response = self._open(path, version, offset, length)
        left = length
        try:
            while left:
                piece = bytearray(min(PIECE_BYTES, left))
                response.receive_into(memoryview(piece))
                left -= len(piece)
                yield piece
            response.finish()
        finally:
            response.close()

    def close(self) -> None:
        with self._lock:
            executor, self._executor = self._executor, None
            pools = list(self._pools.values())
        for pool in pools:
            pool.close()
        if executor is not None:
            executor.shutdown(wait=True, cancel_futures=True)

    def _open(self, path: bytes, version: bytes, offset: int, length: int) -> HttpResponse:
        """Ask for a range and return the answer, checked and standing at its first byte."""
        headers = dict(conditions(version))
        if self._ranges is not False:
            headers["Range"] = f"bytes={offset}-{offset + length - 1}"
        response, _ = self._follow("GET", self._target(path), headers)
        try:
            self._check_read(response, path, version, offset, length)
            if response.status == 200:
                if "Range" in headers and self._ranges is None and response.headers.get("accept-ranges", "none") == "none":
                    self._ranges = False
                self._skip(response, offset)
        except BaseException:
            response.close()
            raise
        return response

    def _check_read(self, response: HttpResponse, path: bytes, version: bytes, offset: int, length: int) -> None:
        place = self._place(path)
        if response.status in (404, 410, 412, 416) or (300 <= response.status < 400):
            raise CacheError(ErrorKind.STALE, f"{place} was replaced or deleted ({response.status}); open it again")
        self._require(response, (200, 206), path)
        size = response.length
        if response.status == 206:
            match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
            if match is None or (int(match[1]), int(match[2])) != (offset, offset + length - 1):
                raise self._malformed(place, "answered with another range than was asked for")
            if response.length not in (None, length):
                raise self._malformed(place, "answered with a length that does not fit its range")
            size = None if match[3] == "*" else int(match[3])
        if size is None:  # told neither by Content-Length nor by Content-Range: the rest of the version must do
            size = _size_of(version)
        found = HttpVersion.of_headers(response.headers, size or 0)
        if size is not None and found.encode() != version:
            if found.is_strong and replace(found, size=_size_of(version) or 0).encode() == version:
                raise self._malformed(place, "answered with a length that does not fit its ETag")
            raise CacheError(ErrorKind.STALE, f"{place} was replaced; open it again")
        if response.length is not None and response.length < (length if response.status == 206 else offset + length):
            raise self._malformed(place, "answered with too few bytes")

    def _skip(self, response: HttpResponse, count: int) -> None:
        buffer = memoryview(bytearray(min(count, _SKIP_BYTES)))
        while count:
            part = buffer[: min(count, len(buffer))]
            response.receive_into(part)
            count -= len(part)

    def _list(self, path: bytes) -> tuple[Page, bytes]:
        target = self._target(path)
        response, url = self._follow("GET", target if target.endswith("/") else target + "/", {"Accept": "text/html, */*;q=0.5"})
        try:
            if response.status == 404 and path:
                response.close()
                self._refuse_file(path)
            self._require(response, (200,), path)
            if (response.length or 0) > MAX_LISTING_BYTES:
                raise self._too_long(path)
            pieces: list[bytes] = []
            total = 0
            while piece := response.read():
                total += len(piece)
                if total > MAX_LISTING_BYTES:
                    raise self._too_long(path)
                pieces.append(piece)
            response.finish()
        finally:
            response.close()
        body = b"".join(pieces)
        return parse_listing(body, response.headers.get("content-type", ""), url), body

    def _refuse_file(self, path: bytes) -> None:
        """Raise NOT_A_DIRECTORY if a listing was not found because the path is a file."""
        response = self._request("HEAD", self._target(path))
        response.finish()
        if response.status == 200:
            raise CacheError(ErrorKind.NOT_A_DIRECTORY, f"{self._place(path)} is a file")
        raise CacheError(ErrorKind.NOT_FOUND, f"{self._place(path)} does not exist")

    def _stat_or_error(self, path: bytes) -> Entry | CacheError:
        try:
            return self.stat(path)
        except CacheError as error:
            return error

    def _stat_by_range(self, path: bytes, name: bytes) -> Entry:
        """Learn the size from the answer to a request for one byte, where HEAD does not tell it."""
        response, _ = self._follow("GET", self._target(path), {"Range": "bytes=0-0"})
        response.close()
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        if response.status == 416:  # an empty file has no byte 0
            return _file_entry(name, response.headers, 0)
        self._require(response, (200, 206), path)
        size = int(match[3]) if match is not None and match[3] != "*" else response.length if response.status == 200 else None
        if size is None:
            message = f"{self._place(path)}: the server does not say how long the file is; it cannot be shown"
            raise CacheError(ErrorKind.UNSUPPORTED, message)
        return _file_entry(name, response.headers, size)

    def _probe_ranges(self, name: bytes) -> bool | None:
        """Return whether the server does ranges, None if this file does not tell."""
        response, _ = self._follow("HEAD", self._target(name))
        response.finish()
        said = response.headers.get("accept-ranges", "").lower()
        if response.status != 200 or said in ("bytes", "none"):
            return {"bytes": True, "none": False}.get(said)
        response, _ = self._follow("GET", self._target(name), {"Range": "bytes=0-0"})
        response.close()
        return {206: True, 200: False}.get(response.status)

    def _follow(self, method: str, target: str, headers: Mapping[str, str] | None = None) -> tuple[HttpResponse, str]:
        """Send a request, follow redirects on this host, and return the answer with the URL it came from. Raises: DENIED."""
        url = self._settings.origin + target
        for _ in range(MAX_REDIRECTS + 1):
            parts = urlsplit(url)
            response = self._request(method, parts.path + (f"?{parts.query}" if parts.query else ""), headers, url)
            location = response.headers.get("location")
            if response.status not in (301, 302, 303, 307, 308) or not location:
                return response, url
            response.close()
            url = self._allowed_redirect(url, location)
        raise CacheError(ErrorKind.UNAVAILABLE, f"{self.url} redirects in circles; check the URL")

    def _allowed_redirect(self, url: str, location: str) -> str:
        try:
            new = urlsplit(urljoin(url, location))
            target_port = new.port or (443 if new.scheme == "https" else 80)
        except ValueError:
            raise self._malformed(url, "answered with a redirect that is no URL") from None
        old = urlsplit(url)
        is_same = (new.scheme, new.hostname, target_port) == (
            old.scheme,
            old.hostname,
            old.port or (443 if old.scheme == "https" else 80),
        )
        is_upgrade = new.hostname == self._settings.host and (self._settings.scheme, new.scheme) == ("http", "https")
        if not (is_same or is_upgrade):
            where = f"{new.scheme}://{new.hostname}:{target_port}"
            message = (
                f"{self.url} redirects to another place, {where}, which is not followed; mount that URL itself if you trust it"
            )
            raise CacheError(ErrorKind.DENIED, message)
        return new._replace(fragment="").geturl()

    def _request(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, url: str | None = None
    ) -> HttpResponse:
        parts = urlsplit(url or self._settings.origin)
        pool = self._pool(parts.scheme, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))
        host = pool.settings.origin.partition("://")[2]
        base = {"Host": host, "User-Agent": "fusecache", "Accept": "*/*", "Accept-Encoding": "identity"}
        return pool.request(method, target, {**base, **self._auth.headers(), **(headers or {})})

    def _pool(self, scheme: str, host: str, port: int) -> HttpPool:
        settings = HttpSettings(
            scheme,
            host,
            port,
            self._settings.ca_file,
            self._settings.connect_timeout_seconds,
            self._settings.read_timeout_seconds,
        )
        with self._lock:
            if settings.origin not in self._pools:
                self._pools[settings.origin] = HttpPool(settings)
            return self._pools[settings.origin]

    def _target(self, path: bytes) -> str:
        split_path(path)
        return self._root + quote_from_bytes(path, safe="/-._~")

    def _place(self, path: bytes) -> str:
        return self.url + quote_from_bytes(path)

    def _malformed(self, place: str, what: str) -> CacheError:
        return CacheError(ErrorKind.UNAVAILABLE, f"{place}: the server {what}; it is asked again")

    def _too_long(self, path: bytes) -> CacheError:
        message = f"the listing of {self._place(path)} is longer than {MAX_LISTING_BYTES >> 20} MiB; mount a directory below it"
        return CacheError(ErrorKind.UNSUPPORTED, message)

    def _require(self, response: HttpResponse, statuses: tuple[int, ...], path: bytes) -> None:
        """Raise the error that an unexpected status stands for."""
        status, place = response.status, self._place(path)
        if status in statuses:
            return
        if status in (404, 410):
            raise CacheError(ErrorKind.NOT_FOUND, f"{place} does not exist ({status}); check the URL")
        if status in (401, 403, 407):
            cure = "give -o user= and -o password_file=, or -o token_file=" if status == 401 else "check what this user may read"
            raise CacheError(ErrorKind.DENIED, f"{place}: the server denies access ({status}); {cure}")
        if status in (408, 504):
            raise CacheError(ErrorKind.TIMEOUT, f"{place}: the server gave up waiting ({status})")
        if status == 429 or status >= 500:
            message = f"{place}: the server is overloaded or failing ({status}); it is asked again"
            raise CacheError(
                ErrorKind.UNAVAILABLE,
                message,
                retry_after_seconds=retry_after_seconds(response.headers),
                is_throttled=status in THROTTLING,
            )
        if 200 <= status < 400:
            raise self._malformed(place, f"answered with the status {status}")
        raise CacheError(ErrorKind.INVALID, f"{place}: the server refuses the request ({status}); check the URL")


def _file_entry(name: bytes, headers: Mapping[str, str], size: int) -> Entry:
    modified = parse_date(headers.get("last-modified", ""))
    version = HttpVersion.of_headers(headers, size).encode()
    return Entry(name, EntryKind.FILE, size=size, mtime_ns=(modified or 0) * 1_000_000_000, version=version)


def _size_of(version: bytes) -> int | None:
    """Return the size a version holds, None if it was hashed."""
    parts = version.split(b":")
    return int(parts[1]) if parts[0] in (b"s", b"w") else None


def _leads_to_directory(response: HttpResponse, target: str) -> bool:
    """True for a redirect that only adds the slash; the host it names does not matter, it is not followed."""
    location = response.headers.get("location")
    if response.status not in (301, 302, 303, 307, 308) or not location:
        return False
    path = urlsplit(urljoin("http://host" + target, location)).path
    return unquote_to_bytes(path) == unquote_to_bytes(target) + b"/"
