"""How much of a Dataset is cached, in print."""

from __future__ import annotations

from csi.operator.model.scalars import StringMap

CacheStates = StringMap
DESCRIPTION = (
    "Figures of the cache: cached, cachedPercentage, cacheCapacity, cacheHitRatio, localHitRatio, remoteHitRatio, "
    "cacheThroughputRatio, localThroughputRatio, remoteThroughputRatio."
)
