"""The tiers of a CacheRuntime: another form than that of the other runtimes, and the order is the one they are written in."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import model_validator

from csi.operator.model.marks import Mark
from csi.operator.model.scalars import Size
from csi.operator.model.structure import Rule, Structure, field

_ONE_SOURCE = Rule(
    "(has(self.processMemory) ? 1 : 0) + (has(self.emptyDir) ? 1 : 0) + (has(self.hostPath) ? 1 : 0) == 1",
    "a level has exactly one of processMemory, emptyDir and hostPath",
)
_SAME_LENGTH = Rule("size(self.paths) == size(self.quotas)", "paths and quotas must have the same number of entries")
_ONE_PROCESS_MEMORY = Rule(
    "!has(self.levels) || self.levels.filter(level, has(level.processMemory)).size() <= 1",
    "at most one level can have processMemory",
)
# The API server estimates what a rule costs from the longest list there may be, and refuses definitions that could cost too much.
_MAX_LEVELS = 16
_MAX_PATHS = 64


class ProcessMemory(Structure):
    quota_bytes: Size = field(
        Mark.HONOURED | Mark.REFUSABLE, "Size; added to the memory that the pods request and may use.", alias="quota"
    )


class EmptyDirectory(Structure):
    quota_bytes: Size = field(Mark.HONOURED | Mark.REFUSABLE, "Size, and the limit of the volume.", alias="quota")
    medium: Literal["", "Memory"] = field(Mark.HONOURED, "Memory, or the disk of the node.", "", default_text="the node's disk")


class HostPath(Structure):
    rules: ClassVar[tuple[Rule, ...]] = (_SAME_LENGTH,)

    paths: list[str] = field(
        Mark.HONOURED | Mark.REFUSABLE, "Absolute directories of the node.", min_length=1, max_length=_MAX_PATHS
    )
    quotas_bytes: list[Size] = field(
        Mark.HONOURED | Mark.REFUSABLE, "Sizes of the directories, one each.", alias="quotas", min_length=1, max_length=_MAX_PATHS
    )
    type: str = field(Mark.IGNORED, "Whether the directories must exist, as for a hostPath volume; here they are made.", "")

    @model_validator(mode="after")
    def _same_length(self) -> Self:
        if len(self.paths) != len(self.quotas_bytes):
            raise ValueError(_SAME_LENGTH.message)
        return self


class CacheLevel(Structure):
    rules: ClassVar[tuple[Rule, ...]] = (_ONE_SOURCE,)

    process_memory: ProcessMemory | None = field(Mark.HONOURED, "Memory of the pods.", None)
    empty_dir: EmptyDirectory | None = field(Mark.HONOURED, "A directory that lives as long as the pod.", None)
    host_path: HostPath | None = field(Mark.HONOURED, "Directories of the node.", None)
    high: str = field(
        Mark.MAPPED | Mark.REFUSABLE, "Share of the quota above which blocks are evicted, such as 0.95.", "", default_text="0.95"
    )
    low: str = field(
        Mark.MAPPED | Mark.REFUSABLE,
        "Share of the quota at which eviction ends.",
        "",
        default_text="0.7, or high if that is less",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if sum(source is not None for source in (self.process_memory, self.empty_dir, self.host_path)) != 1:
            raise ValueError(_ONE_SOURCE.message)
        return self


class CacheTieredStore(Structure):
    rules: ClassVar[tuple[Rule, ...]] = (_ONE_PROCESS_MEMORY,)

    levels: list[CacheLevel] = field(Mark.HONOURED, "The tiers, fastest first.", [], max_length=_MAX_LEVELS)

    @model_validator(mode="after")
    def _one_process_memory(self) -> Self:
        if sum(level.process_memory is not None for level in self.levels) > 1:
            raise ValueError(_ONE_PROCESS_MEMORY.message)
        return self
