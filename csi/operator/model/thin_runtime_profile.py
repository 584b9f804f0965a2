"""ThinRuntimeProfile: settings for the ThinRuntimes of a cluster that name it."""

from __future__ import annotations

from typing import Literal

from csi.operator.model.marks import Mark
from csi.operator.model.object import Object
from csi.operator.model.structure import Structure, field
from csi.operator.model.thin_parts import ThinFuse, ThinPart
from csi.operator.model.traits import WithPullSecrets, WithVolumes


class ThinRuntimeProfileSpec(WithVolumes, WithPullSecrets):
    file_system_type: str = field(Mark.SILENT, "Type that a mount of the profile's image has in the table of mounts.")
    worker: ThinPart = field(Mark.HONOURED, "Settings of the pods that cache.", ThinPart())
    fuse: ThinFuse = field(Mark.HONOURED, "Settings of the mounts.", ThinFuse())
    node_publish_secret_policy: Literal[
        "NotMountNodePublishSecret", "MountNodePublishSecretIfExists", "CopyNodePublishSecretAndMountIfNotExists"
    ] = field(
        Mark.IGNORED,
        "What becomes of the Secret that a volume behind a pvc:// mount needs on nodes. Here Kubernetes mounts the claim, and "
        "gives the Secret to the driver of its volume.",
        "MountNodePublishSecretIfExists",
        written="MountNodePublishSecretIfExists",
    )


class ThinRuntimeProfileStatus(Structure):
    """Nothing so far."""


class ThinRuntimeProfile(Object):
    """Settings for ThinRuntimes that name it."""

    spec: ThinRuntimeProfileSpec = field(Mark.HONOURED, "The settings.")
    status: ThinRuntimeProfileStatus = field(Mark.HONOURED, "Nothing so far.", ThinRuntimeProfileStatus())
