"""Sources of a Dataset, and where they appear in its tree."""

from __future__ import annotations

from csi.operator.model.encrypt_option import EncryptOption
from csi.operator.model.marks import IgnoredWhen, Mark, Place
from csi.operator.model.scalars import StringMap
from csi.operator.model.structure import Structure, field

REFERENCE = "dataset://"


def refers_to_a_dataset(place: Place) -> bool:
    mounts = place.spec.get("mounts")
    return isinstance(mounts, list) and any(
        isinstance(mount, dict) and str(mount.get("mountPoint", "")).startswith(REFERENCE) for mount in mounts
    )


IN_REFERENCES = IgnoredWhen("the Dataset refers to another one", refers_to_a_dataset)
_RELATIVE = IgnoredWhen("it is not absolute", lambda place: not str(place.value).startswith("/"))


class Mount(Structure):
    mount_point: str = field(
        Mark.HONOURED | Mark.REFUSABLE,
        "Where the data is. The scheme chooses the kind of store: s3://bucket/prefix, oss://bucket, https://host/directory/, "
        "nfs://server:/directory, pvc://claim/directory, local:///directory, dataset://namespace/name/directory.",
        min_length=5,
    )
    name: str = field(
        Mark.HONOURED,
        "Name of the mount, and its place in the tree when path is not absolute; / is the root.",
        "",
        ignored_when=IN_REFERENCES,
    )
    path: str = field(
        Mark.HONOURED,
        "Absolute place in the Dataset's tree.",
        "",
        default_text="/ and the name",
        ignored_when=(_RELATIVE, IN_REFERENCES),
    )
    options: StringMap = field(
        Mark.MAPPED, "Settings of the store, such as its endpoint, in clear text.", {}, ignored_when=IN_REFERENCES
    )
    encrypt_options: list[EncryptOption] = field(
        Mark.HONOURED, "Settings of the store that are secret, such as its keys.", [], ignored_when=IN_REFERENCES
    )
    read_only: bool = field(Mark.HONOURED, "Nobody may write below this mount, whatever the access modes say.", False)
    shared: bool = field(Mark.IGNORED, "Whether other users of the engine may use this mount.", False)

    @property
    def place(self) -> str:
        """The absolute directory of the Dataset's tree where the mount appears; `/` is the root."""
        return self.path if self.path.startswith("/") else "/" + self.name.lstrip("/")
