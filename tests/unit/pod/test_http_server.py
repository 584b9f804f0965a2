"""The HTTP server of cache pods: what it answers, and what it does not put up with."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from fusecache.pod import http_server
from fusecache.pod.http_server import HttpError, HttpServer, Reply, Request
from tests.support.log_check import LogCheck

Client = Callable[[int], Awaitable[None]]


async def echo(request: Request, reply: Reply) -> None:
    if request.path == "/stream":
        reply.begin(200, http_server.TEXT)
        for number in range(3):
            await reply.write(b"%d\n" % number)
        return
    if request.path == "/wait":
        await asyncio.sleep(60)
    if request.path == "/fail":
        raise ZeroDivisionError
    if request.path == "/refuse":
        raise HttpError(429, "no")
    await reply.send(200, f"{request.method} {request.path} {len(request.body)}")


def serve(client: Client) -> None:
    async def run() -> None:
        server = HttpServer(echo)
        task = asyncio.create_task(server.run("127.0.0.1", 0))
        try:
            await wait_listening(server)
            await client(server.port)
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    asyncio.run(run())


async def wait_listening(server: HttpServer) -> None:
    for _ in range(1000):
        if server.port:
            return
        await asyncio.sleep(0.001)


async def ask(port: int, data: bytes) -> str:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(data)
    try:
        return (await asyncio.wait_for(reader.read(), 5.0)).decode()
    finally:
        writer.close()


LARGE = b"X: " + b"y" * http_server.MAX_HEAD_BYTES
CASES = [
    (b"GET /a?b HTTP/1.1\r\nHost: x\r\n\r\n", "200", "GET /a 0"),
    (b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", "200", "POST /a 3"),
    (b"POST /a HTTP/1.1\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\nabc", "100", "POST /a 3"),
    (b"GET /stream HTTP/1.1\r\n\r\n", "200", "\r\n\r\n0\n1\n2\n"),
    (b"GET /refuse HTTP/1.1\r\n\r\n", "429", '{"error": "no"}'),
    (b"GET /a\r\n\r\n", "400", "not an HTTP/1.1 request"),
    (b"GET /a HTTP/1.1\r\nwrong\r\n\r\n", "400", "malformed"),
    (b"GET /a HTTP/1.1\r\nHost : x\r\n\r\n", "400", "malformed"),
    (b"POST /a HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", "400", "there twice"),
    (b"POST /a HTTP/1.1\r\nContent-Length: -1\r\n\r\n", "400", "no number"),
    (b"POST /a HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", "413", "1048576"),
    (b"POST /a HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", "413", "1048576"),
    (b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "411", "Content-Length"),
    (b"GET /a HTTP/1.1\r\n" + LARGE + b"\r\n\r\n", "431", "16384"),
]


@pytest.mark.parametrize(("data", "status", "words"), CASES)
def test_what_is_answered(data: bytes, status: str, words: str) -> None:
    async def client(port: int) -> None:
        answer = await ask(port, data)
        assert answer.startswith(f"HTTP/1.1 {status} "), answer
        assert words in answer

    serve(client)


def test_a_fault_is_logged_and_the_next_one_answered(expect_log: LogCheck) -> None:
    expect_log("a request failed", level=logging.ERROR)

    async def client(port: int) -> None:
        assert "500" in await ask(port, b"GET /fail HTTP/1.1\r\n\r\n")
        assert "200 OK" in await ask(port, b"GET /a HTTP/1.1\r\n\r\n")

    serve(client)


def test_who_is_slow_is_sent_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "REQUEST_SECONDS", 0.05)

    async def client(port: int) -> None:
        assert " 408 " in await ask(port, b"GET /a HTTP/1.1\r\n")
        assert " 408 " in await ask(port, b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nab")

    serve(client)


def test_there_are_only_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_server, "MAX_CLIENTS", 2)

    async def client(port: int) -> None:
        open_ = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        await asyncio.sleep(0.01)
        assert " 503 " in await ask(port, b"")
        for _, writer in open_:
            writer.close()
        await asyncio.sleep(0.01)
        assert " 200 " in await ask(port, b"GET /a HTTP/1.1\r\n\r\n")

    serve(client)


def test_the_server_ends_with_clients_waiting() -> None:
    async def client(port: int) -> None:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /wait HTTP/1.1\r\n\r\n")
        await asyncio.sleep(0.01)
        writer.close()

    serve(client)


def test_a_port_that_is_taken_is_waited_for(monkeypatch: pytest.MonkeyPatch, expect_log: LogCheck) -> None:
    expect_log("cannot listen on port", level=logging.ERROR)
    monkeypatch.setattr(http_server, "BIND_AGAIN_SECONDS", 0.01)

    async def client(port: int) -> None:
        second = HttpServer(echo)
        task = asyncio.create_task(second.run("127.0.0.1", port))
        await asyncio.sleep(0.05)
        assert second.port == 0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    serve(client)
