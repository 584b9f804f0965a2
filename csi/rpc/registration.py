"""Registers the driver with kubelet, by itself: kubelet looks into its plugins_registry directory, finds our socket, and asks.

State: the server. A kubelet that is started again finds the socket again; one that empties the directory finds a new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import grpc.aio

from csi import DRIVER_NAME
from csi.rpc.sockets import remove_socket
from csi.stubs import pluginregistration_pb2, pluginregistration_pb2_grpc

log = logging.getLogger(__name__)

CSI_VERSIONS = ("1.0.0",)  # what kubelet compares: the major version of the specification
STOP_SECONDS = 1.0
LOOK_SECONDS = 1.0


class Registration(pluginregistration_pb2_grpc.RegistrationServicer):
    """`endpoint`: path of the driver's socket as kubelet sees it."""

    def __init__(self, directory: Path, endpoint: str) -> None:
        self._path = str(directory / f"{DRIVER_NAME}-reg.sock")
        self._endpoint = endpoint
        self._server: grpc.aio.Server | None = None
        self.is_registered = False

    async def start(self) -> None:
        """Raises: OSError."""
        remove_socket(self._path)
        self._server = grpc.aio.server()
        pluginregistration_pb2_grpc.add_RegistrationServicer_to_server(self, self._server)
        self._server.add_insecure_port(f"unix://{self._path}")
        await self._server.start()
        os.chmod(self._path, 0o600)

    async def watch(self) -> None:
        """Make the socket anew whenever somebody has removed it."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            if await asyncio.to_thread(os.path.exists, self._path):
                continue
            log.warning("%s is gone, and made anew", self._path)
            try:
                await self.stop()
                await self.start()
            except (OSError, RuntimeError) as error:  # gRPC: the directory is gone, too
                log.error("%s cannot be made: %s", self._path, error)

    async def stop(self) -> None:
        if self._server is not None:
            await self._server.stop(STOP_SECONDS)
        remove_socket(self._path)

    async def GetInfo(self, request: pluginregistration_pb2.InfoRequest, context: object) -> pluginregistration_pb2.PluginInfo:
        return pluginregistration_pb2.PluginInfo(
            type="CSIPlugin", name=DRIVER_NAME, endpoint=self._endpoint, supported_versions=CSI_VERSIONS
        )

    async def NotifyRegistrationStatus(
        self, request: pluginregistration_pb2.RegistrationStatus, context: object
    ) -> pluginregistration_pb2.RegistrationStatusResponse:
        self.is_registered = request.plugin_registered
        if request.plugin_registered:
            log.info("kubelet has registered the driver")
        else:
            log.error("kubelet did not register the driver: %s", request.error)
        return pluginregistration_pb2.RegistrationStatusResponse()
