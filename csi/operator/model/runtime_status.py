"""The status of every kind of runtime but CacheRuntime."""

from __future__ import annotations

from csi.operator.model.cache_states import DESCRIPTION, CacheStates
from csi.operator.model.conditions import ProbedCondition
from csi.operator.model.kubernetes import NodeAffinity
from csi.operator.model.mount import Mount
from csi.operator.model.scalars import Int32, Timestamp
from csi.operator.model.structure import Structure, status_field


class Endpoint(Structure):
    endpoint: str = status_field("Address of the engine's REST gateway.", "", never=True)


class RuntimeStatus(Structure):
    value_file: str = status_field("ConfigMap with the settings in effect, without secrets.", "", required=True)
    master_phase: str = status_field(
        "NotReady until the store answered and its root could be read, then Ready.", "", required=True
    )
    master_reason: str = status_field("Why the index is not ready.", "")
    worker_phase: str = status_field("NotReady, PartialReady or Ready: nodes that cache.", "", required=True)
    worker_reason: str = status_field("Why nodes that cache are not ready.", "")
    fuse_phase: str = status_field("NotReady, PartialReady or Ready: nodes where the Dataset is mounted.", "", required=True)
    fuse_reason: str = status_field("Why mounts are not ready.", "")
    desired_master_number_scheduled: Int32 = status_field("Indexes wanted: 1.", 0, required=True)
    current_master_number_scheduled: Int32 = status_field("Indexes there are.", 0, required=True)
    master_number_ready: Int32 = status_field("Indexes that are ready.", 0, required=True)
    desired_worker_number_scheduled: Int32 = status_field("Nodes that are to cache.", 0, required=True)
    current_worker_number_scheduled: Int32 = status_field("Nodes that were chosen to cache.", 0, required=True)
    worker_number_ready: Int32 = status_field("Nodes whose cache is ready.", 0, required=True)
    worker_number_available: Int32 = status_field("Nodes whose cache can be used.", 0)
    worker_number_unavailable: Int32 = status_field("Nodes whose cache cannot be used.", 0)
    desired_fuse_number_scheduled: Int32 = status_field("Nodes where the Dataset is to be mounted.", 0, required=True)
    current_fuse_number_scheduled: Int32 = status_field("Nodes where a mount was started.", 0, required=True)
    fuse_number_ready: Int32 = status_field("Nodes whose mount is ready.", 0, required=True)
    fuse_number_available: Int32 = status_field("Nodes whose mount can be used.", 0)
    fuse_number_unavailable: Int32 = status_field("Nodes whose mount cannot be used.", 0)
    setup_duration: str = status_field("How long it took until the runtime was ready.", "")
    conditions: list[ProbedCondition] = status_field("How master, workers and mounts are.", [])
    cache_states: CacheStates = status_field(DESCRIPTION, {})
    selector: str = status_field("Labels of the pods that cache, for autoscalers.", "")
    api_gateway: Endpoint = status_field("The engine's REST gateway; there is none here.", Endpoint(), never=True)
    mount_time: Timestamp = status_field("When the mounts were changed last.", "")
    mounts: list[Mount] = status_field("Mounts in effect, without values of Secrets.", [])
    cache_affinity: NodeAffinity = status_field("Where the nodes that cache are.", {})
