"""Parts of ThinRuntime and ThinRuntimeProfile: containers of somebody else's file system."""

from __future__ import annotations

from csi.operator.model.foreign_image import VersionSpec
from csi.operator.model.kubernetes import Lifecycle, Probe
from csi.operator.model.marks import Mark
from csi.operator.model.structure import Structure, field
from csi.operator.model.traits import (
    FusePart,
    Part,
    WithEnabled,
    WithEnvList,
    WithNetworkMode,
    WithOptions,
    WithPodMetadata,
    WithPortList,
    WithPullSecrets,
    WithVolumeMounts,
)


class WithProbes(Structure):
    liveness_probe: Probe = field(Mark.IGNORED, "How Kubernetes sees that the file system's container lives.", {})
    readiness_probe: Probe = field(Mark.IGNORED, "How Kubernetes sees that the file system's container is ready.", {})


class ThinPart(
    Part, VersionSpec, WithPortList, WithEnvList, WithEnabled, WithNetworkMode, WithVolumeMounts, WithProbes, WithPullSecrets
):
    pass


class ThinFuse(
    FusePart,
    VersionSpec,
    WithOptions,
    WithPortList,
    WithEnvList,
    WithNetworkMode,
    WithVolumeMounts,
    WithProbes,
    WithPodMetadata,
    WithPullSecrets,
):
    command: list[str] = field(Mark.IGNORED, "Command of the file system's container.", [])
    args: list[str] = field(Mark.IGNORED, "Arguments of the file system's container.", [])
    lifecycle: Lifecycle = field(Mark.IGNORED, "Hooks of the file system's container.", {})
