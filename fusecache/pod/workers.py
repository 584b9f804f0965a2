"""Which cache pods of a Dataset hold tiers, and between which nodes each of them sees the data shared.

State: why the last one that should have answered did not. Pods that stand by, or have no tiers, are no workers. Used from one
event loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

from fusecache.contract.errors import CacheError
from fusecache.pod.http_client import Peer, Refused, get

ASK_SECONDS = 5.0
_UNAUTHORIZED = 401

View = tuple[str, ...]  # nodes that share the data, as one of them sees it; none: it keeps everything for itself


@dataclass(frozen=True, slots=True)
class Seen:
    """`views`: what each worker sees. `unknown`: pods that do not answer, or not yet."""

    views: dict[Peer, View] = field(default_factory=dict)
    unknown: tuple[Peer, ...] = ()

    @property
    def is_shared(self) -> bool:
        return any(self.views.values())

    @property
    def is_agreed(self) -> bool:
        """Whether all workers see each other and nobody else. A worker is a node, as the others on its node stand by."""
        return len(set(self.views.values())) == 1 and all(len(view) == len(self.views) for view in self.views.values())


class Workers:
    """`resolve`: where cache pods are now."""

    def __init__(self, resolve: Callable[[], Awaitable[list[Peer]]], token_file: str) -> None:
        self._resolve = resolve
        self._token_file = token_file
        self.reason = "there are none; see the Dataset's condition"

    async def look(self) -> Seen:
        pods = await self._resolve()
        views: dict[Peer, View] = {}
        unknown: list[Peer] = []
        for pod, status in zip(pods, await asyncio.gather(*(self._ask(pod) for pod in pods)), strict=True):
            if status is None:
                unknown.append(pod)
            elif status.get("tiers"):
                views[pod] = tuple(str(node) for node in status.get("peers", ()))
        return Seen(views, tuple(unknown))

    def token(self) -> str:
        """Return what shows that we may ask; the file is read each time, as kubelet may replace it."""
        try:
            with open(self._token_file, encoding="latin-1") as file:
                return file.read(4096).strip()
        except OSError as error:
            self.reason = f"the token {self._token_file} cannot be read: {error.strerror}"
            return ""

    async def _ask(self, pod: Peer) -> dict[str, Any] | None:
        """Return a pod's status, nothing in it if it stands by. None: it does not say."""
        try:
            status = json.loads(await get(pod, "/status", self.token(), ASK_SECONDS))
        except Refused as refused:
            self.reason = str(refused)
            if refused.status == _UNAUTHORIZED:
                return None
            with contextlib.suppress(CacheError):
                if (await get(pod, "/healthz", "", ASK_SECONDS)).strip() == "standby":
                    return {}
            return None
        except (CacheError, ValueError) as error:
            self.reason = str(error)
            return None
        return status if isinstance(status, dict) else {}
