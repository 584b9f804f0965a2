"""gRPC's health service (grpc.health.v1) beside the CSI services: what kubelet and mesh proxies ask without knowing CSI.

State: what was found out last; it is found out anew every `LOOK_SECONDS`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

LOOK_SECONDS = 2.0
_Status = health_pb2.HealthCheckResponse.ServingStatus


class Health:
    """Use `add_to`, then run `watch`. `is_ready`: what Probe answers, too."""

    def __init__(self, is_ready: Callable[[], Awaitable[bool]]) -> None:
        self._is_ready = is_ready
        self._servicer = health.aio.HealthServicer()

    def add_to(self, server: grpc.aio.Server) -> None:
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, server)

    async def watch(self) -> None:
        """Look for ever; who watches is told of a change."""
        while True:
            status = _Status.SERVING if await self._is_ready() else _Status.NOT_SERVING
            await self._servicer.set("", status)
            await asyncio.sleep(LOOK_SECONDS)
