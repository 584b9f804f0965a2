"""How a runtime cleans up, and whether it lists its sources.

What is cached stays on nodes when a Dataset goes, and is found again by one of the same name.
"""

from __future__ import annotations

from csi.operator.model.marks import Mark
from csi.operator.model.scalars import Int32
from csi.operator.model.structure import Structure, field


class CleanCachePolicy(Structure):
    grace_period_seconds: Int32 = field(
        Mark.IGNORED, "Seconds that the removal of cached files may take; here they stay on nodes.", 60, written=60
    )
    max_retry_attempts: Int32 = field(Mark.IGNORED, "How often a failed removal is tried again.", 3, written=3)


CLEANUP_MARKS = {"gracePeriodSeconds": Mark.IGNORED, "maxRetryAttempts": Mark.IGNORED}


class MetadataSyncPolicy(Structure):
    auto_sync: bool = field(
        Mark.HONOURED,
        "List the sources when the Dataset is bound. When false, names are looked up on demand, and the total size stays empty.",
        True,
    )


class RuntimeManagement(Structure):
    clean_cache_policy: CleanCachePolicy = field(
        Mark.IGNORED, "How cached files are removed.", CleanCachePolicy(), below=CLEANUP_MARKS
    )
    metadata_sync_policy: MetadataSyncPolicy = field(Mark.HONOURED, "Whether sources are listed.", MetadataSyncPolicy())
