"""Who owns files, or as whom something runs."""

from __future__ import annotations

from csi.operator.model.marks import Mark
from csi.operator.model.scalars import Int64
from csi.operator.model.structure import Structure, field


class User(Structure):
    uid: Int64 = field(Mark.HONOURED, "Number of the user.")
    gid: Int64 = field(Mark.HONOURED, "Number of the group.")
    user: str = field(Mark.SILENT, "Name of the user; numbers alone count.")
    group: str = field(Mark.SILENT, "Name of the group; numbers alone count.")
