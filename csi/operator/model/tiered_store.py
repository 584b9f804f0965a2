"""The tiers of each node that caches, fastest first by their medium."""

from __future__ import annotations

from typing import Literal

from csi.operator.model.kubernetes import VolumeSource
from csi.operator.model.marks import IgnoredWhen, Mark
from csi.operator.model.scalars import Size
from csi.operator.model.structure import Structure, field

_NOT_EMPTY_DIR = IgnoredWhen("volumeType is not emptyDir", lambda place: place.beside.get("volumeType") != "emptyDir")
_OTHER_VOLUME = IgnoredWhen(
    "it is no emptyDir", lambda place: isinstance(place.value, dict) and bool(place.value.keys() - {"emptyDir"})
)
_KEEPS_FREE = IgnoredWhen("the runtime is a JuiceFSRuntime", lambda place: place.whole.get("kind") == "JuiceFSRuntime")


class Level(Structure):
    medium_type: Literal["MEM", "SSD", "HDD"] = field(
        Mark.HONOURED,
        "Kind of storage. Tiers are ordered MEM, SSD, HDD, whatever the order they are written in.",
        alias="mediumtype",
    )
    volume_type: Literal["hostPath", "emptyDir"] = field(
        Mark.HONOURED,
        "How the pod gets the space: a directory of the node, or one that lives as long as the pod.",
        "hostPath",
        written="hostPath",
    )
    volume_source: VolumeSource = field(
        Mark.SILENT,
        "Details of an emptyDir: its limit follows from the quota, its medium is that of the tier.",
        {},
        ignored_when=(_NOT_EMPTY_DIR, _OTHER_VOLUME),
    )
    path: str = field(
        Mark.HONOURED | Mark.REFUSABLE,
        "Absolute directories of the node, with commas between them (JuiceFSRuntime: also colons). Each Dataset has a "
        "directory of its own below. In the place of those that the administrator has not allowed there is one of the driver's, "
        "and a Warning says so.",
        "",
        min_length=1,
    )
    quota_bytes: Size | None = field(
        Mark.HONOURED | Mark.REFUSABLE,
        "Size on each node, divided equally among the directories, such as 50Gi.",
        None,
        alias="quota",
    )
    quota_list: str = field(
        Mark.HONOURED | Mark.REFUSABLE, "Sizes of the directories, one each, with commas between them; instead of quota.", ""
    )
    high: str = field(
        Mark.MAPPED | Mark.REFUSABLE, "Share of the quota above which blocks are evicted, such as 0.95.", "", default_text="0.95"
    )
    low: str = field(
        Mark.MAPPED | Mark.REFUSABLE,
        "Share of the quota at which eviction ends (of a JuiceFSRuntime: share of the disk to keep free).",
        "",
        default_text="0.7, or high if that is less",
        ignored_when=_KEEPS_FREE,
    )


class TieredStore(Structure):
    levels: list[Level] = field(Mark.HONOURED, "The tiers.", [], default_text="256Mi of memory")
