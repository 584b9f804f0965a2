"""A small HTTP server: one request for each connection, every size, time and number bounded.

State: the open connections. Handlers come from outside. It knows what curl, kubelet and Prometheus send, and refuses the rest:
importing a framework would take half a second and 17 MiB more (measured: asyncio alone 0.1 s and 19 MiB, with aiohttp 0.53 s and
36 MiB, Python 3.11 on two cores).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

MAX_CLIENTS = 32  # kubelet, Prometheus, the operator and some people with curl
MAX_HEAD_BYTES = 16 << 10
MAX_BODY_BYTES = 1 << 20
REQUEST_SECONDS = 10.0  # for all of a request to arrive
SEND_SECONDS = 30.0  # for a client to take what was written
BIND_AGAIN_SECONDS = 1.0
_REASONS = {
    200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 405: "Method Not Allowed",
    408: "Request Timeout", 409: "Conflict", 411: "Length Required", 413: "Content Too Large", 429: "Too Many Requests",
    431: "Request Header Fields Too Large", 500: "Internal Server Error", 503: "Service Unavailable",
}  # fmt: skip
JSON, TEXT = "application/json", "text/plain; charset=utf-8"


class HttpError(Exception):
    """Answered with this status; the message is for the client."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class Request(NamedTuple):
    """`headers`: names in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Reply:
    """Either `send` once, or `begin` and any number of `write`."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        self.has_begun = False

    async def send(self, status: int, body: str, kind: str = TEXT) -> None:
        data = body.encode()
        self._head(status, kind, [f"Content-Length: {len(data)}"])
        await self.write(data)

    async def send_json(self, status: int, value: Any) -> None:
        await self.send(status, json.dumps(value) + "\n", JSON)

    def begin(self, status: int, kind: str) -> None:
        """The body ends with the connection."""
        self._head(status, kind, [])

    async def write(self, data: bytes) -> None:
        """Raises: OSError, TimeoutError: the client has gone, or takes nothing."""
        self._writer.write(data)
        async with asyncio.timeout(SEND_SECONDS):
            await self._writer.drain()

    def _head(self, status: int, kind: str, more: list[str]) -> None:
        self.has_begun = True
        realm = ["WWW-Authenticate: Bearer"] if status == 401 else []
        lines = [f"HTTP/1.1 {status} {_REASONS[status]}", f"Content-Type: {kind}", *more, *realm]
        self._writer.write("\r\n".join([*lines, "Cache-Control: no-store", "Connection: close", "", ""]).encode("latin-1"))


Handler = Callable[[Request, Reply], Awaitable[None]]


class HttpServer:
    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._clients: set[asyncio.Task[None]] = set()
        self.port = 0  # since `run` listens

    async def run(self, address: str, port: int) -> None:
        """Serve until cancelled. A port that is taken is waited for: reading goes on without us."""
        said = False
        while True:
            try:
                listener = _listen(address, port)
                break
            except OSError as error:
                if not said:
                    log.error("the HTTP server cannot listen on port %d, and goes on trying: %s", port, error)
                said = True
                await asyncio.sleep(BIND_AGAIN_SECONDS)
        self.port = listener.getsockname()[1]
        server = await asyncio.start_server(self._on_client, sock=listener, limit=MAX_HEAD_BYTES)
        log.info("HTTP on port %d", self.port)
        try:
            await asyncio.Event().wait()
        finally:
            server.close()  # and not wait_closed: from Python 3.12 on that waits for whoever is being answered

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        try:
            await self._serve(reader, Reply(writer))
        except (OSError, TimeoutError, asyncio.CancelledError):
            pass  # the client went away; a cancelled handler is how the program ends
        finally:
            self._clients.discard(task)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, reply: Reply) -> None:
        try:
            if len(self._clients) > MAX_CLIENTS:
                raise HttpError(503, "too many clients: try again later")
            try:
                async with asyncio.timeout(REQUEST_SECONDS):
                    request = await _read_request(reader, reply)
            except TimeoutError:
                raise HttpError(408, f"the request did not arrive within {REQUEST_SECONDS:g} s") from None
            if request is not None:
                await self._handler(request, reply)
        except HttpError as error:
            if not reply.has_begun:
                await reply.send_json(error.status, {"error": str(error)})
        except (OSError, TimeoutError):
            raise
        except Exception:
            log.exception("a request failed")
            if not reply.has_begun:
                await reply.send_json(500, {"error": "this is a fault of the program: see its log"})


async def _read_request(reader: asyncio.StreamReader, reply: Reply) -> Request | None:
    """None: the client closed without a request. Raises: HttpError, OSError."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if not error.partial:
            return None
        raise HttpError(400, "the request ends in its headers") from None
    except asyncio.LimitOverrunError:
        raise HttpError(431, f"the headers have more than {MAX_HEAD_BYTES} bytes") from None
    first, *lines = head.decode("latin-1").split("\r\n")[:-2]
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise HttpError(400, "not an HTTP/1.1 request")
    headers: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name or name != name.strip() or name.lower() in headers:
            raise HttpError(400, "a header is malformed, or there twice")
        headers[name.lower()] = value.strip()
    return Request(words[0], words[1].partition("?")[0], headers, await _read_body(reader, reply, headers))


async def _read_body(reader: asyncio.StreamReader, reply: Reply, headers: Mapping[str, str]) -> bytes:
    if "transfer-encoding" in headers:
        raise HttpError(411, "say the length of the body: Content-Length")
    text = headers.get("content-length", "0")
    if not text.isdecimal() or not text.isascii():
        raise HttpError(400, "Content-Length is no number")
    if len(text) > 10 or int(text) > MAX_BODY_BYTES:
        raise HttpError(413, f"the body has more than {MAX_BODY_BYTES} bytes")
    if int(text) and headers.get("expect", "").lower() == "100-continue":
        await reply.write(b"HTTP/1.1 100 Continue\r\n\r\n")
    try:
        return await reader.readexactly(int(text))
    except asyncio.IncompleteReadError:
        raise HttpError(400, "the request ends in its body") from None


def _listen(address: str, port: int) -> socket.socket:
    """Raises: OSError."""
    if address:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return socket.create_server((address, port), family=family)
    if socket.has_dualstack_ipv6():
        with contextlib.suppress(OSError):  # IPv6 may be there and switched off; a port that is taken is found out below
            return socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", port))
