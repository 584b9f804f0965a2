"""How much is asked of a store with one request. No state."""

from __future__ import annotations

from collections.abc import Sequence

from fusecache.tiers.tier import Tier

# CPU of SeaweedFS for 1 GiB out of one object (two cores): 1.8 s in ranges of 4 MiB, 1.5 in 8, 1.4 in 16, 1.1-1.2 in 64.
MAX_RANGE_BYTES = 16 << 20  # read into memory as a whole
MAX_STREAMED_BYTES = 64 << 20  # passed on block by block, where the source can do that in place
WHOLE_OBJECT_BYTES = 8 << 20  # objects up to this are read as a whole: sources check their checksums then
# A range finds room as a whole or not at all: it must be small beside the tier it goes to.
QUOTA_SHARE = 8
STREAMED_QUOTA_SHARE = 32


def longest_run(tiers: Sequence[Tier], block_size: int, *, streamed: bool) -> int:
    """Return how many blocks one request may be for: 1 at least. `streamed`: the source can fill a buffer piece by piece."""
    roomiest = max((tier.quota_bytes for tier in tiers), default=0)
    longest = min(MAX_RANGE_BYTES, roomiest // QUOTA_SHARE)
    if streamed:
        longest = max(longest, min(MAX_STREAMED_BYTES, roomiest // STREAMED_QUOTA_SHARE))
    return max(1, longest // block_size)
