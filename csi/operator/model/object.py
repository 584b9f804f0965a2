"""What every object has: its kind, and as much of its metadata as an operator reads."""

from __future__ import annotations

from csi.operator.model.kubernetes import AnyMap
from csi.operator.model.marks import Mark
from csi.operator.model.scalars import StringMap
from csi.operator.model.structure import Structure, field


class Metadata(Structure):
    name: str = field(Mark.HONOURED, "Name of the object.", min_length=1)
    namespace: str = field(Mark.HONOURED, "Namespace of the object; empty for kinds of the whole cluster.", "")
    uid: str = field(Mark.HONOURED, "Identity of the object: another one of the same name has another.", "")
    generation: int = field(Mark.HONOURED, "Grows with each change of the spec.", 0)
    resource_version: str = field(Mark.HONOURED, "Grows with each change.", "")
    creation_timestamp: str = field(Mark.HONOURED, "When the object was created.", "")
    deletion_timestamp: str = field(Mark.HONOURED, "When its deletion was asked for; empty when it was not.", "")
    labels: StringMap = field(Mark.HONOURED, "Labels.", {})
    annotations: StringMap = field(Mark.HONOURED, "Annotations.", {})
    finalizers: list[str] = field(Mark.HONOURED, "Who has to clean up before the object goes.", [])
    owner_references: list[AnyMap] = field(Mark.HONOURED, "Objects with which this one goes.", [])


class Object(Structure):
    """An object of one of our kinds."""

    api_version: str = field(Mark.HONOURED, "Group and version of the kind.")
    kind: str = field(Mark.HONOURED, "Name of the kind.")
    metadata: Metadata = field(Mark.HONOURED, "Name and the like.")
