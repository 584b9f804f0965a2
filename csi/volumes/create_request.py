"""What a CreateVolume call asks for, wherever volumes are kept: checked, with parameters and secrets told apart. Stateless."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass

from csi.errors import invalid
from csi.stubs import csi_pb2
from csi.volumes import capabilities, fields, parameters, secrets


@dataclass(frozen=True, slots=True)
class CreateRequest:
    """Attributes:
    given: parameters, those of Kubernetes and of a VolumeAttributesClass included.
    parsed: the same, with the directory that the volume gets.
    secrets: by the names that sources use.
    modes: access modes.
    """

    name: str
    capacity_bytes: int
    given: Mapping[str, str]
    parsed: parameters.Parameters
    secrets: Mapping[str, str]
    modes: frozenset[int]


def read(request: csi_pb2.CreateVolumeRequest) -> CreateRequest:
    """Raises: INVALID_ARGUMENT, OUT_OF_RANGE."""
    name = fields.required(request.name, "name")
    capabilities.require(request.volume_capabilities)
    if request.HasField("volume_content_source"):
        raise invalid("volumes cannot be made from snapshots or other volumes: leave the dataSource out")
    capacity = fields.capacity(request.capacity_range)
    given = fields.small_map(request.parameters, "parameters")
    given |= parameters.check_mutable(fields.small_map(request.mutable_parameters, "mutable_parameters"))
    parsed = parameters.parse(given)
    if parsed.directory:
        raise invalid("parameter directory is chosen by the driver: leave it out")
    parsed = dataclasses.replace(parsed, directory=parameters.directory_for(name, given))
    modes = frozenset(one.access_mode.mode for one in request.volume_capabilities)
    return CreateRequest(name, capacity, given, parsed, secrets.canonical(request.secrets), modes)
