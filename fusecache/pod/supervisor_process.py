"""The supervisor as our child: gets its order, says what comes of it, is told to end, ends. Used from one event loop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
from dataclasses import dataclass

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.run_files import SUPERVISOR_SOCKET
from fusecache.pod.control_client import call
from fusecache.pod.early import EarlySupervisor

YIELD_SECONDS = 2.0
_MAX_REPORT_BYTES = 64 << 10


@dataclass(frozen=True, slots=True)
class Report:
    """What it said. `error`: why it does not serve; None: it does."""

    error: CacheError | None


class SupervisorProcess:
    """Made in a running loop."""

    def __init__(self, early: EarlySupervisor) -> None:
        self._order_fd = early.order_fd
        self._pid = early.pid
        self._ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._pidfd = os.pidfd_open(early.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._reap)
        self._report_fd = early.report_fd
        self._reports = asyncio.StreamReader(limit=_MAX_REPORT_BYTES)
        self._transport: asyncio.ReadTransport | None = None

    def order(self, spec_path: str) -> None:
        """Tell it what to serve. If it died, its end says so."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self._order_fd, os.fsencode(spec_path))
        self._close_order()

    async def wait_warm(self) -> None:
        """Return when it and its daemons have imported, or it has ended. Only before the order; may be cancelled."""
        await self._connect()
        await self._reports.readline()

    async def report(self) -> Report:
        """Return when it serves, or has given up. One that died without a word has said so in its end."""
        transport = await self._connect()
        said = {"state": "warm"}
        try:
            while said.get("state") == "warm":
                line = await self._reports.readline()
                said = json.loads(line) if line else {}
        finally:
            transport.close()
        if said.get("state") == "ready":
            return Report(None)
        try:
            kind = ErrorKind(int(said.get("kind", ErrorKind.BUG)))
        except ValueError:
            kind = ErrorKind.BUG
        return Report(CacheError(kind, str(said.get("message", "the supervisor ended and did not say why: see the lines above"))))

    async def _connect(self) -> asyncio.ReadTransport:
        if self._transport is None:
            pipe = os.fdopen(self._report_fd, "rb", 0)
            self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(self._reports), pipe
            )
        return self._transport

    async def wait_ended(self) -> int:
        """Return its exit status as a shell would."""
        return await asyncio.shield(self._ended)

    async def give_way(self, run_dir: str) -> None:
        """Have it end at once and leave the mount to a pod that waits for it."""
        try:
            await call(run_dir, SUPERVISOR_SOCKET, {"do": "yield"}, YIELD_SECONDS)
        except CacheError:
            self.terminate()

    def terminate(self) -> None:
        """Have it end, with or without an order."""
        if self._ended.done():
            return
        if self._order_fd >= 0:
            return self._close_order()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGTERM)

    def _close_order(self) -> None:
        os.close(self._order_fd)
        self._order_fd = -1

    def _reap(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        os.close(self._pidfd)
        _, status = os.waitpid(self._pid, 0)
        code = os.waitstatus_to_exitcode(status)
        self._ended.set_result(code if code >= 0 else 128 - code)
