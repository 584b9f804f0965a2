"""Dataset: which data, under which names, for whom."""

from __future__ import annotations

from typing import Literal

from csi.operator.model.cache_states import DESCRIPTION, CacheStates
from csi.operator.model.conditions import UpdatedCondition
from csi.operator.model.encrypt_option import EncryptOption
from csi.operator.model.kubernetes import NodeSelector, Toleration
from csi.operator.model.marks import Mark
from csi.operator.model.mount import IN_REFERENCES, Mount
from csi.operator.model.object import Object
from csi.operator.model.scalars import Int32, StringMap
from csi.operator.model.structure import Structure, field, status_field
from csi.operator.model.user import User


class CacheableNodeAffinity(Structure):
    required: NodeSelector = field(Mark.HONOURED, "Which nodes may cache.", {})


class RestoreLocation(Structure):
    path: str = field(Mark.IGNORED, "Directory of the backup: pvc://claim/directory or local:///directory.", "")
    node_name: str = field(Mark.IGNORED, "Node that has the local:// directory.", "")


class BoundRuntime(Structure):
    name: str = status_field("Name of the runtime.", "")
    namespace: str = status_field("Namespace of the runtime.", "")
    category: str = status_field("Accelerate.", "")
    type: str = status_field("Kind of the engine: alluxio, jindo, efc, juicefs, goosefs, thin or cache.", "")
    master_replicas: Int32 = status_field("Copies of the index.", 0)


class DatasetSpec(Structure):
    mounts: list[Mount] = field(Mark.HONOURED, "Sources. They can be changed while pods use the Dataset.", [], min_length=1)
    owner: User | None = field(
        Mark.HONOURED,
        "Who owns the files that pods see.",
        None,
        default_text="root, 0777 and 0666 where written",
        ignored_when=IN_REFERENCES,
    )
    node_affinity: CacheableNodeAffinity = field(
        Mark.HONOURED, "Nodes that may cache.", CacheableNodeAffinity(), ignored_when=IN_REFERENCES
    )
    tolerations: list[Toleration] = field(
        Mark.PASSED_ON, "Taints that pods which cache or mount tolerate.", [], ignored_when=IN_REFERENCES
    )
    access_modes: list[str] = field(
        Mark.HONOURED,
        "Access modes of the volume: ReadOnlyMany (read-only, whatever else is named), ReadWriteMany, "
        "ReadWriteOnce, ReadWriteOncePod.",
        [],
        default_text="ReadOnlyMany",
    )
    runtimes: list[BoundRuntime] = field(Mark.IGNORED, "Runtimes; they are found by their name.", [])
    placement: Literal["Exclusive", "Shared", ""] = field(
        Mark.HONOURED,
        "Whether several Datasets may cache on one node.",
        "",
        default_text="as the installation says: Shared",
        ignored_when=IN_REFERENCES,
    )
    data_restore_location: RestoreLocation = field(
        Mark.IGNORED, "Take the names of files from a backup; here the sources are listed.", RestoreLocation()
    )
    shared_options: StringMap = field(Mark.HONOURED, "Options of all mounts.", {}, ignored_when=IN_REFERENCES)
    shared_encrypt_options: list[EncryptOption] = field(
        Mark.HONOURED, "Secret options of all mounts.", [], ignored_when=IN_REFERENCES
    )


class HadoopEndpoint(Structure):
    endpoint: str = status_field("Address for Hadoop programs.", "", never=True)
    underlayer_file_system_version: str = status_field("Version of the store, for Hadoop programs.", "", never=True)


class DatasetStatus(Structure):
    phase: str = status_field("NotBound, Pending, Bound, Updating, DataMigrating or Failed.", "")
    conditions: list[UpdatedCondition] = status_field("Ready, and why not.", [], required=True)
    mounts: list[Mount] = status_field("Mounts in effect, without values of Secrets.", [])
    ufs_total: str = status_field("Size of all files; [Calculating] during the first listing; empty without one.", "")
    file_num: str = status_field("Number of files.", "")
    cache_states: CacheStates = status_field(DESCRIPTION, {})
    runtimes: list[BoundRuntime] = status_field("The runtime of the Dataset.", [])
    operation_ref: StringMap = status_field("Operations that run, by kind.", {})
    dataset_ref: list[str] = status_field("Datasets that refer to this one, as namespace/name.", [])
    data_load_ref: str = status_field("A DataLoad that runs; operationRef has replaced it.", "", never=True)
    data_backup_ref: str = status_field("A DataBackup that runs; operationRef has replaced it.", "", never=True)
    hcfs: HadoopEndpoint = status_field(
        "The engine's address for Hadoop programs; there is none here.", HadoopEndpoint(), never=True
    )


class Dataset(Object):
    """A collection of files in remote stores that pods mount as one directory and read from a cache near them."""

    spec: DatasetSpec = field(Mark.HONOURED, "Which data, and for whom.", DatasetSpec())
    status: DatasetStatus = field(Mark.HONOURED, "What became of it.", DatasetStatus())
