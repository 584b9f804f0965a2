"""Asks cache pods how they are, over HTTP with the Dataset's token. State: the session. Used from one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import Any

import aiohttp

from csi.operator.render.surroundings import HTTP_PORT

log = logging.getLogger(__name__)

ASK_SECONDS = 3.0
MAX_ANSWER_BYTES = 1 << 20


class Daemons:
    """Use as an async context manager."""

    async def __aenter__(self) -> Daemons:
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def statuses(self, addresses: Iterable[str], token: str) -> list[dict[str, Any]]:
        """Return the answers of those that answer, in any order."""
        answers = await asyncio.gather(*(self._status(address, token) for address in addresses))
        return [answer for answer in answers if answer is not None]

    async def _status(self, address: str, token: str) -> dict[str, Any] | None:
        host = f"[{address}]" if ":" in address else address
        try:
            async with self._session.get(
                f"http://{host}:{HTTP_PORT}/status", headers={"Authorization": f"Bearer {token}"}
            ) as response:
                if response.status != 200:
                    log.warning("the cache pod at %s answers %d", address, response.status)
                    return None
                answer = await response.json()
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.info("the cache pod at %s does not answer: %r", address, error)
            return None
        return answer if isinstance(answer, dict) else None
