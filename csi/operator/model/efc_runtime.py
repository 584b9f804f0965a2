"""EFCRuntime: a cache for NFS file systems, as EFC is configured."""

from __future__ import annotations

from csi.operator.model.marks import Mark
from csi.operator.model.object import Object
from csi.operator.model.runtime_status import RuntimeStatus
from csi.operator.model.structure import Structure, field
from csi.operator.model.traits import (
    FUSE,
    MASTER,
    MASTER_MARKS,
    WORKER,
    FusePart,
    Part,
    RuntimeSpec,
    WithCleanCachePolicy,
    WithDisabled,
    WithNetworkMode,
    WithPodMetadata,
    WithPortMap,
    WithProperties,
    WithVersion,
)


class EFCPart(Part, WithVersion, WithProperties, WithPortMap, WithDisabled, WithNetworkMode, WithPodMetadata):
    pass


class EFCFuse(FusePart, WithVersion, WithProperties, WithNetworkMode, WithPodMetadata):
    pass


class InitFuse(WithVersion):
    pass


class OsAdvise(Structure):
    os_version: str = field(Mark.IGNORED, "Operating system of the nodes.", "")
    enabled: bool = field(Mark.IGNORED, "Tune the kernel of the nodes.", False)


class EFCRuntimeSpec(RuntimeSpec, WithCleanCachePolicy, WithPodMetadata):
    master: EFCPart = field(Mark.IGNORED, MASTER, EFCPart(), below=MASTER_MARKS)
    worker: EFCPart = field(Mark.HONOURED, WORKER, EFCPart())
    fuse: EFCFuse = field(Mark.HONOURED, FUSE, EFCFuse())
    init_fuse: InitFuse = field(Mark.IGNORED, "A container that loads a kernel module.", InitFuse())
    os_advise: OsAdvise = field(Mark.IGNORED, "Tuning of the nodes' kernel.", OsAdvise())


class EFCRuntime(Object):
    """A cache for the Dataset of the same name, as EFC is configured."""

    spec: EFCRuntimeSpec = field(Mark.HONOURED, "How the Dataset is cached.", EFCRuntimeSpec())
    status: RuntimeStatus = field(Mark.HONOURED, "What became of it.", RuntimeStatus())
