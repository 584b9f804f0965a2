"""Asks fetch or the supervisor over the sockets of the run directory, without blocking. State: a connection for each request."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncGenerator, Mapping
from typing import Any

from fusecache.base.run_sockets import connect_in
from fusecache.contract.errors import CacheError, ErrorKind

MAX_LINE_BYTES = 16 << 20  # a thousand names of what a warm could not fetch, and metrics


class ConnectionLost(CacheError):
    """Whoever was asked went away in the middle of an answer: it is being replaced."""


async def ask(run_dir: str, name: str, request: Mapping[str, Any], seconds: float) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the answers, the one with "done" last. `seconds`: to wait for each. An error of the other side is an answer, too.

    Raises: CacheError: UNAVAILABLE, TIMEOUT; ConnectionLost."""
    try:
        connection = connect_in(run_dir, name, socket.SOCK_STREAM, 0.0)
    except OSError as error:
        raise CacheError(ErrorKind.UNAVAILABLE, f"the daemon cannot be reached: {error.strerror}") from error
    reader, writer = await asyncio.open_unix_connection(sock=connection, limit=MAX_LINE_BYTES)
    try:
        writer.write(json.dumps(request).encode() + b"\n")
        while True:
            async with asyncio.timeout(seconds):
                await writer.drain()
                line = await reader.readline()
            if not line.endswith(b"\n"):
                raise ConnectionLost(ErrorKind.UNAVAILABLE, "the daemon went away while it answered: ask again")
            answer = json.loads(line)
            yield answer
            if answer.get("done"):
                return
    except TimeoutError:
        raise CacheError(ErrorKind.TIMEOUT, f"the daemon did not answer within {seconds:g} s") from None
    except OSError as error:
        raise ConnectionLost(ErrorKind.UNAVAILABLE, "the daemon went away while it answered: ask again") from error
    except ValueError as error:
        raise CacheError(ErrorKind.BUG, "the daemon gave an answer that is not understood") from error
    finally:
        writer.close()


async def call(run_dir: str, name: str, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
    """Return the final answer. Raises: CacheError: its own, and as `ask`."""
    answers = [answer async for answer in ask(run_dir, name, request, seconds)]
    raise_error(answers[-1])
    return answers[-1]


def raise_error(answer: Mapping[str, Any]) -> None:
    """Raises: CacheError, if the answer is one."""
    if "error" not in answer:
        return
    try:
        kind = ErrorKind(int(answer.get("kind", ErrorKind.BUG)))
    except ValueError:
        kind = ErrorKind.BUG
    raise CacheError(kind, str(answer["error"]))
