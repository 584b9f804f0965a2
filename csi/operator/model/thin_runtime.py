"""ThinRuntime: a cache that a profile of the cluster configures, or a reference to another Dataset."""

from __future__ import annotations

from csi.operator.model.marks import Mark
from csi.operator.model.object import Object
from csi.operator.model.runtime_status import RuntimeStatus
from csi.operator.model.structure import field
from csi.operator.model.thin_parts import ThinFuse, ThinPart
from csi.operator.model.traits import (
    FUSE,
    WORKER,
    RuntimeSpec,
    WithDisablePrometheus,
    WithManagement,
    WithPullSecrets,
    WithRunAs,
    WithVolumes,
)


class ThinRuntimeSpec(RuntimeSpec, WithRunAs, WithDisablePrometheus, WithVolumes, WithManagement, WithPullSecrets):
    profile_name: str = field(
        Mark.HONOURED,
        "ThinRuntimeProfile whose settings hold where this runtime has none. Empty: the runtime of a dataset:// mount.",
        "",
    )
    worker: ThinPart = field(Mark.HONOURED, WORKER, ThinPart())
    fuse: ThinFuse = field(Mark.HONOURED, FUSE, ThinFuse())


class ThinRuntime(Object):
    """A cache for the Dataset of the same name, as a ThinRuntimeProfile is configured."""

    spec: ThinRuntimeSpec = field(Mark.HONOURED, "How the Dataset is cached.", ThinRuntimeSpec())
    status: RuntimeStatus = field(Mark.HONOURED, "What became of it.", RuntimeStatus())
