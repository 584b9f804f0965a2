"""DataLoad: fill the cache before programs read."""

from __future__ import annotations

from csi.operator.model.marks import Mark
from csi.operator.model.object import Object
from csi.operator.model.operation import OperationStatus, Placed, Repeated
from csi.operator.model.scalars import Int32, StringMap
from csi.operator.model.structure import Structure, field


class TargetDataset(Structure):
    name: str = field(Mark.HONOURED, "Name of the Dataset.")
    namespace: str = field(
        Mark.HONOURED | Mark.REFUSABLE,
        "Namespace of the Dataset: the own one, others are refused.",
        "",
        default_text="the own namespace",
    )


class TargetPath(Structure):
    path: str = field(Mark.HONOURED, "File or directory, absolute in the Dataset's tree; *, ** and ? are allowed.")
    replicas: Int32 = field(
        Mark.HONOURED, "Copies of each block among the nodes that cache. The largest number counts for all.", 1
    )


class DataLoadSpec(Repeated, Placed):
    dataset: TargetDataset | None = field(Mark.HONOURED, "Whose files are loaded.", None)
    target: list[TargetPath] = field(Mark.HONOURED, "What is loaded.", [], default_text="everything")
    load_metadata: bool = field(
        Mark.HONOURED, "List the store again first: changed files are loaded anew, those that are gone are dropped.", False
    )
    options: StringMap = field(Mark.MAPPED, "Settings in the engine's own words, such as threads or filter.", {})


class DataLoad(Object):
    """Loads files of a Dataset into its cache."""

    spec: DataLoadSpec = field(Mark.HONOURED, "What to load, and when.", DataLoadSpec())
    status: OperationStatus = field(Mark.HONOURED, "What became of it.", OperationStatus())
