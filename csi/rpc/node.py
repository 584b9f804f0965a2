"""The Node service: checks requests, and hands them to mounting/. State: which volumes are being worked on."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Mapping
from typing import Any

from csi.errors import invalid, not_found
from csi.mounting.inline_volumes import InlineVolumes
from csi.mounting.node_mounts import NodeMounts
from csi.mounting.serving import StageRequest
from csi.state.exclusive import Exclusive
from csi.stubs import csi_pb2, csi_pb2_grpc
from csi.volumes import capabilities, fields, inline, secrets
from fusecache.contract.errors import CacheError

log = logging.getLogger(__name__)

_Rpc = csi_pb2.NodeServiceCapability.RPC.Type
CLAIMED = (
    _Rpc.STAGE_UNSTAGE_VOLUME,
    _Rpc.GET_VOLUME_STATS,
    _Rpc.EXPAND_VOLUME,
    _Rpc.SINGLE_NODE_MULTI_WRITER,
    _Rpc.GET_VOLUME_HEALTH,
)
_Mode = csi_pb2.VolumeCapability.AccessMode.Mode
_Unit = csi_pb2.VolumeUsage.Unit
_INODES_SHOWN = 1 << 40  # of a store there are as many as anybody wants


class Node(csi_pb2_grpc.NodeServicer):
    def __init__(
        self, node_id: str, mounts: NodeMounts, inline_volumes: InlineVolumes, modified: Callable[[str], Mapping[str, str]]
    ) -> None:
        """`modified`: of a volume id, the settings that its VolumeAttributesClass has changed."""
        self._node_id = node_id
        self._modified = modified
        self._mounts = mounts
        self._inline = inline_volumes
        self._exclusive = Exclusive()

    async def NodeGetCapabilities(
        self, request: csi_pb2.NodeGetCapabilitiesRequest, context: object
    ) -> csi_pb2.NodeGetCapabilitiesResponse:
        claimed = [csi_pb2.NodeServiceCapability(rpc=csi_pb2.NodeServiceCapability.RPC(type=one)) for one in CLAIMED]
        return csi_pb2.NodeGetCapabilitiesResponse(capabilities=claimed)

    async def NodeGetInfo(self, request: csi_pb2.NodeGetInfoRequest, context: object) -> csi_pb2.NodeGetInfoResponse:
        return csi_pb2.NodeGetInfoResponse(node_id=self._node_id)

    async def NodeStageVolume(self, request: csi_pb2.NodeStageVolumeRequest, context: object) -> csi_pb2.NodeStageVolumeResponse:
        volume_id = fields.required(request.volume_id, "volume_id")
        staging = fields.required(request.staging_target_path, "staging_target_path", fields.MAX_PATH_BYTES)
        capability = _capability(request)
        wanted = StageRequest(
            fields.small_map(request.volume_context, "volume_context"),
            secrets=secrets.canonical(request.secrets),
            read_only=capabilities.is_reader(capability),
        )
        await self._mounts.wait_ready_to_stage(wanted)  # not in the call that goes on if it is cancelled

        async def stage() -> None:
            modified = self._modified(volume_id)
            await self._mounts.stage(volume_id, staging, dataclasses.replace(wanted, modified=modified))

        await self._exclusive.run(volume_id, "NodeStageVolume", stage)
        return csi_pb2.NodeStageVolumeResponse()

    async def NodeUnstageVolume(
        self, request: csi_pb2.NodeUnstageVolumeRequest, context: object
    ) -> csi_pb2.NodeUnstageVolumeResponse:
        volume_id = fields.required(request.volume_id, "volume_id")
        staging = fields.required(request.staging_target_path, "staging_target_path", fields.MAX_PATH_BYTES)
        await self._exclusive.run(volume_id, "NodeUnstageVolume", lambda: self._mounts.unstage(volume_id, staging))
        return csi_pb2.NodeUnstageVolumeResponse()

    async def NodePublishVolume(
        self, request: csi_pb2.NodePublishVolumeRequest, context: object
    ) -> csi_pb2.NodePublishVolumeResponse:
        volume_id = fields.required(request.volume_id, "volume_id")
        target = fields.required(request.target_path, "target_path", fields.MAX_PATH_BYTES)
        if inline.is_inline(request.volume_context):
            return await self._publish_inline(request, volume_id, target)
        fields.required(request.staging_target_path, "staging_target_path", fields.MAX_PATH_BYTES)
        capability = _capability(request)
        mode = capability.access_mode.mode
        flags = {flag for text in capability.mount.mount_flags for flag in text.split(",")}
        read_only = request.readonly or capabilities.is_reader(capability) or "ro" in flags
        await self._mounts.wait_ready_to_publish(volume_id)

        async def publish() -> None:
            is_single = mode == _Mode.SINGLE_NODE_SINGLE_WRITER
            await self._mounts.publish(volume_id, target, mode, read_only=read_only, is_single=is_single)

        await self._exclusive.run(volume_id, "NodePublishVolume", publish)
        return csi_pb2.NodePublishVolumeResponse()

    async def _publish_inline(
        self, request: csi_pb2.NodePublishVolumeRequest, volume_id: str, target: str
    ) -> csi_pb2.NodePublishVolumeResponse:
        _capability(request)
        volume = inline.parse(fields.small_map(request.volume_context, "volume_context"))

        async def publish() -> None:
            is_new = False

            def bind() -> None:
                nonlocal is_new
                was_there = target in self._inline
                self._inline.publish(volume_id, volume, target, read_only=request.readonly)
                is_new = not was_there

            try:
                await self._mounts.hold(volume, target, bind)
            except BaseException:
                if is_new:
                    self._inline.unpublish(target)
                raise

        await self._exclusive.run(volume_id, "NodePublishVolume", publish)
        return csi_pb2.NodePublishVolumeResponse()

    async def _unpublish_inline(self, target: str) -> None:
        if target in self._inline:
            self._inline.unpublish(target)
        await self._mounts.release(target)

    async def NodeUnpublishVolume(
        self, request: csi_pb2.NodeUnpublishVolumeRequest, context: object
    ) -> csi_pb2.NodeUnpublishVolumeResponse:
        volume_id = fields.required(request.volume_id, "volume_id")
        target = fields.required(request.target_path, "target_path", fields.MAX_PATH_BYTES)
        was_interrupted = target not in self._inline and self._mounts.is_held_at(target)
        if self._inline.is_at(volume_id, target) or was_interrupted:
            await self._exclusive.run(volume_id, "NodeUnpublishVolume", lambda: self._unpublish_inline(target))
        else:
            await self._exclusive.run(volume_id, "NodeUnpublishVolume", lambda: self._mounts.unpublish(volume_id, target))
        return csi_pb2.NodeUnpublishVolumeResponse()

    async def NodeGetVolumeStats(
        self, request: csi_pb2.NodeGetVolumeStatsRequest, context: object
    ) -> csi_pb2.NodeGetVolumeStatsResponse:
        """From what the daemon knows, never from the mount: that could hang."""
        if self._inline.is_at(request.volume_id, request.volume_path):
            return _usage_of(self._inline.usage_at(request.volume_path))
        usage_ = await self._usage(request.volume_id, request.volume_path)
        used, files = int(usage_.get("total_bytes", 0)), int(usage_.get("files", 0))
        total = max(fields.DEFAULT_CAPACITY_BYTES, used)
        usage = [
            csi_pb2.VolumeUsage(unit=_Unit.BYTES, total=total, used=used, available=total - used),
            csi_pb2.VolumeUsage(unit=_Unit.INODES, total=_INODES_SHOWN, used=files, available=_INODES_SHOWN - files),
        ]
        return csi_pb2.NodeGetVolumeStatsResponse(usage=usage)

    async def NodeGetVolumeHealth(
        self, request: csi_pb2.NodeGetVolumeHealthRequest, context: object
    ) -> csi_pb2.NodeGetVolumeHealthResponse:
        volume_id = fields.required(request.volume_id, "volume_id")
        entries = []
        try:
            status = await self._mounts.status_of(volume_id)
            if status.get("state") == "degraded":
                entries.append(_problem("DEGRADED", "StoreOrTierFails", str(status.get("last_error", ""))))
        except CacheError as error:
            entries.append(_problem("INACCESSIBLE", "DaemonDoesNotAnswer", str(error)))
        return csi_pb2.NodeGetVolumeHealthResponse(
            volume_health=csi_pb2.VolumeHealth(volume_id=volume_id, health_statuses=entries)
        )

    async def NodeExpandVolume(
        self, request: csi_pb2.NodeExpandVolumeRequest, context: object
    ) -> csi_pb2.NodeExpandVolumeResponse:
        """Directories grow by themselves: nothing is to be done on a node."""
        volume_id = fields.required(request.volume_id, "volume_id")
        path = fields.required(request.volume_path, "volume_path", fields.MAX_PATH_BYTES)
        if request.HasField("volume_capability"):
            capabilities.require([request.volume_capability])
        if not self._mounts.has_path(volume_id, path):
            raise not_found(f"volume {volume_id} is not at {path}")
        return csi_pb2.NodeExpandVolumeResponse(capacity_bytes=fields.capacity(request.capacity_range))

    async def _usage(self, volume_id: str, path: str) -> Mapping[str, Any]:
        fields.required(volume_id, "volume_id")
        fields.required(path, "volume_path", fields.MAX_PATH_BYTES)
        if not self._mounts.has_path(volume_id, path):
            raise not_found(f"volume {volume_id} is not at {path}")
        return await self._mounts.usage_of(volume_id)


def _capability(request: csi_pb2.NodeStageVolumeRequest | csi_pb2.NodePublishVolumeRequest) -> csi_pb2.VolumeCapability:
    if not request.HasField("volume_capability"):
        raise invalid("volume_capability is missing")
    capabilities.require([request.volume_capability])
    return request.volume_capability


def _usage_of(found: os.statvfs_result) -> csi_pb2.NodeGetVolumeStatsResponse:
    size, free = found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize
    usage = [
        csi_pb2.VolumeUsage(unit=_Unit.BYTES, total=size, used=size - free, available=free),
        csi_pb2.VolumeUsage(unit=_Unit.INODES, total=found.f_files, used=found.f_files - found.f_ffree, available=found.f_favail),
    ]
    return csi_pb2.NodeGetVolumeStatsResponse(usage=usage)


def _problem(status: str, reason: str, message: str) -> csi_pb2.VolumeHealth.VolumeHealthEntry:
    value = csi_pb2.VolumeHealthErrorType.Value(status)
    return csi_pb2.VolumeHealth.VolumeHealthEntry(status=value, reason=reason, message=message[:1024])
