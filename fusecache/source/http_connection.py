"""One connection to a store: requests go out, heads and bodies come in.

Written on plain sockets because bodies are received straight into their final buffer and the GIL is free meanwhile: per GiB in
8 MiB ranges a reader takes 0.30 s of CPU where obstore takes 0.51 (docs/sources.md).

Owns its socket. Used by one request at a time, from any thread.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
from collections.abc import Callable, Iterable

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.http_settings import HttpSettings

MAX_HEAD_BYTES = 64 << 10  # status line and headers; S3's are below 8 KiB
RECEIVE_BYTES = 64 << 10

Pieces = Callable[[], Iterable[bytes | bytearray | memoryview]]


class StaleConnectionError(Exception):
    """A kept connection was closed by the store before it answered: the request was not worked on."""


class HttpConnection:
    """One socket with the bytes received beyond the last head. `is_plain`: no TLS."""

    def __init__(self, settings: HttpSettings, stream: socket.socket, forget: Callable[[HttpConnection], None]) -> None:
        """`forget` is told that it was closed."""
        self._settings = settings
        self._failure = settings.failure
        self._forget = forget
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
        timeout = settings.read_timeout_seconds
        if self.is_plain:
            stream.settimeout(None)
            packed = int(timeout).to_bytes(8, "little") + int(timeout % 1 * 1e6).to_bytes(8, "little")  # struct timeval
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, packed)
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, packed)
        else:
            stream.settimeout(timeout)

    def exchange(self, request: bytes, pieces: Pieces | None = None) -> tuple[int, dict[str, str]]:
        """Send a request, return status and headers (lower-case names). Raises StaleConnectionError where a kept one is dead."""
        try:
            self._stream.sendall(request)
            if pieces is not None:
                self._send_pieces(pieces)
            head = self._read_head()
            while head.startswith(b"HTTP/1.1 1"):  # 100 Continue and its kind announce the real answer
                head = self._read_head()
        except (ConnectionError, ssl.SSLError) as error:
            if self.is_reused and not self._pending:
                raise StaleConnectionError from error
            raise self._failure(ErrorKind.UNAVAILABLE, "cut the connection: it is asked again") from error
        except (BlockingIOError, TimeoutError) as error:
            raise self._stalled() from error
        except OSError as error:
            raise self._failure(ErrorKind.UNAVAILABLE, f"cannot be reached ({error.strerror}): check the network") from error
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
            self._stream.settimeout(self._settings.read_timeout_seconds if on else 0.0)

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
            raise self._failure(ErrorKind.UNAVAILABLE, "cut the connection in its answer: it is asked again") from error

    def read_line(self, limit: int) -> bytes:
        """Return one line without its end."""
        line = bytearray()
        byte = bytearray(1)
        while not line.endswith(b"\n"):
            if len(line) > limit or self.receive_into(memoryview(byte)) == 0:
                raise self._failure(ErrorKind.UNAVAILABLE, "sent a malformed chunk: it is asked again")
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
        self._forget(self)
        with contextlib.suppress(OSError):
            self._stream.close()

    def _read_head(self) -> bytes:
        data = self._pending
        self._pending = b""
        while (end := data.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)) < 0:
            if len(data) >= MAX_HEAD_BYTES:
                raise self._failure(ErrorKind.UNAVAILABLE, "sent endless headers: is it an S3 endpoint?")
            piece = self._stream.recv(RECEIVE_BYTES)
            if not piece:
                if data:
                    raise self._failure(ErrorKind.UNAVAILABLE, "ended in the middle of its headers: it is asked again")
                raise ConnectionResetError
            data += piece
        self._pending = data[end + 4 :]
        return data[:end]

    def parse_head(self, head: bytes) -> tuple[int, dict[str, str]]:
        """Return status and headers (lower-case names) of an answer. Raises UNAVAILABLE."""
        first, *lines = head.decode("latin-1").split("\r\n")
        parts = first.split(" ", 2)
        if not first.startswith("HTTP/1.") or len(parts) < 2 or not parts[1].isdigit() or len(parts[1]) != 3:
            raise self._failure(ErrorKind.UNAVAILABLE, f"does not speak HTTP/1.1 (it says {first[:60]!r}): check endpoint_url")
        headers: dict[str, str] = {}
        for line in lines:
            name, colon, value = line.partition(":")
            name, value = name.lower(), value.strip()
            if not colon or (name == "content-length" and headers.get(name, value) != value):
                raise self._failure(ErrorKind.UNAVAILABLE, "sent malformed headers: it is asked again")
            headers[name] = value
        if first.startswith("HTTP/1.0"):
            headers.setdefault("connection", "close")
        return int(parts[1]), headers

    def _stalled(self) -> CacheError:
        seconds = self._settings.read_timeout_seconds
        return self._failure(ErrorKind.TIMEOUT, f"sent nothing for {seconds:g} s: is it overloaded or cut off?")
