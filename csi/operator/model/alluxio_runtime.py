"""AlluxioRuntime: a cache as Alluxio is configured."""

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
    WithArgs,
    WithData,
    WithDisablePrometheus,
    WithEnabled,
    WithEnvMap,
    WithHadoopConfig,
    WithJvmOptions,
    WithManagement,
    WithNetworkMode,
    WithPodMetadata,
    WithPortMap,
    WithProperties,
    WithPullSecrets,
    WithRunAs,
    WithVolumeMounts,
    WithVolumes,
)


class AlluxioPart(
    Part,
    WithProperties,
    WithJvmOptions,
    WithPortMap,
    WithEnvMap,
    WithEnabled,
    WithNetworkMode,
    WithVolumeMounts,
    WithPodMetadata,
    WithPullSecrets,
):
    pass


class AlluxioFuse(
    FusePart,
    VersionSpec,
    WithProperties,
    WithArgs,
    WithJvmOptions,
    WithEnvMap,
    WithNetworkMode,
    WithVolumeMounts,
    WithPodMetadata,
    WithPullSecrets,
):
    pass


class AlluxioRuntimeSpec(
    RuntimeSpec,
    WithData,
    WithProperties,
    WithRunAs,
    WithJvmOptions,
    WithDisablePrometheus,
    WithHadoopConfig,
    WithVolumes,
    WithPodMetadata,
    WithManagement,
    WithPullSecrets,
):
    master: AlluxioPart = field(Mark.IGNORED, MASTER, AlluxioPart(), below=MASTER_MARKS)
    worker: AlluxioPart = field(Mark.HONOURED, WORKER, AlluxioPart())
    fuse: AlluxioFuse = field(Mark.HONOURED, FUSE, AlluxioFuse())
    job_master: AlluxioPart = field(Mark.IGNORED, "Master of Alluxio's job service.", AlluxioPart())
    job_worker: AlluxioPart = field(Mark.IGNORED, "Worker of Alluxio's job service.", AlluxioPart())
    api_gateway: AlluxioPart = field(Mark.IGNORED, "Alluxio's REST gateway.", AlluxioPart())
    alluxio_version: VersionSpec = field(Mark.HONOURED, "Image of Alluxio; ours are our own.", VersionSpec())
    init_users: InitUsers = field(Mark.IGNORED, "A container that creates users.", InitUsers())


class AlluxioRuntime(Object):
    """A cache for the Dataset of the same name, as Alluxio is configured."""

    spec: AlluxioRuntimeSpec = field(Mark.HONOURED, "How the Dataset is cached.", AlluxioRuntimeSpec())
    status: RuntimeStatus = field(Mark.HONOURED, "What became of it.", RuntimeStatus())
