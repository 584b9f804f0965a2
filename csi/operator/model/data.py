"""Copies of cached blocks, and whether they stay: no block has a second copy here, and what is not read leaves first."""

from __future__ import annotations

from csi.operator.model.marks import Mark
from csi.operator.model.scalars import Int32
from csi.operator.model.structure import Structure, field


class Data(Structure):
    replicas: Int32 = field(
        Mark.IGNORED, "Copies of each block among the nodes that cache; here each node keeps what it reads.", 1
    )
    pin: bool = field(Mark.IGNORED, "Never evict blocks of this Dataset; here old ones make room.", False)
