"""Framing, kept connections and endings of our HTTP client, against a scripted server."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.http_pool import HttpPool
from fusecache.source.http_settings import HttpSettings

Script = Callable[[socket.socket, int], None]


class ScriptedServer:
    """Runs `script(connection, number)` for each connection, one after the other."""

    def __init__(self, script: Script) -> None:
        self.connections = 0
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._listener.getsockname()[1])

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection, contextlib.suppress(OSError):
                self._script(connection, self.connections)


def receive_request(connection: socket.socket) -> bytes:
    data = b""
    while not data.endswith(b"\r\n\r\n"):
        piece = connection.recv(4096)
        if not piece:
            raise ConnectionResetError
        data += piece
    return data


@pytest.fixture
def serve() -> Iterator[Callable[[Script], HttpPool]]:
    opened: list[tuple[HttpPool, ScriptedServer]] = []

    def start(script: Script) -> HttpPool:
        server = ScriptedServer(script)
        pool = HttpPool(HttpSettings("http", "127.0.0.1", server.port, read_timeout_seconds=1.0, connect_timeout_seconds=1.0))
        opened.append((pool, server))
        return pool

    yield start
    for pool, server in opened:
        pool.close()
        server.close()


def answers(*replies: bytes) -> Script:
    """Every connection answers one request after the other with these replies, then closes."""

    def script(connection: socket.socket, number: int) -> None:
        for reply in replies:
            receive_request(connection)
            connection.sendall(reply)

    return script


def fetch(pool: HttpPool, method: str = "GET") -> tuple[int, bytes]:
    response = pool.request(method, "/", {"host": "h"})
    try:
        body = response.read_all(1 << 20)
    except BaseException:
        response.close()
        raise
    response.finish()
    return response.status, body


def failure(call: Callable[[], object]) -> CacheError:
    with pytest.raises(CacheError) as caught:
        call()
    return caught.value


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"


@pytest.mark.parametrize(
    "reply",
    [
        OK,
        CHUNKED,
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        b"HTTP/1.1 100 Continue\r\n\r\n" + OK,
    ],
)
def test_bodies_of_every_framing(serve: Callable[[Script], HttpPool], reply: bytes) -> None:
    assert fetch(serve(answers(reply))) == (200, b"hello")


def test_connections_are_kept_and_replaced_when_the_store_closed_them(serve: Callable[[Script], HttpPool]) -> None:
    pool = serve(answers(OK, CHUNKED, OK))
    for _ in range(9):
        assert fetch(pool) == (200, b"hello")


def test_a_kept_connection_that_dies_under_a_request_is_replaced_once(serve: Callable[[Script], HttpPool]) -> None:
    def script(connection: socket.socket, number: int) -> None:
        receive_request(connection)
        connection.sendall(OK)
        if number == 1:
            receive_request(connection)  # and no answer

    pool = serve(script)
    assert fetch(pool) == (200, b"hello")
    assert fetch(pool) == (200, b"hello")


@pytest.mark.parametrize(
    ("reply", "kind"),
    [
        (b"", ErrorKind.UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Le", ErrorKind.UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", ErrorKind.UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nhello", ErrorKind.UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", ErrorKind.UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nhello", ErrorKind.UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhelloX\r\n0\r\n\r\n", ErrorKind.UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", ErrorKind.UNAVAILABLE),
        (b"SSH-2.0-OpenSSH\r\n\r\n", ErrorKind.UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20000 + b"\r\n", ErrorKind.UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n", ErrorKind.UNAVAILABLE),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 2000000, ErrorKind.UNAVAILABLE),
    ],
)
def test_wrong_answers(serve: Callable[[Script], HttpPool], reply: bytes, kind: ErrorKind) -> None:
    pool = serve(answers(reply))
    assert failure(lambda: fetch(pool)).kind is kind


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhe"])
def test_a_stall_is_a_timeout(serve: Callable[[Script], HttpPool], sent: bytes) -> None:
    def script(connection: socket.socket, number: int) -> None:
        receive_request(connection)
        connection.sendall(sent)
        connection.recv(1)

    pool = serve(script)
    started = time.monotonic()
    assert failure(lambda: fetch(pool)).kind is ErrorKind.TIMEOUT
    assert 0.8 < time.monotonic() - started < 10.0  # the server waits for ever


def test_closing_the_pool_wakes_who_waits(serve: Callable[[Script], HttpPool]) -> None:
    asked = threading.Event()

    def script(connection: socket.socket, number: int) -> None:
        receive_request(connection)
        asked.set()
        connection.recv(1)

    pool = serve(script)
    errors: list[CacheError] = []
    reader = threading.Thread(target=lambda: errors.append(failure(lambda: fetch(pool))))
    reader.start()
    assert asked.wait(5)
    pool.close()
    reader.join(5)
    assert errors[0].kind is ErrorKind.UNAVAILABLE  # it would be a TIMEOUT else
    assert failure(lambda: fetch(pool)).kind is ErrorKind.UNAVAILABLE


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    pool = HttpPool(HttpSettings("http", "127.0.0.1", port))
    error = failure(lambda: fetch(pool))
    assert (error.kind, "refuses connections" in str(error)) == (ErrorKind.UNAVAILABLE, True)
    pool = HttpPool(HttpSettings("http", "no-such-host.invalid", 80))
    error = failure(lambda: fetch(pool))
    assert (error.kind, "was not found" in str(error)) == (ErrorKind.UNAVAILABLE, True)


def test_tls_to_a_plain_server_says_so(serve: Callable[[Script], HttpPool]) -> None:
    plain = serve(answers(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
    pool = HttpPool(HttpSettings("https", "127.0.0.1", plain.settings.port, connect_timeout_seconds=1.0))
    error = failure(lambda: fetch(pool))
    assert error.kind in (ErrorKind.UNAVAILABLE, ErrorKind.TIMEOUT)
    assert "TLS" in str(error)


def test_a_ca_file_that_is_none(tmp_path: object) -> None:
    error = failure(lambda: HttpPool(HttpSettings("https", "h", 443, ca_file=__file__)))
    assert error.kind is ErrorKind.INVALID


def receive_head(connection: socket.socket) -> tuple[bytes, int]:
    """Return a head, and how much of the body came with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(4096)
    head, _, rest = data.partition(b"\r\n\r\n")
    return head, len(rest)


