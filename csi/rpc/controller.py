"""The Controller service over records of volumes in the state directory: what works without a cluster.

State: the records, and which volumes are being worked on. A volume's record is there before its directory in the source, and
after it: a call that died in the middle is finished by the same call.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping

import grpc

from csi.errors import RpcError, exists, invalid, not_found, refused
from csi.rpc.validation import validate, volume_and_node
from csi.state.exclusive import Exclusive
from csi.stubs import csi_pb2, csi_pb2_grpc
from csi.volumes import capabilities, create_request, fields, parameters, secrets
from csi.volumes.provisioning import Provisioning
from csi.volumes.records import Volume, VolumeRecords, volume_id_of
from fusecache.contract.errors import CacheError

_Rpc = csi_pb2.ControllerServiceCapability.RPC.Type
CLAIMED = (
    _Rpc.CREATE_DELETE_VOLUME,
    _Rpc.PUBLISH_UNPUBLISH_VOLUME,
    _Rpc.LIST_VOLUMES,
    _Rpc.LIST_VOLUMES_PUBLISHED_NODES,
    _Rpc.GET_CAPACITY,
    _Rpc.EXPAND_VOLUME,
    _Rpc.GET_VOLUME,
    _Rpc.SINGLE_NODE_MULTI_WRITER,
    _Rpc.MODIFY_VOLUME,
    _Rpc.GET_VOLUME_HEALTH,
)
_TOKEN = re.compile(r"after-(\d{1,15})")


class Controller(csi_pb2_grpc.ControllerServicer):
    """`nodes`: the names of all nodes that a volume can be published to. `may_modify`: a node gets to know what was modified."""

    def __init__(
        self, records: VolumeRecords, provisioning: Provisioning, nodes: frozenset[str], *, may_modify: bool = True
    ) -> None:
        self._may_modify = may_modify
        self._records = records
        self._provisioning = provisioning
        self._nodes = nodes
        self._exclusive = Exclusive()

    async def ControllerGetCapabilities(
        self, request: csi_pb2.ControllerGetCapabilitiesRequest, context: object
    ) -> csi_pb2.ControllerGetCapabilitiesResponse:
        claimed = [
            csi_pb2.ControllerServiceCapability(rpc=csi_pb2.ControllerServiceCapability.RPC(type=one)) for one in self._claimed()
        ]
        return csi_pb2.ControllerGetCapabilitiesResponse(capabilities=claimed)

    def _claimed(self) -> tuple[_Rpc, ...]:
        return CLAIMED if self._may_modify else tuple(one for one in CLAIMED if one != _Rpc.MODIFY_VOLUME)

    # -- making and removing

    async def CreateVolume(self, request: csi_pb2.CreateVolumeRequest, context: object) -> csi_pb2.CreateVolumeResponse:
        asked = create_request.read(request)
        name, given = asked.name, dict(asked.given)
        volume_id = volume_id_of(name)

        async def make() -> Volume:
            volume = self._records.get(volume_id)
            if volume is None:
                context_ = fields.small_map(asked.parsed.to_context(), "the context of the volume")
                volume = Volume(volume_id, name, self._records.next_number(), asked.capacity_bytes, given, context_)
            elif not fields.fits(request.capacity_range, volume.capacity_bytes) or dict(volume.parameters) != given:
                raise exists(f"volume {name!r} is there with another capacity, or other parameters")
            return volume if volume.is_made else await self._make(self._records.put(volume), asked.secrets)

        return csi_pb2.CreateVolumeResponse(volume=_shown(await self._exclusive.run(volume_id, "CreateVolume", make)))

    async def _make(self, volume: Volume, secret_options: Mapping[str, str]) -> Volume:
        parsed = parameters.parse(volume.context)
        owner = {"volume": volume.id, "name": volume.name}
        try:
            await self._provisioning.make(parsed.source, {**parsed.options, **secret_options}, parsed.directory, owner)
        except CacheError as error:
            if not error.is_retryable:  # else something may have been made: the record says where
                self._records.remove(volume.id)
            raise
        return self._records.put(dataclasses.replace(volume, is_made=True))

    async def DeleteVolume(self, request: csi_pb2.DeleteVolumeRequest, context: object) -> csi_pb2.DeleteVolumeResponse:
        volume_id = fields.required(request.volume_id, "volume_id")
        options = secrets.canonical(request.secrets)

        async def remove() -> None:
            volume = self._records.get(volume_id)
            if volume is None:
                return
            if volume.published:
                raise refused(f"volume {volume_id} is still published to {', '.join(sorted(volume.published)[:3])}")
            parsed = parameters.parse(volume.context)
            await self._provisioning.remove(parsed.source, {**parsed.options, **options}, parsed.directory, volume_id)
            self._records.remove(volume_id)

        await self._exclusive.run(volume_id, "DeleteVolume", remove)
        return csi_pb2.DeleteVolumeResponse()

    # -- nodes

    async def ControllerPublishVolume(
        self, request: csi_pb2.ControllerPublishVolumeRequest, context: object
    ) -> csi_pb2.ControllerPublishVolumeResponse:
        volume_id, node = volume_and_node(request)
        if node not in self._nodes:
            self._get(volume_id)
            raise not_found(f"there is no node {node!r}")

        async def publish() -> None:
            volume = self._get(volume_id)
            if node in volume.published:
                if volume.published[node] != request.readonly:
                    raise exists(f"volume {volume_id} is published to {node} with another readonly")
                return
            if request.volume_capability.access_mode.mode in capabilities.SINGLE_NODE_MODES and volume.published:
                raise refused(f"volume {volume_id} is published to {next(iter(volume.published))}, and its mode allows one node")
            self._records.put(dataclasses.replace(volume, published={**volume.published, node: request.readonly}))

        await self._exclusive.run(volume_id, "ControllerPublishVolume", publish)
        return csi_pb2.ControllerPublishVolumeResponse()

    async def ControllerUnpublishVolume(
        self, request: csi_pb2.ControllerUnpublishVolumeRequest, context: object
    ) -> csi_pb2.ControllerUnpublishVolumeResponse:
        volume_id = fields.required(request.volume_id, "volume_id")
        node = request.node_id

        async def unpublish() -> None:
            volume = self._records.get(volume_id)
            if volume is not None:
                left = {name: one for name, one in volume.published.items() if node and name != node}
                self._records.put(dataclasses.replace(volume, published=left))

        await self._exclusive.run(volume_id, "ControllerUnpublishVolume", unpublish)
        return csi_pb2.ControllerUnpublishVolumeResponse()

    # -- looking

    async def ValidateVolumeCapabilities(
        self, request: csi_pb2.ValidateVolumeCapabilitiesRequest, context: object
    ) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
        volume = self._get(fields.required(request.volume_id, "volume_id"))
        return validate(request, volume.context)

    async def ListVolumes(self, request: csi_pb2.ListVolumesRequest, context: object) -> csi_pb2.ListVolumesResponse:
        """Pages follow the order of making, so that what comes about between two pages is on a later one."""
        if request.max_entries < 0:
            raise invalid("max_entries is negative")
        after = 0
        if request.starting_token:
            match = _TOKEN.fullmatch(request.starting_token)
            if match is None:
                raise RpcError(grpc.StatusCode.ABORTED, "starting_token was not given out by this driver: begin without one")
            after = int(match[1])
        found = [volume for volume in self._records if volume.number > after and volume.is_made]
        page = found[: request.max_entries] if request.max_entries else found
        entries = [
            csi_pb2.ListVolumesResponse.Entry(
                volume=_shown(volume),
                status=csi_pb2.ListVolumesResponse.VolumeStatus(published_node_ids=sorted(volume.published)),
            )
            for volume in page
        ]
        token = f"after-{page[-1].number}" if len(page) < len(found) else ""
        return csi_pb2.ListVolumesResponse(entries=entries, next_token=token)

    async def ControllerGetVolume(
        self, request: csi_pb2.ControllerGetVolumeRequest, context: object
    ) -> csi_pb2.ControllerGetVolumeResponse:
        volume = self._get(fields.required(request.volume_id, "volume_id"))
        status = csi_pb2.ControllerGetVolumeResponse.VolumeStatus(published_node_ids=sorted(volume.published))
        return csi_pb2.ControllerGetVolumeResponse(volume=_shown(volume), status=status)

    async def ControllerGetVolumeHealth(
        self, request: csi_pb2.ControllerGetVolumeHealthRequest, context: object
    ) -> csi_pb2.ControllerGetVolumeHealthResponse:
        volume = self._get(fields.required(request.volume_id, "volume_id"))
        return csi_pb2.ControllerGetVolumeHealthResponse(volume_health=csi_pb2.VolumeHealth(volume_id=volume.id))

    async def GetCapacity(self, request: csi_pb2.GetCapacityRequest, context: object) -> csi_pb2.GetCapacityResponse:
        """Stores of objects have no bound of their own."""
        if any(capabilities.check(one) is not None for one in request.volume_capabilities):
            return csi_pb2.GetCapacityResponse(available_capacity=0)
        return csi_pb2.GetCapacityResponse(available_capacity=fields.MAX_CAPACITY_BYTES)

    # -- changing

    async def ControllerExpandVolume(
        self, request: csi_pb2.ControllerExpandVolumeRequest, context: object
    ) -> csi_pb2.ControllerExpandVolumeResponse:
        volume_id = fields.required(request.volume_id, "volume_id")
        if not request.HasField("capacity_range"):
            raise invalid("capacity_range is missing")
        self._get(volume_id)

        async def expand() -> int:
            volume = self._get(volume_id)
            capacity = fields.capacity(request.capacity_range, volume.capacity_bytes)
            self._records.put(dataclasses.replace(volume, capacity_bytes=capacity))
            return capacity

        capacity = await self._exclusive.run(volume_id, "ControllerExpandVolume", expand)
        return csi_pb2.ControllerExpandVolumeResponse(capacity_bytes=capacity, node_expansion_required=False)

    async def ControllerModifyVolume(
        self, request: csi_pb2.ControllerModifyVolumeRequest, context: object
    ) -> csi_pb2.ControllerModifyVolumeResponse:
        if not self._may_modify:
            raise NotImplementedError
        volume_id = fields.required(request.volume_id, "volume_id")
        changed = parameters.check_mutable(fields.small_map(request.mutable_parameters, "mutable_parameters"))

        async def modify() -> None:
            volume = self._get(volume_id)
            self._records.put(dataclasses.replace(volume, context={**volume.context, **changed}))

        await self._exclusive.run(volume_id, "ControllerModifyVolume", modify)
        return csi_pb2.ControllerModifyVolumeResponse()

    def modified(self, volume_id: str) -> dict[str, str]:
        """Return what ControllerModifyVolume may have changed: callers go on telling nodes what the volume was made with."""
        volume = self._records.get(volume_id)
        return {} if volume is None else {key: value for key, value in volume.context.items() if key in parameters.MUTABLE}

    def _get(self, volume_id: str) -> Volume:
        volume = self._records.get(volume_id)
        if volume is None:
            raise not_found(f"there is no volume {volume_id!r}")
        return volume


def _shown(volume: Volume) -> csi_pb2.Volume:
    return csi_pb2.Volume(volume_id=volume.id, capacity_bytes=volume.capacity_bytes, volume_context=dict(volume.context))
