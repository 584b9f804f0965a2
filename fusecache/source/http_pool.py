"""Speaks HTTP/1.1 to one store over kept connections.

Owns the sockets; called from any thread of fetch: a connection belongs to one request from `request` until `finish` or `close` of
its response.
"""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Mapping

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.source.http_connection import HttpConnection, Pieces, StaleConnectionError
from fusecache.source.http_response import HttpResponse
from fusecache.source.http_settings import HttpSettings

MAX_IDLE_CONNECTIONS = 64  # more than fetch asks at once
IDLE_SECONDS = 15.0  # SeaweedFS closes after 120 s, AWS after about 20 s


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
        self._failure = settings.failure
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
            except StaleConnectionError:
                connection.close()
                continue  # at most as often as there are kept connections: a new one never raises this
            except BaseException:
                connection.close()
                raise
            has_body = method != "HEAD" and status not in (204, 304)
            try:
                if connection.is_spent and status < 300:
                    raise self._failure(ErrorKind.UNAVAILABLE, "took a part of what was sent for all of it: it is asked again")
                return self.answer(connection, status, answer_headers, has_body=has_body)
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

    def answer(self, connection: HttpConnection, status: int, headers: dict[str, str], *, has_body: bool) -> HttpResponse:
        """Return the answer whose head came over a connection, which is the answer's from now on."""
        return HttpResponse(self.settings, connection, status, headers, self._keep, has_body=has_body)

    def _keep(self, connection: HttpConnection) -> None:
        connection.wait(True)
        connection.idle_since = time.monotonic()
        connection.is_reused = True
        with self._lock:
            if not self._is_closed and len(self._idle) < MAX_IDLE_CONNECTIONS:
                self._idle.append(connection)
                return
        connection.close()

    def _forget(self, connection: HttpConnection) -> None:
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
                raise self._failure(ErrorKind.UNAVAILABLE, "is no longer in use: the source was closed")
        try:
            host = "localhost" if settings.host.endswith(".localhost") else settings.host  # RFC 6761, 6.3; libc may not know it
            plain = socket.create_connection((host, settings.port), settings.connect_timeout_seconds)
        except socket.gaierror as error:
            raise self._failure(ErrorKind.UNAVAILABLE, "was not found: check the host name in endpoint_url and DNS") from error
        except ConnectionRefusedError as error:
            raise self._failure(ErrorKind.UNAVAILABLE, "refuses connections: is it running, and is the port right?") from error
        except TimeoutError as error:
            what = f"did not accept a connection within {settings.connect_timeout_seconds:g} s: check address and firewall"
            raise self._failure(ErrorKind.TIMEOUT, what) from error
        except OSError as error:
            raise self._failure(
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
                raise self._failure(ErrorKind.INVALID, what) from error
            except TimeoutError as error:
                raise self._failure(ErrorKind.TIMEOUT, "does not answer the TLS handshake: is the port right?") from error
            except OSError as error:
                raise self._failure(ErrorKind.UNAVAILABLE, f"does not speak TLS ({error}): is endpoint_url http://?") from error
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = HttpConnection(self.settings, stream, self._forget)
        with self._lock:
            if not self._is_closed:
                self._open.add(connection)
                return connection
        connection.close()
        raise self._failure(ErrorKind.UNAVAILABLE, "is no longer in use: the source was closed")


def _tls_context(settings: HttpSettings) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=settings.ca_file or None)
    except (OSError, ssl.SSLError) as error:
        raise CacheError(ErrorKind.INVALID, f"ca_file {settings.ca_file!r} holds no certificates: give a PEM file") from error
