"""Copies of cached blocks, and whether they stay."""

from __future__ import annotations

from csi.operator.model.marks import Mark
from csi.operator.model.scalars import Int32
from csi.operator.model.structure import Structure, field


class Data(Structure):
    replicas: Int32 = field(Mark.MAPPED, "Copies of each block among the nodes that cache, at most one on each.", 1)
    pin: bool = field(Mark.HONOURED, "Never evict blocks of this Dataset; once its quota is full, nothing more is cached.", False)
