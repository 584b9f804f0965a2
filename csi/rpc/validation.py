"""What both controllers check of a call, wherever volumes are kept. Stateless."""

from __future__ import annotations

from collections.abc import Mapping

from csi.errors import invalid
from csi.stubs import csi_pb2
from csi.volumes import capabilities, fields


def validate(
    request: csi_pb2.ValidateVolumeCapabilitiesRequest, volume_context: Mapping[str, str]
) -> csi_pb2.ValidateVolumeCapabilitiesResponse:
    """`volume_context`: that of the volume. Raises: INVALID_ARGUMENT."""
    if not request.volume_capabilities:
        raise invalid("volume_capabilities is missing")
    problems = [str(problem) for problem in map(capabilities.check, request.volume_capabilities) if problem is not None]
    if request.volume_context and dict(request.volume_context) != dict(volume_context):
        problems.append("the volume has another context")
    if problems:
        return csi_pb2.ValidateVolumeCapabilitiesResponse(message="; ".join(problems)[:1024])
    confirmed = csi_pb2.ValidateVolumeCapabilitiesResponse.Confirmed(
        volume_context=request.volume_context, volume_capabilities=request.volume_capabilities, parameters=request.parameters
    )
    return csi_pb2.ValidateVolumeCapabilitiesResponse(confirmed=confirmed)


def volume_and_node(request: csi_pb2.ControllerPublishVolumeRequest) -> tuple[str, str]:
    """Return what is to be published, and to which node. Raises: INVALID_ARGUMENT."""
    volume_id = fields.required(request.volume_id, "volume_id")
    node = fields.required(request.node_id, "node_id", 256)
    if not request.HasField("volume_capability"):
        raise invalid("volume_capability is missing")
    capabilities.require([request.volume_capability])
    return volume_id, node
