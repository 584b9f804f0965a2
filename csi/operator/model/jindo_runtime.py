"""JindoRuntime: a cache as JindoCache is configured."""

from __future__ import annotations

from csi.operator.model.client_metrics import ClientMetrics
from csi.operator.model.foreign_image import VersionSpec
from csi.operator.model.marks import WITHOUT_HDFS, Mark
from csi.operator.model.object import Object
from csi.operator.model.runtime_status import RuntimeStatus
from csi.operator.model.scalars import NetworkMode, StringMap
from csi.operator.model.structure import Structure, field
from csi.operator.model.traits import (
    FUSE,
    MASTER,
    MASTER_MARKS,
    WORKER,
    FusePart,
    Part,
    RuntimeSpec,
    WithArgs,
    WithCleanCachePolicy,
    WithDeprecatedLabels,
    WithDisabled,
    WithEnvMap,
    WithHadoopConfig,
    WithPodMetadata,
    WithPortMap,
    WithProperties,
    WithPullSecrets,
    WithRunAs,
    WithTolerations,
    WithVolumeMounts,
    WithVolumes,
)


class WithLogConfig(Structure):
    log_config: StringMap = field(Mark.IGNORED, "Levels of Jindo's log.", {})


class JindoPart(
    Part,
    WithProperties,
    WithPortMap,
    WithEnvMap,
    WithTolerations,
    WithDeprecatedLabels,
    WithPodMetadata,
    WithDisabled,
    WithVolumeMounts,
    WithPullSecrets,
):
    pass


class JindoFuse(
    FusePart,
    VersionSpec,
    WithProperties,
    WithArgs,
    WithEnvMap,
    WithTolerations,
    WithDeprecatedLabels,
    WithPodMetadata,
    WithDisabled,
    WithLogConfig,
    WithPullSecrets,
):
    metrics: ClientMetrics = field(Mark.HONOURED, "Who scrapes the metrics of mounts.", ClientMetrics())


class JindoRuntimeSpec(
    RuntimeSpec,
    WithProperties,
    WithRunAs,
    WithHadoopConfig,
    WithVolumes,
    WithDeprecatedLabels,
    WithPodMetadata,
    WithPullSecrets,
    WithLogConfig,
    WithCleanCachePolicy,
):
    master: JindoPart = field(Mark.IGNORED, MASTER, JindoPart(), below=MASTER_MARKS)
    worker: JindoPart = field(Mark.HONOURED, WORKER, JindoPart())
    fuse: JindoFuse = field(Mark.HONOURED, FUSE, JindoFuse())
    network_mode: NetworkMode = field(
        Mark.HONOURED, "Network of all pods.", "", alias="networkmode", default_text="ContainerNetwork"
    )
    jindo_version: VersionSpec = field(Mark.HONOURED, "Image of Jindo; ours are our own.", VersionSpec())
    user: str = field(Mark.HONOURED, "User in Hadoop.", "", ignored_when=WITHOUT_HDFS)
    secret: str = field(
        Mark.HONOURED,
        "Secret with AccessKeyId, AccessKeySecret and SecurityToken, for oss:// mounts without credentials of their own.",
        "",
    )


class JindoRuntime(Object):
    """A cache for the Dataset of the same name, as JindoCache is configured."""

    spec: JindoRuntimeSpec = field(Mark.HONOURED, "How the Dataset is cached.", JindoRuntimeSpec())
    status: RuntimeStatus = field(Mark.HONOURED, "What became of it.", RuntimeStatus())
