"""Labels and annotations for pods that the operator creates."""

from __future__ import annotations

from csi.operator.model.marks import Mark
from csi.operator.model.scalars import StringMap
from csi.operator.model.structure import Structure, field


class PodMetadata(Structure):
    labels: StringMap = field(
        Mark.PASSED_ON | Mark.REFUSABLE, "Labels of the pods. Those below our own prefixes are refused.", {}
    )
    annotations: StringMap = field(Mark.PASSED_ON, "Annotations of the pods.", {})
