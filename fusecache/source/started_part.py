"""A read of a small object that was sent and is not waited for (`fusecache.source.protocol.StartedRead`), over HTTP.

It goes over a connection that somebody opened before. A connection that had ended unseen, and an answer that refuses, are left
to `take`, which may wait. No state beyond the one read.

Head and body are received into one buffer of the caller, and the body is checked and used where it lies: with buffers of their
own for each piece, and copies from one to the next, a small object cost a tenth more.
"""

from __future__ import annotations

from typing import Protocol

from fusecache.contract.errors import CacheError
from fusecache.source.http_connection import HttpConnection
from fusecache.source.http_pool import HttpPool
from fusecache.source.http_response import HttpResponse
from fusecache.source.protocol import BEGIN_ROOM_BYTES, Buffer, ReadState


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

    Invariant: it holds the connection until `finish` or `close`, or gives it to the HttpResponse of `receive_head`.

    Attributes:
        body_start: where in the buffer the body begins, once there is a response.
        filled: bytes of the buffer that hold something, as far as they were received here.
    """

    def __init__(self, pool: HttpPool, connection: HttpConnection, buffer: memoryview) -> None:
        self._pool = pool
        self._connection = connection
        self._buffer = buffer
        self.body_start = 0
        self.filled = 0

    def fileno(self) -> int:
        return self._connection.fileno()

    def receive_head(self) -> HttpResponse | None:
        """Return the answer once its head is there; the beginning of its body may lie behind it in the buffer.

        Raises: UNAVAILABLE; OSError if the connection ended, or if this answer is for a reader who waits."""
        while True:
            count = self._connection.receive_some_now(self._buffer[self.filled :])
            if count is None:
                return None
            if count == 0:
                raise ConnectionResetError
            self.filled += count
            head, end, _ = bytes(self._buffer[: min(self.filled, BEGIN_ROOM_BYTES)]).partition(b"\r\n\r\n")
            if end:
                break
            if self.filled >= BEGIN_ROOM_BYTES:
                raise ConnectionAbortedError
        self.body_start = len(head) + len(end)
        status, headers = self._connection.parse_head(head)
        if status < 200:  # it announces another answer
            raise ConnectionAbortedError
        return self._pool.answer(self._connection, status, headers, has_body=status not in (204, 304))

    def push_back(self) -> None:
        """The response finds in its connection what was received of its body."""
        self._connection.push_back(bytes(self._buffer[self.body_start : self.filled]))

    def wait(self) -> None:
        """The rest of the answer is read by somebody who waits."""
        self._connection.wait(True)

    def close(self) -> None:
        self._connection.close()


class StartedPart:
    """Invariant: while the state is WAITING it holds a connection; else that was given back, or closed, or is for `refused`."""

    def __init__(self, started: StartedGet, buffer: memoryview, length: int, reading: Reading, deadline: float) -> None:
        """`buffer` is the one that `started` receives into: BEGIN_ROOM_BYTES longer than the object's `length`, at least."""
        self._started = started
        self._buffer = buffer
        self._length = length
        self._reading = reading
        self._response: HttpResponse | None = None
        self._body = buffer[:0]
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
            assert self._response is not None
            self._reading.check_body(self._response, self._body)
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
                self._started.push_back()
                return ReadState.ODD
            if response.length is None:  # chunked: as its end is not told in advance, it is waited for
                self._reading.unsuited()
                self._close()
                self._response = None
                return ReadState.ODD
            self._reading.check_head(response)
            start = self._started.body_start
            self._body = self._buffer[start : start + self._length]
            self._filled = self._started.filled - start
            response.note_received(self._filled)
        while self._filled < self._length:
            count, is_all = response.receive_now(self._body[self._filled :])
            self._filled += count
            if is_all and self._filled < self._length:
                return ReadState.WAITING
        response.finish()
        return ReadState.COMPLETE

    def _close(self) -> None:
        if self._response is not None:
            self._response.close()
        else:
            self._started.close()
