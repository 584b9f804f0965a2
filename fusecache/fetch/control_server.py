"""The control socket: status, usage, warm, drop, refresh, look, metrics. JSON lines, as contract/control.py says."""

from __future__ import annotations

import dataclasses
import json
import logging
import socket
from typing import Any

import trio

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.warm_request import WarmRequest
from fusecache.fetch.cache import Cache
from fusecache.fetch.status import StatusReport
from fusecache.fetch.tree_walk import find
from fusecache.fetch.usage import usage_of
from fusecache.fetch.warm import Warm, drop, refresh
from fusecache.index.environment import NoSpaceError

log = logging.getLogger(__name__)

MAX_REQUEST_BYTES = 1 << 20
MAX_CLIENTS = 32
PROGRESS_SECONDS = 0.2
KNOWN = "status, usage, warm, drop, refresh, look, metrics"


class ControlServer:
    def __init__(self, cache: Cache, status: StatusReport) -> None:
        self._cache = cache
        self._status = status

    async def serve(self, listener: socket.socket) -> None:
        listening = trio.SocketListener(trio.socket.from_stdlib_socket(listener))
        limiter = trio.CapacityLimiter(MAX_CLIENTS)

        async def handle(stream: trio.SocketStream) -> None:
            async with limiter:
                await self._serve_client(stream)

        await trio.serve_listeners(handle, [listening])

    async def _serve_client(self, stream: trio.SocketStream) -> None:
        try:
            async with stream:
                buffer = bytearray()
                async for chunk in stream:
                    buffer += chunk
                    while b"\n" in buffer:
                        line, _, rest = bytes(buffer).partition(b"\n")
                        buffer[:] = rest
                        await self._answer(stream, line)
                    if len(buffer) > MAX_REQUEST_BYTES:
                        return
        except* (trio.BrokenResourceError, trio.ClosedResourceError, OSError):
            pass  # the client went away: what it started is cancelled with it

    async def _answer(self, stream: trio.SocketStream, line: bytes) -> None:
        try:
            request = json.loads(line)
            if not isinstance(request, dict):
                raise ValueError("not an object")
            await self._do(stream, request)
        except CacheError as error:
            await _say(stream, {"done": True, "error": str(error), "kind": int(error.kind)})
        except NoSpaceError as error:
            message = f"the index is full: {error}; free space on the disk of the cache directory"
            await _say(stream, {"done": True, "error": message, "kind": int(ErrorKind.NO_SPACE)})
        except (ValueError, TypeError) as error:
            await _say(stream, {"done": True, "error": f"not a request: {error}", "kind": int(ErrorKind.INVALID)})

    async def _do(self, stream: trio.SocketStream, request: dict[str, Any]) -> None:
        what = request.get("do")
        paths = [os_path(path) for path in request.get("paths", [])]
        if what == "status":
            await _say(stream, {"done": True, **self._status.collect()})
        elif what == "metrics":
            await _say(stream, {"done": True, "text": self._status.metrics()})
        elif what == "drop":
            await _say(stream, {"done": True, "bytes": await drop(self._cache, paths)})
        elif what == "refresh":
            await _say(stream, {"done": True, "changed": await refresh(self._cache, paths)})
        elif what == "look":
            for path in paths:
                await find(self._cache, path, anew=True)
            await _say(stream, {"done": True})
        elif what == "usage":
            for path in paths:
                await _say(stream, {"done": True, **dataclasses.asdict(await usage_of(self._cache, path))})
        elif what == "warm":
            await self._warm(stream, WarmRequest.parse({name: value for name, value in request.items() if name != "do"}))
        else:
            raise CacheError(ErrorKind.INVALID, f"{what!r} is no request; known are {KNOWN}")

    async def _warm(self, stream: trio.SocketStream, request: WarmRequest) -> None:
        warm = Warm(self._cache, request)
        error: CacheError | None = None
        async with trio.open_nursery() as nursery:

            async def report() -> None:
                while True:
                    await trio.sleep(PROGRESS_SECONDS)
                    progress = warm.progress
                    await _say(
                        stream,
                        {
                            "files": progress.files,
                            "files_total": progress.files_total,
                            "bytes": progress.bytes,
                            "bytes_total": progress.bytes_total,
                            "listing": progress.listing,
                        },
                    )

            nursery.start_soon(report)
            try:
                await warm.run()
            except CacheError as known:  # not out of the nursery, which would wrap it
                error = known
            nursery.cancel_scope.cancel()
        if error is not None:
            raise error
        if warm.listed_everything:  # the walker may still be on its way, or never start: the totals are complete
            self._status.listing_complete = True
        await _say(stream, {"done": True, **dataclasses.asdict(warm.progress)})


def os_path(path: object) -> bytes:
    if not isinstance(path, str):
        raise CacheError(ErrorKind.INVALID, "a path must be a string")
    return path.encode("utf-8", "surrogateescape")


async def _say(stream: trio.SocketStream, message: dict[str, Any]) -> None:
    await stream.send_all(json.dumps(message).encode() + b"\n")
