"""A read of a small object that was sent and is not waited for (`fusecache.source.protocol.StartedRead`), over HTTP.

It goes over a connection that somebody opened before. A connection that had ended unseen, and an answer that refuses, are left
to `take`, which may wait. No state beyond the one read.
"""

from __future__ import annotations

from typing import Protocol

from fusecache.contract.errors import CacheError
from fusecache.source.http_connection import MAX_HEAD_BYTES, HttpConnection, HttpPool, HttpResponse
from fusecache.source.protocol import Buffer, ReadState


class Reading(Protocol):
    """What the client of a store knows of one read."""

    def check_head(self, response: HttpResponse) -> None:
        """Raises what is wrong with the head of a successful answer."""

    def check_body(self, response: HttpResponse, body: memoryview) -> None:
        """Raises what is wrong with the whole answer."""

    def refused(self, response: HttpResponse) -> Buffer:
        """Raise what a refusal means, or read once more where there is hope. Finishes the answer; may wait."""

    def unsuited(self) -> None:
        """This store's answers cannot be taken in this way."""

    def again(self) -> Buffer:
        """Read the same by waiting."""


class StartedGet:
    """A request over a kept connection whose answer is taken as it arrives. For one thread at a time.

    Invariant: it holds the connection until `finish` or `close`, or gives it to the HttpResponse of `wait`."""

    def __init__(self, pool: HttpPool, connection: HttpConnection) -> None:
        self._pool = pool
        self._connection = connection
        self._head = b""

    def fileno(self) -> int:
        return self._connection.fileno()

    def receive_head(self) -> HttpResponse | None:
        """Return the answer once its head is there, its body unread. Raises UNAVAILABLE; OSError if the connection ended."""
        while b"\r\n\r\n" not in self._head and len(self._head) < MAX_HEAD_BYTES:
            piece = self._connection.receive_now()
            if piece is None:
                return None
            if not piece:
                raise ConnectionResetError
            self._head += piece
        status, headers = self._connection.take_head(self._head)
        if status < 200:  # it announces another answer: for a reader who waits
            raise ConnectionAbortedError
        return HttpResponse(self._pool, self._connection, status, headers, status not in (204, 304))

    def wait(self) -> None:
        """The rest of the answer is read by somebody who waits."""
        self._connection.wait(True)

    def close(self) -> None:
        self._connection.close()


class StartedPart:
    """Invariant: while the state is WAITING it holds a connection; else that was given back, or closed, or is for `refused`."""

    def __init__(self, started: StartedGet, length: int, reading: Reading, deadline: float) -> None:
        self._started = started
        self._reading = reading
        self._response: HttpResponse | None = None
        self._body = bytearray(length)
        self._filled = 0
        self._fd = started.fileno()
        self._state = ReadState.WAITING
        self._error: CacheError | None = None
        self.deadline = deadline

    def fileno(self) -> int:
        return self._fd

    def advance(self) -> ReadState:
        try:
            self._state = self._advance()
        except CacheError as error:
            self._close()
            self._state, self._error = ReadState.ODD, error
        except OSError:
            self._close()
            self._state, self._response = ReadState.ODD, None
        return self._state

    def take(self) -> Buffer:
        if self._state is ReadState.COMPLETE:
            return self._body
        if self._error is not None:
            raise self._error
        if self._state is ReadState.ODD and self._response is not None:
            self._started.wait()
            return self._reading.refused(self._response)
        self._close()
        return self._reading.again()

    def _advance(self) -> ReadState:
        response = self._response
        if response is None:
            response = self._response = self._started.receive_head()
            if response is None:
                return ReadState.WAITING
            if not 200 <= response.status < 300:
                return ReadState.ODD
            self._reading.check_head(response)
            if response.length != len(self._body):  # chunked: as it is not told in advance, it is waited for
                self._reading.unsuited()
                self._close()
                self._response = None
                return ReadState.ODD
        view = memoryview(self._body)
        while self._filled < len(view):
            count = response.receive_now(view[self._filled :])
            if count == 0:
                return ReadState.WAITING
            self._filled += count
        self._reading.check_body(response, view)
        response.finish()
        return ReadState.COMPLETE

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
        else:
            self._started.close()
