"""Speaks HTTP/1.1 to one store over kept connections, checking the framing of every answer.

Owns the sockets; called from any thread of fetch: a connection belongs to one request from `request` until `finish` or
`close` of its response. Written on plain sockets because bodies are received straight into their final buffer and the
GIL is free meanwhile: per GiB in 8 MiB ranges a reader takes 0.30 s of CPU where obstore takes 0.51 (docs/sources.md).
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from fusecache.contract.errors import CacheError, ErrorKind

MAX_HEAD_BYTES = 64 << 10  # status line and headers; S3's are below 8 KiB
MAX_CHUNK_LINE_BYTES = 4096
MAX_IDLE_CONNECTIONS = 64  # more than fetch asks at once
IDLE_SECONDS = 15.0  # SeaweedFS closes after 120 s, AWS after about 20 s
MIN_BYTES_PER_SECOND = 16 << 10  # slower than this beyond the read timeout is a stall (a guess)
_RECEIVE_BYTES = 64 << 10

Pieces = Callable[[], Iterable[bytes | bytearray | memoryview]]


@dataclass(frozen=True, slots=True)
class HttpSettings:
    """Where and how to connect. Times in seconds; `ca_file` replaces the system's certificates when given."""

    scheme: str
    host: str
    port: int
    ca_file: str = ""
    connect_timeout_seconds: float = 5.0
    read_timeout_seconds: float = 30.0

    @property
    def origin(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        is_default = self.port == (443 if self.scheme == "https" else 80)
        return f"{self.scheme}://{host}" if is_default else f"{self.scheme}://{host}:{self.port}"


class _StaleConnection(Exception):
    """A kept connection was closed by the store before it answered: the request was not worked on."""


class HttpResponse:
    """One answer whose head has been read. The body is read once, in order.

    Invariants: `length` is the body's length, None if it is chunked or ends with the connection. After `finish` or
    `close` the object holds no connection; `finish` keeps it for the next request only if the body was read to its end.
    """

    def __init__(self, pool: HttpPool, connection: HttpConnection, status: int, headers: dict[str, str], has_body: bool) -> None:
        self.status = status
        self.headers = headers
        self._pool = pool
        self._connection: HttpConnection | None = connection
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._chunk_left = 0
        self._is_done = not has_body
        self._is_kept = headers.get("connection", "").lower() != "close"
        self.length: int | None = 0 if not has_body else pool.content_length(headers, self._chunked)
        self._left = self.length
        if self._left is None and not self._chunked:
            self._is_kept = False
        if self._left == 0:
            self._is_done = True
        expected = self.length or 0
        self._deadline = time.monotonic() + pool.settings.read_timeout_seconds + expected / MIN_BYTES_PER_SECOND

    def receive_into(self, target: memoryview) -> None:
        """Fill `target` with the next bytes of the body. Raises UNAVAILABLE if it ends before, TIMEOUT if it stalls."""
        got = 0
        while got < len(target):
            count = self._receive_some(target[got:])
            if count == 0:
                raise self._pool.failure(ErrorKind.UNAVAILABLE, "ended its answer too early: it is asked again")
            got += count

    def note_received(self, count: int) -> None:
        """So many bytes of the body were received together with the head. Raises UNAVAILABLE if it has fewer."""
        if self._left is None or count > self._left:
            raise self._pool.failure(ErrorKind.UNAVAILABLE, "sent more than its answer: it is asked again")
        self._left -= count
        self._is_done = self._left == 0

    def receive_now(self, target: memoryview) -> tuple[int, bool]:
        """Take what has arrived of the body, without waiting; return how much, and whether that was all there is now. Not for
        chunked bodies. Raises UNAVAILABLE if the body ended."""
        if self._connection is None or self._left is None:
            raise self._pool.failure(ErrorKind.BUG, "has a body that must be waited for")
        wanted = min(len(target), self._left)
        try:
            count = self._connection.receive_some_now(target[:wanted])
        except OSError:
            count = 0
        if count is None:
            return 0, True
        if count == 0:
            raise self._pool.failure(ErrorKind.UNAVAILABLE, "cut the connection in its answer: it is asked again")
        self._left -= count
        self._is_done = self._left == 0
        return count, count < wanted and self._connection.is_plain  # TLS may hold more than one call returns

    def read(self, limit: int = _RECEIVE_BYTES) -> bytes:
        """Return the next piece of the body, b"" at its end."""
        buffer = bytearray(limit)
        count = self._receive_some(memoryview(buffer))
        return bytes(buffer[:count])

    def read_all(self, limit_bytes: int) -> bytes:
        """Return the whole body. Raises UNAVAILABLE if it is longer than the limit."""
        pieces = []
        total = 0
        while piece := self.read():
            total += len(piece)
            if total > limit_bytes:
                raise self._pool.failure(
                    ErrorKind.UNAVAILABLE, f"sent more than the {limit_bytes} bytes expected: it is asked again"
                )
            pieces.append(piece)
        return b"".join(pieces)

    def finish(self) -> None:
        """Give the connection back. What was not read of the body costs the connection."""
        connection = self._connection
        self._connection = None
        if connection is not None:
            if self._is_done and self._is_kept and not connection.is_spent and not connection.has_unread():
                self._pool.keep(connection)
            else:
                connection.close()

    def close(self) -> None:
        """Drop the connection, whatever is still on its way."""
        connection = self._connection
        self._connection = None
        if connection is not None:
            connection.close()

    def _receive_some(self, target: memoryview) -> int:
        if self._is_done or self._connection is None:
            return 0
        if time.monotonic() > self._deadline and self.length is not None:
            raise self._pool.failure(ErrorKind.TIMEOUT, "sends too slowly: check the network")
        if self._chunked and self._chunk_left == 0 and not self._start_chunk():
            self._is_done = True
            return 0
        left = self._chunk_left if self._chunked else self._left
        view = target if left is None else target[:left]
        count = self._connection.receive_into(view)
        if count == 0:
            if left is None:
                self._is_done = True
                return 0
            raise self._pool.failure(
                ErrorKind.UNAVAILABLE, f"closed the connection with {left} bytes of its answer missing: it is asked again"
            )
        if self._chunked:
            self._chunk_left -= count
            if self._chunk_left == 0 and self._connection.read_line(MAX_CHUNK_LINE_BYTES):
                raise self._pool.failure(ErrorKind.UNAVAILABLE, "sent a malformed chunk: it is asked again")
        elif self._left is not None:
            self._left -= count
            self._is_done = self._left == 0
        return count

    def _start_chunk(self) -> bool:
        """Read the line before a chunk; False after the last one, with its trailers read."""
        assert self._connection is not None
        line = self._connection.read_line(MAX_CHUNK_LINE_BYTES).partition(b";")[0].strip()
        if not line or len(line) > 15 or line.strip(b"0123456789abcdefABCDEF"):
            raise self._pool.failure(ErrorKind.UNAVAILABLE, "sent a malformed chunk: it is asked again")
        self._chunk_left = int(line, 16)
        if self._chunk_left > 0:
            return True
        trailer_bytes = 0
        while trailer := self._connection.read_line(MAX_CHUNK_LINE_BYTES):
            trailer_bytes += len(trailer)
            if trailer_bytes > MAX_HEAD_BYTES:
                raise self._pool.failure(ErrorKind.UNAVAILABLE, "sent endless trailers: it is asked again")
        return False


def _serialize(method: str, target: str, headers: Mapping[str, str]) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    if "\r\n\r\n" in lines or "\0" in lines:
        raise CacheError(ErrorKind.BUG, "a header of a request to a store holds a line end")
    return f"{method} {target} HTTP/1.1\r\n{lines}\r\n".encode("latin-1")


class HttpPool:
    """The kept connections to one origin.

    Invariant: every open socket is either in `_idle` or held by one response; `close` ends both kinds, so that no
    thread waits for a store after it.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._idle: list[HttpConnection] = []
        self._open: set[HttpConnection] = set()
        self._is_closed = False
        self._tls = _tls_context(settings) if settings.scheme == "https" else None

    def request(
        self, method: str, target: str, headers: Mapping[str, str], body: bytes = b"", pieces: Pieces | None = None
    ) -> HttpResponse:
        """Send a request and return its answer once the head is there. `pieces`: of a body that is not `body`; called for each
        try.

        A kept connection that the store closed meanwhile is replaced, as HTTP allows for requests without effect, or with the
        same effect if they come twice. Raises: UNAVAILABLE, TIMEOUT, INVALID (certificate), and what `pieces` raises.
        """
        request = _serialize(method, target, headers) + body
        while True:
            connection = self._take_idle() or self._connect()
            try:
                status, answer_headers = connection.exchange(request, pieces)
            except _StaleConnection:
                connection.close()
                continue  # at most as often as there are kept connections: a new one never raises this
            except BaseException:
                connection.close()
                raise
            has_body = method != "HEAD" and status not in (204, 304)
            try:
                if connection.is_spent and status < 300:
                    raise self.failure(ErrorKind.UNAVAILABLE, "took a part of what was sent for all of it: it is asked again")
                return HttpResponse(self, connection, status, answer_headers, has_body)
            except BaseException:
                connection.close()
                raise

    def begin_get(self, target: str, headers: Mapping[str, str]) -> HttpConnection | None:
        """Send a request over a kept connection and return that at once; None if there is none. It is the caller's to close, or
        to give to a response."""
        request = _serialize("GET", target, headers)
        connection = self._take_idle()
        if connection is None:
            return None
        connection.wait(False)
        try:
            connection.send_now(request)
        except OSError:
            connection.close()
            return None
        return connection

    def keep(self, connection: HttpConnection) -> None:
        connection.wait(True)
        connection.idle_since = time.monotonic()
        connection.is_reused = True
        with self._lock:
            if not self._is_closed and len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def forget(self, connection: HttpConnection) -> None:
        with self._lock:
            self._open.discard(connection)

    def close(self) -> None:
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            busy = self._open.difference(idle)
        for connection in busy:
            connection.shut_down()
        for connection in idle:
            connection.close()

    def failure(self, kind: ErrorKind, what: str) -> CacheError:
        return CacheError(kind, f"the store at {self.settings.origin} {what}")

    def content_length(self, headers: Mapping[str, str], chunked: bool) -> int | None:
        """Return Content-Length, None if there is none; chunked wins over it (RFC 9112, 6.3)."""
        if chunked:
            return None
        text = headers.get("content-length")
        if text is None:
            return None
        if not (text.isascii() and text.isdigit()) or len(text) > 19:
            raise self.failure(ErrorKind.UNAVAILABLE, f"sent a malformed Content-Length {text[:40]!r}: it is asked again")
        return int(text)

    def _take_idle(self) -> HttpConnection | None:
        while True:
            with self._lock:
                if not self._idle:
                    return None
                connection = self._idle.pop()  # the warmest first
            if time.monotonic() - connection.idle_since < IDLE_SECONDS and not connection.is_readable():
                return connection
            connection.close()

    def _connect(self) -> HttpConnection:
        settings = self.settings
        with self._lock:
            if self._is_closed:
                raise self.failure(ErrorKind.UNAVAILABLE, "is no longer in use: the source was closed")
        try:
            host = "localhost" if settings.host.endswith(".localhost") else settings.host  # RFC 6761, 6.3; libc may not know it
            plain = socket.create_connection((host, settings.port), settings.connect_timeout_seconds)
        except socket.gaierror as error:
            raise self.failure(ErrorKind.UNAVAILABLE, "was not found: check the host name in endpoint_url and DNS") from error
        except ConnectionRefusedError as error:
            raise self.failure(ErrorKind.UNAVAILABLE, "refuses connections: is it running, and is the port right?") from error
        except TimeoutError as error:
            what = f"did not accept a connection within {settings.connect_timeout_seconds:g} s: check address and firewall"
            raise self.failure(ErrorKind.TIMEOUT, what) from error
        except OSError as error:
            raise self.failure(
                ErrorKind.UNAVAILABLE, f"cannot be reached ({error.strerror or error}): check the network"
            ) from error
        try:
            return self._prepare(plain)
        except BaseException:
            plain.close()
            raise

    def _prepare(self, plain: socket.socket) -> HttpConnection:
        stream: socket.socket = plain
        if self._tls is not None:
            try:
                stream = self._tls.wrap_socket(plain, server_hostname=self.settings.host)
            except ssl.SSLCertVerificationError as error:
                what = f"shows a certificate that is not trusted ({error.verify_message}): give its authority with ca_file"
                raise self.failure(ErrorKind.INVALID, what) from error
            except TimeoutError as error:
                raise self.failure(ErrorKind.TIMEOUT, "does not answer the TLS handshake: is the port right?") from error
            except OSError as error:
                raise self.failure(ErrorKind.UNAVAILABLE, f"does not speak TLS ({error}): is endpoint_url http://?") from error
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = HttpConnection(self, stream)
        with self._lock:
            if not self._is_closed:
                self._open.add(connection)
                return connection
        connection.close()
        raise self.failure(ErrorKind.UNAVAILABLE, "is no longer in use: the source was closed")


class HttpConnection:
    """One socket with the bytes received beyond the last head. `is_plain`: no TLS."""

    def __init__(self, pool: HttpPool, stream: socket.socket) -> None:
        self._pool = pool
        self._stream = stream
        self.is_plain = not isinstance(stream, ssl.SSLSocket)
        self._now = socket.MSG_DONTWAIT if self.is_plain else 0  # TLS knows no flags
        self._pending = b""
        self._arrivals = select.poll()
        self._arrivals.register(stream, select.POLLIN)
        self.idle_since = 0.0
        self.is_reused = False
        self.is_spent = False  # the store closed it for what comes from here
        # A blocking socket with the kernel's timeout lets MSG_WAITALL fill a whole buffer in one call without the GIL.
        timeout = pool.settings.read_timeout_seconds
        if self.is_plain:
            stream.settimeout(None)
            packed = int(timeout).to_bytes(8, "little") + int(timeout % 1 * 1e6).to_bytes(8, "little")  # struct timeval
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, packed)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, packed)
        else:
            stream.settimeout(timeout)

    def exchange(self, request: bytes, pieces: Pieces | None = None) -> tuple[int, dict[str, str]]:
        """Send a request, return status and headers (lower-case names). Raises _StaleConnection where a kept one is dead."""
        try:
            self._stream.sendall(request)
            if pieces is not None:
                self._send_pieces(pieces)
            head = self._read_head()
            while head.startswith(b"HTTP/1.1 1"):  # 100 Continue and its kind announce the real answer
                head = self._read_head()
        except (ConnectionError, ssl.SSLError) as error:
            if self.is_reused and not self._pending:
                raise _StaleConnection from error
            raise self._pool.failure(ErrorKind.UNAVAILABLE, "cut the connection: it is asked again") from error
        except (BlockingIOError, TimeoutError) as error:
            raise self._stalled() from error
        except OSError as error:
            raise self._pool.failure(ErrorKind.UNAVAILABLE, f"cannot be reached ({error.strerror}): check the network") from error
        return self.parse_head(head)

    def _send_pieces(self, pieces: Pieces) -> None:
        try:
            for piece in pieces():
                self._stream.sendall(piece)
        except ConnectionError:
            # A store that refuses may close before it has taken the body: its reason is read then, if it is there.
            self.is_spent = True

    def fileno(self) -> int:
        return self._stream.fileno()

    def wait(self, on: bool) -> None:
        """Say whether the calls that wait, or those that do not (`*_now`), are used next. A plain socket is told each time."""
        if not self.is_plain:
            self._stream.settimeout(self._pool.settings.read_timeout_seconds if on else 0.0)

    def send_now(self, request: bytes) -> None:
        """Send a small request whole. Raises OSError (BlockingIOError if the socket does not take it at once)."""
        if self._stream.send(request, self._now) != len(request):
            raise BlockingIOError

    def receive_some_now(self, target: memoryview) -> int | None:
        """Return how much arrived, 0 at the end; None if there is nothing. Raises OSError."""
        if self._pending:
            return self._take_pending(target)
        try:
            return self._stream.recv_into(target, 0, self._now)
        except (BlockingIOError, ssl.SSLWantReadError):
            return None

    def push_back(self, data: bytes) -> None:
        """Give back what was received too early: it is received again next."""
        self._pending = data + self._pending

    def _take_pending(self, target: memoryview) -> int:
        count = min(len(self._pending), len(target))
        target[:count] = self._pending[:count]
        self._pending = self._pending[count:]
        return count

    def receive_into(self, target: memoryview) -> int:
        if self._pending:
            return self._take_pending(target)
        try:
            if self.is_plain:
                return self._stream.recv_into(target, 0, socket.MSG_WAITALL)
            return self._stream.recv_into(target)
        except (BlockingIOError, TimeoutError, ssl.SSLWantReadError) as error:
            raise self._stalled() from error
        except OSError as error:
            raise self._pool.failure(ErrorKind.UNAVAILABLE, "cut the connection in its answer: it is asked again") from error

    def read_line(self, limit: int) -> bytes:
        """Return one line without its end."""
        line = bytearray()
        byte = bytearray(1)
        while not line.endswith(b"\n"):
            if len(line) > limit or self.receive_into(memoryview(byte)) == 0:
                raise self._pool.failure(ErrorKind.UNAVAILABLE, "sent a malformed chunk: it is asked again")
            line += byte
        return bytes(line).rstrip(b"\r\n")

    def has_unread(self) -> bool:
        return bool(self._pending)

    def is_readable(self) -> bool:
        """True if an idle connection has something to say: it was closed, or the store talks out of turn."""
        return bool(self._arrivals.poll(0))

    def shut_down(self) -> None:
        """Wake whoever waits for this connection, from another thread; its holder closes it."""
        with contextlib.suppress(OSError):
            self._stream.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._pool.forget(self)
        with contextlib.suppress(OSError):
            self._stream.close()

    def _read_head(self) -> bytes:
        data = self._pending
        self._pending = b""
        while (end := data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)) < 0:
            if len(data) >= MAX_HEAD_BYTES:
                raise self._pool.failure(ErrorKind.UNAVAILABLE, "sent endless headers: is it an S3 endpoint?")
            piece = self._stream.recv(_RECEIVE_BYTES)
            if not piece:
                if data:
                    raise self._pool.failure(ErrorKind.UNAVAILABLE, "ended in the middle of its headers: it is asked again")
                raise ConnectionResetError
            data += piece
        self._pending = data[end + 4 :]
        return data[:end]

    def parse_head(self, head: bytes) -> tuple[int, dict[str, str]]:
        """Return status and headers (lower-case names) of an answer. Raises UNAVAILABLE."""
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if not first.startswith("HTTP/1.") or len(parts) < 2 or not parts[1].isdigit() or len(parts[1]) != 3:
            raise self._pool.failure(
                ErrorKind.UNAVAILABLE, f"does not speak HTTP/1.1 (it says {first[:60]!r}): check endpoint_url"
            )
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            name, value = name.lower(), value.strip()
            if not colon or (name == "content-length" and headers.get(name, value) != value):
                raise self._pool.failure(ErrorKind.UNAVAILABLE, "sent malformed headers: it is asked again")
            headers[name] = value
        if first.startswith("HTTP/1.0"):
            headers.setdefault("connection", "close")
        return int(parts[1]), headers

    def _stalled(self) -> CacheError:
        seconds = self._pool.settings.read_timeout_seconds
        return self._pool.failure(ErrorKind.TIMEOUT, f"sent nothing for {seconds:g} s: is it overloaded or cut off?")


def _tls_context(settings: HttpSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise CacheError(ErrorKind.INVALID, f"ca_file {settings.ca_file!r} holds no certificates: give a PEM file") from error
