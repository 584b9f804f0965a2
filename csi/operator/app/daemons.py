"""Asks cache pods how they are, over HTTP with the Dataset's token. State: the session. Used from one event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import aiohttp

from csi.operator.render.surroundings import HTTP_PORT

log = logging.getLogger(__name__)

ASK_SECONDS = 3.0
ERASE_SECONDS = 8.0
MAX_PROBLEM = 1000
WAITING = "waiting"  # phase of a pod that lacks something that somebody has to mend (docs/kubernetes-internals.md)


@dataclass(frozen=True, slots=True)
class Answers:
    """`statuses`: of those that serve; `problems`: sentences of those that wait for something. Both in any order."""

    statuses: list[dict[str, Any]]
    problems: list[str]


@dataclass(frozen=True, slots=True)
class Erased:
    """`unfinished`: addresses of the pods that are to be asked again. `refusals`: of pods that would lose files of users."""

    unfinished: list[str]
    refusals: list[str]


class Daemons:
    """Use as an async context manager."""

    async def __aenter__(self) -> Daemons:
        timeout = aiohttp.ClientTimeout(total=ASK_SECONDS)
        self._session = aiohttp.ClientSession(timeout=timeout, trust_env=False)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._session.close()

    async def statuses(self, addresses: Iterable[str], token: str) -> Answers:
        """Ask all of them at once."""
        found = await asyncio.gather(*(self._status(address, token) for address in addresses))
        statuses = [status for status, _ in found if status is not None]
        return Answers(statuses, [problem for _, problem in found if problem])

    async def erase(self, addresses: Iterable[str], token: str, *, discards: bool) -> Erased:
        """Have pods remove what they have cached: to be asked again until all are done."""
        asked = list(addresses)
        found = await asyncio.gather(*(self._erase(address, token, discards=discards) for address in asked))
        unfinished = [address for address, (is_done, _) in zip(asked, found, strict=True) if not is_done]
        return Erased(unfinished, [refused for _, refused in found if refused])

    async def _erase(self, address: str, token: str, *, discards: bool) -> tuple[bool, str]:
        """Return whether it is done, and why the pod refuses."""
        try:
            async with self._session.post(
                _url(address, "erase"),
                headers={"Authorization": f"Bearer {token}"},
                json={"discard": discards},
                timeout=aiohttp.ClientTimeout(total=ERASE_SECONDS),
            ) as response:
                answer = await response.json()
                if response.status == 200:
                    return bool(answer["done"]), ""
                return False, str(answer.get("error", ""))[:MAX_PROBLEM] if response.status == 409 else ""
        except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as error:
            log.info("the cache pod at %s does not answer: %r", address, error)
            return False, ""

    async def _status(self, address: str, token: str) -> tuple[dict[str, Any] | None, str]:
        """Return its status, or None and what keeps it from serving, if it says that."""
        try:
            async with self._session.get(_url(address, "status"), headers={"Authorization": f"Bearer {token}"}) as response:
                answer = await response.json()
                if response.status == 200 and isinstance(answer, dict):
                    return answer, ""
                if response.status == 503 and isinstance(answer, dict):
                    is_problem = answer.get("phase") == WAITING
                    return None, str(answer.get("error", ""))[:MAX_PROBLEM] if is_problem else ""
                log.warning("the cache pod at %s answers %d", address, response.status)
        except (aiohttp.ClientError, TimeoutError, ValueError) as error:
            log.info("the cache pod at %s does not answer: %r", address, error)
        return None, ""


def _url(address: str, what: str) -> str:
    host = f"[{address}]" if ":" in address else address
    return f"http://{host}:{HTTP_PORT}/{what}"
