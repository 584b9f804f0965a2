"""The Controller service in a cluster: calls of csi-provisioner and csi-attacher are checked here, and carried out in cluster/.

State: which volumes are being worked on. Only what a cluster has no better place for is claimed: PVs are the list of volumes,
VolumeAttachments say where they are.
"""

from __future__ import annotations

from csi.cluster.volumes import ClusterVolumes, attributes
from csi.rpc.validation import validate, volume_and_node
from csi.state.exclusive import Exclusive
from csi.stubs import csi_pb2, csi_pb2_grpc
from csi.volumes import create_request, fields, secrets

_Rpc = csi_pb2.ControllerServiceCapability.RPC.Type
CLAIMED = (_Rpc.CREATE_DELETE_VOLUME, _Rpc.PUBLISH_UNPUBLISH_VOLUME, _Rpc.SINGLE_NODE_MULTI_WRITER)


class ClusterController(csi_pb2_grpc.ControllerServicer):
    def __init__(self, volumes: ClusterVolumes) -> None:
        self._volumes = volumes
        self._exclusive = Exclusive()

    async def ControllerGetCapabilities(
        self, request: csi_pb2.ControllerGetCapabilitiesRequest, context: object
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        claimed = [csi_pb2.ControllerServiceCapability(rpc=csi_pb2.ControllerServiceCapability.RPC(type=one)) for one in CLAIMED]
        return csi_pb2.ControllerGetCapabilitiesResponse(capabilities=claimed)

    async def CreateVolume(self, request: csi_pb2.CreateVolumeRequest, context: object) -> csi_pb2.CreateVolumeResponse:
        asked = create_request.read(request)
        volume_context = await self._exclusive.run(asked.name, "CreateVolume", lambda: self._volumes.create(asked))
        volume = csi_pb2.Volume(volume_id=asked.name, capacity_bytes=asked.capacity_bytes, volume_context=volume_context)
        return csi_pb2.CreateVolumeResponse(volume=volume)

    async def DeleteVolume(self, request: csi_pb2.DeleteVolumeRequest, context: object) -> csi_pb2.DeleteVolumeResponse:
        volume_id = fields.required(request.volume_id, "volume_id")
        given = secrets.canonical(request.secrets)
        await self._exclusive.run(volume_id, "DeleteVolume", lambda: self._volumes.delete(volume_id, given))
        return csi_pb2.DeleteVolumeResponse()

    async def ControllerPublishVolume(
        self, request: csi_pb2.ControllerPublishVolumeRequest, context: object
    ) -> csi_pb2.ControllerPublishVolumeResponse:
        """Returns at once: NodeStage waits for the cache pod."""
        volume_id, node = volume_and_node(request)
        await self._volumes.publish(volume_id, node)
        return csi_pb2.ControllerPublishVolumeResponse()

    async def ControllerUnpublishVolume(
        self, request: csi_pb2.ControllerUnpublishVolumeRequest, context: object
    ) -> csi_pb2.ControllerUnpublishVolumeResponse:
        """The operator sees the VolumeAttachment go, and knows whether the node is to keep its cache."""
        fields.required(request.volume_id, "volume_id")
        return csi_pb2.ControllerUnpublishVolumeResponse()

    async def ValidateVolumeCapabilities(
        self, request: csi_pb2.ValidateVolumeCapabilitiesRequest, context: object
    ) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        volume = await self._volumes.get(fields.required(request.volume_id, "volume_id"))
        return validate(request, attributes(volume))
