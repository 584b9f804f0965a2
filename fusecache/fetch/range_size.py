"""How much is asked of a store with one request. No state."""

from __future__ import annotations

from collections.abc import Sequence

from fusecache.tiers.tier import Tier

# CPU of server and fetch for 1 GiB cold (SeaweedFS, two cores): 2.5 + 1.2 s with 4 MiB, 2.1 + 1.2 s with 8, 1.9 + 1.1 s with 16.
MAX_RANGE_BYTES = 16 << 20
QUOTA_SHARE = 8  # a range finds room as a whole or not at all: it must be small beside the tier it goes to


def longest_run(tiers: Sequence[Tier], block_size: int) -> int:
    """Return how many blocks one request may be for: 1 at least."""
    roomiest = max((tier.quota_bytes for tier in tiers), default=0)
    return max(1, min(MAX_RANGE_BYTES, roomiest // QUOTA_SHARE) // block_size)
