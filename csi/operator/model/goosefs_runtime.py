"""GooseFSRuntime: a cache as GooseFS is configured, which is nearly as Alluxio is."""

from __future__ import annotations

from csi.operator.model.foreign_image import InitUsers, VersionSpec
from csi.operator.model.marks import Mark
from csi.operator.model.object import Object
from csi.operator.model.runtime_status import RuntimeStatus
from csi.operator.model.structure import field
from csi.operator.model.traits import (
    FUSE,
    MASTER,
    MASTER_MARKS,
    WORKER,
    FusePart,
    Part,
    RuntimeSpec,
    WithAnnotations,
    WithArgs,
    WithCleanCachePolicy,
    WithData,
    WithDisablePrometheus,
    WithEnabled,
    WithEnvMap,
    WithHadoopConfig,
    WithJvmOptions,
    WithPortMap,
    WithProperties,
    WithRunAs,
)


class GooseFSPart(Part, WithProperties, WithJvmOptions, WithPortMap, WithEnvMap, WithEnabled, WithAnnotations):
    pass


class GooseFSFuse(FusePart, VersionSpec, WithProperties, WithArgs, WithJvmOptions, WithEnvMap, WithAnnotations):
    pass


class GooseFSRuntimeSpec(
    RuntimeSpec,
    WithData,
    WithProperties,
    WithRunAs,
    WithJvmOptions,
    WithDisablePrometheus,
    WithHadoopConfig,
    WithCleanCachePolicy,
):
    master: GooseFSPart = field(Mark.IGNORED, MASTER, GooseFSPart(), below=MASTER_MARKS)
    worker: GooseFSPart = field(Mark.HONOURED, WORKER, GooseFSPart())
    fuse: GooseFSFuse = field(Mark.HONOURED, FUSE, GooseFSFuse())
    job_master: GooseFSPart = field(Mark.IGNORED, "Master of GooseFS' job service.", GooseFSPart())
    job_worker: GooseFSPart = field(Mark.IGNORED, "Worker of GooseFS' job service.", GooseFSPart())
    api_gateway: GooseFSPart = field(Mark.IGNORED, "GooseFS' REST gateway.", GooseFSPart())
    goosefs_version: VersionSpec = field(Mark.HONOURED, "Image of GooseFS; ours are our own.", VersionSpec())
    init_users: InitUsers = field(Mark.IGNORED, "A container that creates users.", InitUsers())


class GooseFSRuntime(Object):
    """A cache for the Dataset of the same name, as GooseFS is configured."""

    spec: GooseFSRuntimeSpec = field(Mark.HONOURED, "How the Dataset is cached.", GooseFSRuntimeSpec())
    status: RuntimeStatus = field(Mark.HONOURED, "What became of it.", RuntimeStatus())
