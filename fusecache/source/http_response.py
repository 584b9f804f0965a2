"""The answer of a store to one request, whose framing is checked while its body is read.

Holds a connection from its head until `finish` or `close`. For one thread at a time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from fusecache.contract.errors import ErrorKind
from fusecache.source.http_connection import MAX_HEAD_BYTES, RECEIVE_BYTES, HttpConnection
from fusecache.source.http_settings import HttpSettings

MAX_CHUNK_LINE_BYTES = 4096
MIN_BYTES_PER_SECOND = 16 << 10  # slower than this beyond the read timeout is a stall (a guess)


class HttpResponse:
    """One answer whose head has been read. The body is read once, in order.

    Invariants: `length` is the body's length, None if it is chunked or ends with the connection. After `finish` or
    `close` the object holds no connection; `finish` keeps it for the next request only if the body was read to its end.
    """

    def __init__(
        self,
        settings: HttpSettings,
        connection: HttpConnection,
        status: int,
        headers: dict[str, str],
        keep: Callable[[HttpConnection], None],
        *,
        has_body: bool,
    ) -> None:
        """`keep` is given the connection if another request can go over it."""
        self.status = status
        self.headers = headers
        self._failure = settings.failure
        self._keep = keep
        self._connection: HttpConnection | None = connection
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._chunk_left = 0
        self._is_done = not has_body
        self._is_kept = headers.get("connection", "").lower() != "close"
        self.length: int | None = 0 if not has_body else content_length(settings, headers, is_chunked=self._chunked)
        self._left = self.length
        if self._left is None and not self._chunked:
            self._is_kept = False
        if self._left == 0:
            self._is_done = True
        expected = self.length or 0
        self._deadline = time.monotonic() + settings.read_timeout_seconds + expected / MIN_BYTES_PER_SECOND

    def receive_into(self, target: memoryview) -> None:
        """Fill `target` with the next bytes of the body. Raises UNAVAILABLE if it ends before, TIMEOUT if it stalls."""
        got = 0
        while got < len(target):
            count = self._receive_some(target[got:])
            if count == 0:
                raise self._failure(ErrorKind.UNAVAILABLE, "ended its answer too early: it is asked again")
            got += count

    def note_received(self, count: int) -> None:
        """So many bytes of the body were received together with the head. Raises UNAVAILABLE if it has fewer."""
        if self._left is None or count > self._left:
            raise self._failure(ErrorKind.UNAVAILABLE, "sent more than its answer: it is asked again")
        self._left -= count
        self._is_done = self._left == 0

    def receive_now(self, target: memoryview) -> tuple[int, bool]:
        """Take what has arrived of the body, without waiting; return how much, and whether that was all there is now. Not for
        chunked bodies. Raises UNAVAILABLE if the body ended."""
        if self._connection is None or self._left is None:
            raise self._failure(ErrorKind.BUG, "has a body that must be waited for")
        wanted = min(len(target), self._left)
        try:
            count = self._connection.receive_some_now(target[:wanted])
        except OSError:
            count = 0
        if count is None:
            return 0, True
        if count == 0:
            raise self._failure(ErrorKind.UNAVAILABLE, "cut the connection in its answer: it is asked again")
        self._left -= count
        self._is_done = self._left == 0
        return count, count < wanted and self._connection.is_plain  # TLS may hold more than one call returns

    def read(self, limit: int = RECEIVE_BYTES) -> bytes:
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
                raise self._failure(ErrorKind.UNAVAILABLE, f"sent more than the {limit_bytes} bytes expected: it is asked again")
            pieces.append(piece)
        return b"".join(pieces)

    def finish(self) -> None:
        """Give the connection back. What was not read of the body costs the connection."""
        connection = self._connection
        self._connection = None
        if connection is not None:
            if self._is_done and self._is_kept and not connection.is_spent and not connection.has_unread():
                self._keep(connection)
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
            raise self._failure(ErrorKind.TIMEOUT, "sends too slowly: check the network")
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
            raise self._failure(
                ErrorKind.UNAVAILABLE, f"closed the connection with {left} bytes of its answer missing: it is asked again"
            )
        if self._chunked:
            self._chunk_left -= count
            if self._chunk_left == 0 and self._connection.read_line(MAX_CHUNK_LINE_BYTES):
                raise self._failure(ErrorKind.UNAVAILABLE, "sent a malformed chunk: it is asked again")
        elif self._left is not None:
            self._left -= count
            self._is_done = self._left == 0
        return count

    def _start_chunk(self) -> bool:
        """Read the line before a chunk; False after the last one, with its trailers read."""
        assert self._connection is not None
        line = self._connection.read_line(MAX_CHUNK_LINE_BYTES).partition(b";")[0].strip()
        if not line or len(line) > 15 or line.strip(b"0123456789abcdefABCDEF"):
            raise self._failure(ErrorKind.UNAVAILABLE, "sent a malformed chunk: it is asked again")
        self._chunk_left = int(line, 16)
        if self._chunk_left > 0:
            return True
        trailer_bytes = 0
        while trailer := self._connection.read_line(MAX_CHUNK_LINE_BYTES):
            trailer_bytes += len(trailer)
            if trailer_bytes > MAX_HEAD_BYTES:
                raise self._failure(ErrorKind.UNAVAILABLE, "sent endless trailers: it is asked again")
        return False


def content_length(settings: HttpSettings, headers: Mapping[str, str], *, is_chunked: bool) -> int | None:
    """Return Content-Length, None if there is none; chunked wins over it (RFC 9112, 6.3)."""
    if is_chunked:
        return None
    text = headers.get("content-length")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit()) or len(text) > 19:
        raise settings.failure(ErrorKind.UNAVAILABLE, f"sent a malformed Content-Length {text[:40]!r}: it is asked again")
    return int(text)
