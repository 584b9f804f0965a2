"""HTTP/1.1 messages on a socket, as far as a proxy that must not change them needs. One connection, one thread."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

PIECE_BYTES = 256 << 10


class Disconnected(Exception):
    """The other side ended the connection."""


@dataclass(slots=True)
class Head:
    """A request or status line with its headers, names as they were written."""

    first_line: bytes
    headers: list[tuple[bytes, bytes]]

    def get(self, name: bytes) -> bytes | None:
        for key, value in self.headers:
            if key.lower() == name:
                return value
        return None

    def replaced(self, name: bytes, value: bytes | None) -> None:
        """Set a header, or remove it."""
        self.headers = [(key, old) for key, old in self.headers if key.lower() != name]
        if value is not None:
            self.headers.append((name, value))

    def encode(self) -> bytes:
        return self.first_line + b"\r\n" + b"".join(k + b": " + v + b"\r\n" for k, v in self.headers) + b"\r\n"

    @property
    def status(self) -> int:
        return int(self.first_line.split(b" ", 2)[1])

    @property
    def content_length(self) -> int | None:
        value = self.get(b"content-length")
        return None if value is None else int(value)

    @property
    def is_chunked(self) -> bool:
        return (self.get(b"transfer-encoding") or b"").lower() == b"chunked"


class Wire:
    """A socket with what was read from it and not used yet."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._rest = b""
        self._buffer = memoryview(bytearray(PIECE_BYTES))

    def read_head(self) -> Head:
        """Return the next head. Raises: Disconnected."""
        while b"\r\n\r\n" not in self._rest:
            self._fill()
        raw, _, self._rest = self._rest.partition(b"\r\n\r\n")
        first_line, *lines = raw.split(b"\r\n")
        headers = []
        for line in lines:
            name, _, value = line.partition(b":")
            headers.append((name, value.strip()))
        return Head(first_line, headers)

    def read_piece(self, most: int) -> memoryview:
        """Return 1 to `most` bytes, valid until the next call. Raises: Disconnected."""
        if self._rest:
            piece, self._rest = self._rest[:most], self._rest[most:]
            return memoryview(piece)
        count = self.sock.recv_into(self._buffer, min(most, PIECE_BYTES))
        if not count:
            raise Disconnected
        return self._buffer[:count]

    def read_exactly(self, length: int) -> bytes:
        pieces = []
        while length:
            piece = bytes(self.read_piece(length))
            length -= len(piece)
            pieces.append(piece)
        return b"".join(pieces)

    def read_chunks(self) -> Iterator[bytes]:
        """Yield the pieces of a chunked body as they come, and return at its end."""
        while size := int(self._read_line().split(b";")[0], 16):
            yield self.read_exactly(size)
            self._read_line()
        while self._read_line():
            pass

    def read_chunked(self) -> bytes:
        """Return a chunked body, put together."""
        return b"".join(self.read_chunks())

    def _read_line(self) -> bytes:
        while b"\r\n" not in self._rest:
            self._fill()
        line, _, self._rest = self._rest.partition(b"\r\n")
        return line

    def _fill(self) -> None:
        data = self.sock.recv(PIECE_BYTES)
        if not data:
            raise Disconnected
        self._rest += data
