"""Fields that several kinds of runtimes share: of their specs, and of their parts. Each kind says which of them it has."""

from __future__ import annotations

from csi.operator.model.data import Data
from csi.operator.model.foreign_image import VersionSpec
from csi.operator.model.kubernetes import ContainerPort, EnvVar, Resources, SecretName, Toleration, Volume, VolumeMount
from csi.operator.model.management import CLEANUP_MARKS, CleanCachePolicy, RuntimeManagement
from csi.operator.model.marks import OTHER_REPLICAS, WITHOUT_HDFS, Mark
from csi.operator.model.pod_metadata import PodMetadata
from csi.operator.model.scalars import Int32, NetworkMode, PortNumbers, StringMap
from csi.operator.model.structure import Structure, field
from csi.operator.model.tiered_store import TieredStore
from csi.operator.model.user import User

# Of a `master`: no process of ours is one, on whatever network. Its properties may say something about mounts.
MASTER_MARKS = {"properties": Mark.MAPPED, "options": Mark.MAPPED, "networkMode": Mark.SILENT, "disabled": Mark.SILENT}
MASTER = "The engine's master. There is none here, so only its properties count."
WORKER = "The pods that cache."
FUSE = "The mount on each node where a pod uses the Dataset."


# --- parts -----------------------------------------------------------------------------------------------------------------


class Part(Structure):
    """What every part of a runtime has, but the mount."""

    replicas: Int32 | None = field(
        Mark.HONOURED, "Number of pods; counts when spec.replicas is left out.", None, ignored_when=OTHER_REPLICAS, ge=1
    )
    resources: Resources = field(Mark.PASSED_ON, "CPU and memory of the pods. Memory for a MEM tier is added.", {})
    node_selector: StringMap = field(Mark.PASSED_ON, "Labels of the nodes that the pods may run on.", {})


class FusePart(Structure):
    """What every mount has."""

    resources: Resources = field(Mark.PASSED_ON, "CPU and memory of the pods that serve the mount.", {})
    node_selector: StringMap = field(Mark.HONOURED, "Labels of the nodes where the Dataset may be mounted.", {})
    clean_policy: str = field(
        Mark.HONOURED | Mark.REFUSABLE,
        "When the mount of a node goes: OnDemand, with the last pod that uses it; OnRuntimeDeleted, with the runtime; "
        "OnFuseChanged, with the last pod if its settings changed since.",
        "",
        default_text="OnRuntimeDeleted",
    )


class WithProperties(Structure):
    properties: StringMap = field(
        Mark.MAPPED, "Settings in the engine's own words. Those that mean something here are taken over.", {}
    )


class WithOptions(Structure):
    options: StringMap = field(
        Mark.MAPPED, "Settings in the engine's own words. Those that mean something here are taken over.", {}
    )


class WithJvmOptions(Structure):
    jvm_options: list[str] = field(Mark.IGNORED, "Options of a Java machine. No Java runs here.", [])


class WithPortMap(Structure):
    ports: PortNumbers = field(Mark.IGNORED, "Ports of the engine, by name.", {})


class WithPortList(Structure):
    ports: list[ContainerPort] = field(Mark.IGNORED, "Ports of the engine.", [])


class WithEnvMap(Structure):
    env: StringMap = field(Mark.PASSED_ON, "Environment of the pods.", {})


class WithEnvList(Structure):
    env: list[EnvVar] = field(Mark.PASSED_ON, "Environment of the pods.", [])


class WithEnabled(Structure):
    enabled: bool = field(Mark.IGNORED, "Whether the engine runs this part.", False)


class WithDisabled(Structure):
    disabled: bool = field(Mark.HONOURED, "Do without this part: no cache on nodes, or no mount.", False)


class WithNetworkMode(Structure):
    network_mode: NetworkMode = field(Mark.HONOURED, "Network of the pods.", "", default_text="ContainerNetwork")


class WithVolumeMounts(Structure):
    volume_mounts: list[VolumeMount] = field(Mark.PASSED_ON, "Where the pods mount volumes of the runtime.", [])


class WithPodMetadata(Structure):
    pod_metadata: PodMetadata = field(Mark.PASSED_ON, "Labels and annotations of the pods.", PodMetadata())


class WithPullSecrets(Structure):
    image_pull_secrets: list[SecretName] = field(Mark.PASSED_ON, "Secrets for pulling images.", [])


class WithTolerations(Structure):
    tolerations: list[Toleration] = field(Mark.PASSED_ON, "Taints that the pods tolerate.", [])


class WithDeprecatedLabels(Structure):
    labels: StringMap = field(
        Mark.PASSED_ON | Mark.REFUSABLE,
        "Labels of the pods; podMetadata.labels is the new place, and both at once are refused.",
        {},
    )


class WithAnnotations(Structure):
    annotations: StringMap = field(Mark.PASSED_ON, "Annotations of the pods.", {})


class WithVersion(Structure):
    version: VersionSpec = field(Mark.HONOURED, "Image of the engine; ours are our own.", VersionSpec())


class WithArgs(Structure):
    args: list[str] = field(Mark.MAPPED, "Arguments of the engine's mount client. Mount options among them are taken over.", [])


# --- specs -----------------------------------------------------------------------------------------------------------------


class RuntimeSpec(Structure):
    """What the spec of every runtime has, but CacheRuntime's."""

    replicas: Int32 | None = field(
        Mark.HONOURED,
        "Number of nodes that cache. Others that mount the Dataset read from the store themselves, and keep 256Mi at most.",
        None,
        default_text="worker.replicas, or 1",
        ge=0,
    )
    tiered_store: TieredStore = field(Mark.HONOURED, "Where blocks are cached.", TieredStore(), alias="tieredstore")


class WithData(Structure):
    data: Data = field(Mark.IGNORED, "How blocks are kept.", Data(), below={"replicas": Mark.IGNORED, "pin": Mark.IGNORED})


class WithRunAs(Structure):
    run_as: User | None = field(
        Mark.HONOURED,
        "Owner of the files where the Dataset names none, and whom NFS servers see. local:// and pvc:// sources are read by "
        "cache pods as members of its group, not as its user.",
        None,
    )


class WithHadoopConfig(Structure):
    hadoop_config: str = field(
        Mark.HONOURED, "ConfigMap with hdfs-site.xml and core-site.xml, for hdfs:// mounts.", "", ignored_when=WITHOUT_HDFS
    )


class WithVolumes(Structure):
    volumes: list[Volume] = field(Mark.PASSED_ON, "Volumes for volumeMounts of the parts.", [])


class WithManagement(Structure):
    management: RuntimeManagement = field(Mark.HONOURED, "Cleaning up, and listing of sources.", RuntimeManagement())


class WithCleanCachePolicy(Structure):
    clean_cache_policy: CleanCachePolicy = field(
        Mark.IGNORED, "How cached files are removed.", CleanCachePolicy(), below=CLEANUP_MARKS
    )


class WithDisablePrometheus(Structure):
    disable_prometheus: bool = field(Mark.HONOURED, "Do not mark pods for a scraper of metrics.", False)