def body_of(size: int) -> Callable[[], Iterator[bytes]]:
    def pieces() -> Iterator[bytes]:
        for _ in range(size >> 16):
            yield bytes(1 << 16)

    return pieces


def test_a_body_goes_out_in_pieces(serve: Callable[[Script], HttpPool]) -> None:
    received = []

    def take(connection: socket.socket, number: int) -> None:
        head, size = receive_head(connection)
        while size < 1 << 20:
            size += len(connection.recv(1 << 16))
        received.append((head, size))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    response = serve(take).request("PUT", "/key", {"content-length": str(1 << 20)}, pieces=body_of(1 << 20))
    assert response.status == 200
    response.finish()
    assert received[0][0].startswith(b"PUT /key ")


def refuse_early(reply: bytes) -> Script:
    """Answer after the head and close the way that tells the sender at once."""

    def run(connection: socket.socket, number: int) -> None:
        receive_head(connection)
        connection.sendall(reply)
        connection.shutdown(socket.SHUT_RD)
        time.sleep(0.3)

    return run


def test_the_reason_of_a_store_that_refuses_before_it_has_the_body(serve: Callable[[Script], HttpPool]) -> None:
    pool = serve(refuse_early(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"))
    response = pool.request("PUT", "/key", {"content-length": str(64 << 20)}, pieces=body_of(64 << 20))
    assert (response.status, response.read_all(10)) == (403, b"no")
    response.finish()


def test_success_before_the_body_was_sent_is_none(serve: Callable[[Script], HttpPool]) -> None:
    pool = serve(refuse_early(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    with pytest.raises(CacheError) as caught:
        pool.request("PUT", "/key", {"content-length": str(64 << 20)}, pieces=body_of(64 << 20))
    assert caught.value.kind is ErrorKind.UNAVAILABLE
