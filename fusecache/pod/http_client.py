"""The little HTTP that a loader needs to ask cache pods: one request for each connection, answers whole or line by line.

State: a connection for each request. It knows what http_server.py answers, and gives up on everything else.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any, NamedTuple

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.pod.control_client import MAX_LINE_BYTES

MAX_HEAD_BYTES = 16 << 10
MAX_BODY_BYTES = 1 << 20  # of an answer that is read whole


class Peer(NamedTuple):
    """Where a pod listens."""

    address: str
    port: int

    def __str__(self) -> str:
        return f"[{self.address}]:{self.port}" if ":" in self.address else f"{self.address}:{self.port}"


class Refused(CacheError):
    """The pod answers with another status than 200."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(ErrorKind.UNAVAILABLE, message)
        self.status = status


async def get(peer: Peer, path: str, token: str, seconds: float) -> str:
    """Return a body. Raises: Refused; CacheError(UNAVAILABLE)."""
    async with _asked(peer, "GET", path, token, b"", seconds) as reader:
        return (await reader.read(MAX_BODY_BYTES)).decode(errors="replace")


async def post_lines(
    peer: Peer, path: str, token: str, body: Mapping[str, Any], seconds: float
) -> AsyncGenerator[dict[str, Any], None]:
    """Yield the objects of an answer, the one with "done" last. `seconds`: to wait for each.

    Raises: Refused; CacheError(UNAVAILABLE), also where the answer ends before."""
    async with _asked(peer, "POST", path, token, json.dumps(body).encode(), seconds) as reader:
        while True:
            async with asyncio.timeout(seconds):
                line = await reader.readline()
            if not line.endswith(b"\n"):
                raise CacheError(ErrorKind.UNAVAILABLE, f"the cache pod at {peer} went away while it answered")
            answer = json.loads(line)
            if not isinstance(answer, dict):
                raise ValueError("no object")
            yield answer
            if answer.get("done"):
                return


@contextlib.asynccontextmanager
async def _asked(
    peer: Peer, method: str, path: str, token: str, body: bytes, seconds: float
) -> AsyncIterator[asyncio.StreamReader]:
    """Give the reader of a body. Raises: Refused; CacheError(UNAVAILABLE) for whatever goes wrong in the block."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection(*peer, limit=MAX_LINE_BYTES)
            lines = [f"{method} {path} HTTP/1.1", f"Host: {peer}", f"Content-Length: {len(body)}", "Connection: close"]
            lines += [f"Authorization: Bearer {token}"] if token else []
            writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
            await writer.drain()
            status = await _status(reader)
        if status != 200:
            async with asyncio.timeout(seconds):
                said = (await reader.read(MAX_BODY_BYTES)).decode(errors="replace")
            raise Refused(status, f"the cache pod at {peer} answers {status}: {_reason(said)}")
        yield reader
    except TimeoutError:
        raise CacheError(ErrorKind.UNAVAILABLE, f"the cache pod at {peer} did not answer within {seconds:g} s") from None
    except OSError as error:
        raise CacheError(ErrorKind.UNAVAILABLE, f"the cache pod at {peer} cannot be reached: {error}") from error
    except (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
        raise CacheError(ErrorKind.UNAVAILABLE, f"what the cache pod at {peer} answers is not understood") from error
    finally:
        if writer is not None:
            writer.close()


async def _status(reader: asyncio.StreamReader) -> int:
    """Read the head of an answer. Raises: ValueError, IncompleteReadError, LimitOverrunError, OSError."""
    head = await reader.readuntil(b"\r\n\r\n")
    words = head[:MAX_HEAD_BYTES].split(b"\r\n", 1)[0].split(b" ")
    if len(words) < 2 or not words[0].startswith(b"HTTP/1."):
        raise ValueError("no HTTP")
    return int(words[1])


def _reason(said: str) -> str:
    """Return the sentence of an error's body."""
    with contextlib.suppress(ValueError, TypeError, KeyError):
        return str(json.loads(said)["error"])
    return said.strip()[:200]
