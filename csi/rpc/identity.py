"""The Identity service. No state but what it is told."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from google.protobuf.wrappers_pb2 import BoolValue

from csi import DRIVER_NAME, VERSION
from csi.stubs import csi_pb2, csi_pb2_grpc

_Service = csi_pb2.PluginCapability.Service.Type
_Expansion = csi_pb2.PluginCapability.VolumeExpansion.Type


class Identity(csi_pb2_grpc.IdentityServicer):
    def __init__(self, is_ready: Callable[[], Awaitable[bool]], *, has_controller: bool, can_expand: bool = True) -> None:
        self._is_ready = is_ready
        self._has_controller = has_controller
        self._can_expand = can_expand

    async def GetPluginInfo(self, request: csi_pb2.GetPluginInfoRequest, context: object) -> csi_pb2.GetPluginInfoResponse:
        return csi_pb2.GetPluginInfoResponse(name=DRIVER_NAME, vendor_version=VERSION)

    async def GetPluginCapabilities(
        self, request: csi_pb2.GetPluginCapabilitiesRequest, context: object
    ) -> csi_pb2.GetPluginCapabilitiesResponse:
        capabilities = []
        if self._has_controller:
            capabilities.append(
                csi_pb2.PluginCapability(service=csi_pb2.PluginCapability.Service(type=_Service.CONTROLLER_SERVICE))
            )
        if self._can_expand:
            expansion = csi_pb2.PluginCapability.VolumeExpansion(type=_Expansion.ONLINE)
            capabilities.append(csi_pb2.PluginCapability(volume_expansion=expansion))
        return csi_pb2.GetPluginCapabilitiesResponse(capabilities=capabilities)

    async def Probe(self, request: csi_pb2.ProbeRequest, context: object) -> csi_pb2.ProbeResponse:
        return csi_pb2.ProbeResponse(ready=BoolValue(value=await self._is_ready()))
