"""Asks `python -m fusecache.provision` for what only a store can do: the driver itself has no store code, and holds no secret
longer than a call. Stateless."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Mapping
from typing import Any

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.custody.spawn import supervisor_environment

log = logging.getLogger(__name__)

SECONDS = 60.0  # for one order
AT_ONCE = 4  # each is a process that starts


class Provisioning:
    def __init__(self) -> None:
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def make(self, url: str, options: Mapping[str, str], name: str, owner: Mapping[str, str]) -> None:
        await self._order({"do": "make", "url": url, "options": dict(options), "name": name, "owner": dict(owner)})

    async def remove(self, url: str, options: Mapping[str, str], name: str, volume: str) -> None:
        await self._order({"do": "remove", "url": url, "options": dict(options), "name": name, "volume": volume})

    async def _order(self, order: Mapping[str, Any]) -> None:
        """Raises: CacheError of the answer's kind; TIMEOUT."""
        async with self._slots:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-P", "-m", "fusecache.provision",
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=supervisor_environment(os.environ),
            )  # fmt: skip
            try:
                async with asyncio.timeout(SECONDS):
                    out, _ = await process.communicate(json.dumps(order).encode())
            except TimeoutError:
                raise CacheError(
                    ErrorKind.TIMEOUT,
                    f"{order['url']} did not answer within {SECONDS:g} s; see whether it can be reached from here",
                ) from None
            finally:
                if process.returncode is None:
                    with contextlib.suppress(ProcessLookupError):
                        process.kill()
                    await process.wait()
        try:
            answer = json.loads(out)
        except ValueError:
            raise CacheError(
                ErrorKind.BUG, f"the process that was to {order['do']} a directory ended with {process.returncode}; see the log"
            ) from None
        if "error" in answer:
            raise CacheError(ErrorKind(answer["kind"]), answer["error"])
