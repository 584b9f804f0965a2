"""JuiceFSRuntime: a cache as JuiceFS is configured."""

from __future__ import annotations

from csi.operator.model.foreign_image import InitUsers, VersionSpec
from csi.operator.model.kubernetes import VolumeClaim
from csi.operator.model.marks import Mark
from csi.operator.model.object import Object
from csi.operator.model.runtime_status import RuntimeStatus
from csi.operator.model.structure import field
from csi.operator.model.traits import (
    FUSE,
    WORKER,
    FusePart,
    Part,
    RuntimeSpec,
    WithDisablePrometheus,
    WithEnabled,
    WithEnvList,
    WithManagement,
    WithNetworkMode,
    WithOptions,
    WithPodMetadata,
    WithPortList,
    WithRunAs,
    WithVolumeMounts,
    WithVolumes,
)


class JuiceFSPart(Part, WithOptions, WithPortList, WithEnvList, WithEnabled, WithNetworkMode, WithVolumeMounts, WithPodMetadata):
    pass


class JuiceFSFuse(FusePart, VersionSpec, WithOptions, WithEnvList, WithNetworkMode, WithVolumeMounts, WithPodMetadata):
    pass


class JuiceFSRuntimeSpec(RuntimeSpec, WithRunAs, WithDisablePrometheus, WithVolumes, WithPodMetadata, WithManagement):
    worker: JuiceFSPart = field(Mark.HONOURED, WORKER, JuiceFSPart())
    fuse: JuiceFSFuse = field(Mark.HONOURED, FUSE, JuiceFSFuse())
    master: JuiceFSPart = field(Mark.IGNORED, "Of no use to JuiceFS either.", JuiceFSPart())
    job_worker: JuiceFSPart = field(Mark.IGNORED, "Of no use to JuiceFS either.", JuiceFSPart())
    configs: list[str] = field(
        Mark.IGNORED | Mark.REFUSABLE, "Flags for formatting a JuiceFS volume. Those that encrypt or compress are refused.", []
    )
    juicefs_version: VersionSpec = field(Mark.HONOURED, "Image of JuiceFS; ours are our own.", VersionSpec())
    init_users: InitUsers = field(Mark.IGNORED, "A container that creates users.", InitUsers())
    volume_claim_templates: list[VolumeClaim] = field(
        Mark.IGNORED, "Claims for the cache, one each for every pod that caches.", []
    )


class JuiceFSRuntime(Object):
    """A cache for the Dataset of the same name, as JuiceFS is configured."""

    spec: JuiceFSRuntimeSpec = field(Mark.HONOURED, "How the Dataset is cached.", JuiceFSRuntimeSpec())
    status: RuntimeStatus = field(Mark.HONOURED, "What became of it.", RuntimeStatus())
