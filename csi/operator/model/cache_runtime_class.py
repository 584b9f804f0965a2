"""CacheRuntimeClass: defaults for the CacheRuntimes of a cluster that name it. It has no spec.

Classes are written for engines with processes of their own. Ours is the one that runs, so a class says on which nodes, and with
how much of them; what it says about processes is ignored.
"""

from __future__ import annotations

from typing import Literal

from csi.operator.model.kubernetes import Affinity, AnyMap, EnvVar, Resources, Toleration
from csi.operator.model.marks import Mark
from csi.operator.model.object import Object
from csi.operator.model.scalars import Int32, StringMap
from csi.operator.model.structure import Structure, field
from csi.operator.model.traits import WithOptions


class TemplateMetadata(Structure):
    labels: StringMap = field(Mark.PASSED_ON, "Labels of the pods, where a runtime sets no others.", {})
    annotations: StringMap = field(Mark.PASSED_ON, "Annotations of the pods, where a runtime sets no others.", {})


class TemplateContainer(Structure):
    name: str = field(Mark.SILENT, "Name of the container.", "")
    resources: Resources = field(Mark.PASSED_ON, "CPU and memory of the pods, where a runtime sets none.", {})
    env: list[EnvVar] = field(Mark.PASSED_ON, "Environment of the pods.", [])


class TemplateSpec(Structure):
    node_selector: StringMap = field(Mark.PASSED_ON, "Labels of the nodes that the pods may run on.", {})
    tolerations: list[Toleration] = field(Mark.PASSED_ON, "Taints that the pods tolerate.", [])
    affinity: Affinity = field(Mark.IGNORED, "Where the pods run; nodeSelector says it here.", {})
    containers: list[TemplateContainer] = field(
        Mark.HONOURED, "The engine's containers; only resources and environment of the first count.", []
    )


class PodTemplate(Structure):
    metadata: TemplateMetadata = field(Mark.PASSED_ON, "Labels and annotations.", TemplateMetadata())
    spec: TemplateSpec = field(Mark.PASSED_ON, "Where pods run, with how much.", TemplateSpec())


class Service(Structure):
    headless: AnyMap = field(Mark.IGNORED, "A headless service for the engine.", {})


class SecretMount(Structure):
    enabled: bool = field(Mark.IGNORED, "Mount Secrets into the engine's containers.", False)


class MountedConfigMap(Structure):
    name: str = field(Mark.IGNORED, "Name of the ConfigMap.", "")
    mount_path: str = field(Mark.IGNORED, "Where it is mounted.", "")


class MountedResources(Structure):
    config_maps: list[MountedConfigMap] = field(Mark.IGNORED, "ConfigMaps that the engine's containers mount.", [])


class Dependencies(Structure):
    secret_mount: SecretMount = field(Mark.IGNORED, "Secrets of the engine.", SecretMount())
    extra_resources: MountedResources = field(Mark.IGNORED, "Files of the engine.", MountedResources())


class ExecutionEntry(Structure):
    command: list[str] = field(Mark.IGNORED, "The command.")
    timeout: Int32 = field(Mark.IGNORED, "Seconds it may take, at least 20.", 20)


class ExecutionEntries(Structure):
    mount_ufs: ExecutionEntry | None = field(Mark.IGNORED, "Command that mounts a store.", None, alias="mountUFS")
    report_summary: ExecutionEntry | None = field(Mark.IGNORED, "Command that tells figures of the cache.", None)


class TopologyPart(WithOptions):
    template: PodTemplate = field(Mark.HONOURED, "The engine's pods.", PodTemplate())
    service: Service = field(Mark.IGNORED, "Service of the engine.", Service())
    dependencies: Dependencies = field(Mark.IGNORED, "What the engine needs beside its pods.", Dependencies())
    execution_entries: ExecutionEntries = field(Mark.IGNORED, "Commands in the engine's containers.", ExecutionEntries())


class Topology(Structure):
    master: TopologyPart = field(
        Mark.IGNORED,
        "The engine's master. There is none here, so only its options count.",
        TopologyPart(),
        below={"options": Mark.MAPPED},
    )
    worker: TopologyPart = field(Mark.HONOURED, "The pods that cache.", TopologyPart())
    client: TopologyPart = field(Mark.HONOURED, "The pods that serve mounts.", TopologyPart())


class ConfigMapData(Structure):
    name: str = field(Mark.IGNORED, "Name of the ConfigMap.", "")
    data: StringMap = field(Mark.IGNORED, "Its files.", {})


class ExtraResources(Structure):
    config_maps: list[ConfigMapData] = field(Mark.IGNORED, "ConfigMaps to create.", [])


class DataOperationSpec(Structure):
    name: Literal["DataLoad", "DataBackup", "DataMigrate", "DataProcess"] = field(Mark.IGNORED, "Kind of the operation.")
    image: str = field(Mark.IGNORED, "Image that carries it out.", "")
    command: list[str] = field(Mark.IGNORED, "Command that carries it out.", [])
    args: list[str] = field(Mark.IGNORED, "Arguments of the command.", [])


class CacheRuntimeClass(Object):
    """Defaults for CacheRuntimes that name it."""

    file_system_type: str = field(Mark.SILENT, "Type that a mount of the engine has in the table of mounts.")
    topology: Topology = field(Mark.HONOURED, "Parts of the engine.", Topology())
    extra_resources: ExtraResources = field(Mark.IGNORED, "What the engine needs beside its parts.", ExtraResources())
    data_operation_specs: list[DataOperationSpec] = field(Mark.IGNORED, "How the engine carries out operations.", [])
