"""CacheRuntime: a cache as a CacheRuntimeClass of the cluster tunes it."""

from __future__ import annotations

from typing import Literal

from csi.operator.model.cache_states import DESCRIPTION, CacheStates
from csi.operator.model.cache_tiers import CacheTieredStore
from csi.operator.model.conditions import ProbedCondition
from csi.operator.model.foreign_image import VersionSpec
from csi.operator.model.kubernetes import NodeAffinity, Resources
from csi.operator.model.marks import Mark
from csi.operator.model.object import Object
from csi.operator.model.scalars import Int32, StringMap, Timestamp
from csi.operator.model.structure import Structure, field, status_field
from csi.operator.model.traits import (
    FUSE,
    MASTER,
    MASTER_MARKS,
    WORKER,
    WithDisabled,
    WithEnvList,
    WithOptions,
    WithPodMetadata,
    WithPullSecrets,
    WithTolerations,
    WithVolumeMounts,
    WithVolumes,
)


class CachePart(WithDisabled, WithOptions, WithPodMetadata, WithEnvList, WithVolumeMounts, WithTolerations):
    runtime_version: VersionSpec = field(Mark.HONOURED, "Image of the engine; ours are our own.", VersionSpec())
    resources: Resources = field(Mark.PASSED_ON, "CPU and memory of the pods.", {})
    args: list[str] = field(Mark.IGNORED, "Arguments of the engine.", [])
    node_selector: StringMap = field(Mark.PASSED_ON, "Labels of the nodes that the pods may run on.", {})


class CacheMaster(CachePart):
    replicas: Int32 = field(Mark.HONOURED, "Number of masters.", 1, written=1, ge=0)


class CacheWorker(CachePart):
    replicas: Int32 = field(Mark.HONOURED, "Number of nodes that cache. Others keep 256Mi at most.", 1, written=1, ge=0)
    tiered_store: CacheTieredStore = field(Mark.HONOURED, "Where blocks are cached.", CacheTieredStore())


class CacheClient(CachePart):
    tiered_store: CacheTieredStore = field(
        Mark.IGNORED,
        "Where nodes that only read keep blocks; here in the tiers of workers, and few.",
        CacheTieredStore(),
    )
    clean_policy: Literal["OnRuntimeDeleted", "OnDemand"] = field(
        Mark.HONOURED,
        "When the mount of a node goes: OnDemand, with the last pod that uses it; OnRuntimeDeleted, with the runtime.",
        "OnRuntimeDeleted",
        written="OnRuntimeDeleted",
    )


class CacheRuntimeSpec(WithOptions, WithPodMetadata, WithPullSecrets, WithVolumes):
    runtime_class_name: str = field(Mark.HONOURED, "CacheRuntimeClass that tunes the cache, such as default.")
    master: CacheMaster = field(Mark.IGNORED, MASTER, CacheMaster(), below=MASTER_MARKS)
    # `kubectl scale` needs a number to be there: with {} the API server writes the worker's replicas, too.
    worker: CacheWorker = field(Mark.HONOURED, WORKER, CacheWorker(), written={})
    client: CacheClient = field(Mark.HONOURED, FUSE, CacheClient())


class CachePartStatus(Structure):
    phase: str = status_field("NotReady, PartialReady or Ready.", "", required=True)
    reason: str = status_field("Why the part is not ready, in one word.", "")
    message: str = status_field("Why the part is not ready, in a sentence.", "")
    ready_replicas: Int32 = status_field("Pods that are ready.", 0)
    current_replicas: Int32 = status_field("Pods there are.", 0)
    desired_replicas: Int32 = status_field("Pods wanted.", 0)
    unavailable_replicas: Int32 = status_field("Pods that cannot be used.", 0)
    available_replicas: Int32 = status_field("Pods that can be used.", 0)


class CacheRuntimeStatus(Structure):
    phase: str = status_field("NotReady, PartialReady or Ready: the whole.", "")
    value_file: str = status_field("ConfigMap with the settings in effect, without secrets.", "")
    setup_duration: str = status_field("How long it took until the runtime was ready.", "")
    conditions: list[ProbedCondition] = status_field("How the parts are.", [])
    cache_states: CacheStates = status_field(DESCRIPTION, {})
    selector: str = status_field("Labels of the pods that cache, for autoscalers.", "")
    cache_affinity: NodeAffinity = status_field("Where the nodes that cache are.", {})
    mount_time: Timestamp = status_field("When the mounts were changed last.", "")
    master: CachePartStatus = status_field("The index.", CachePartStatus())
    worker: CachePartStatus = status_field("Nodes that cache.", CachePartStatus())
    client: CachePartStatus = status_field("Nodes where the Dataset is mounted.", CachePartStatus())


class CacheRuntime(Object):
    """A cache for the Dataset of the same name, as a CacheRuntimeClass tunes it."""

    spec: CacheRuntimeSpec = field(Mark.HONOURED, "How the Dataset is cached.")
    status: CacheRuntimeStatus = field(Mark.HONOURED, "What became of it.", CacheRuntimeStatus())
