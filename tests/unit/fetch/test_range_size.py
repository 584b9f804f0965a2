"""Large ranges: as long as they may be."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusecache.contract.mount_spec import Medium, TierSpec
from fusecache.fetch.range_size import MAX_RANGE_BYTES, longest_run
from fusecache.tiers.tier import Tier

MIB = 1 << 20


@pytest.mark.parametrize(
    ("quotas", "blocks"), [([], 1), ([MIB], 1), ([32 * MIB], 4), ([8 * MIB, 1 << 40], 16), ([1 << 40], MAX_RANGE_BYTES // MIB)]
)
def test_a_range_is_small_beside_the_roomiest_tier(tmp_path: Path, quotas: list[int], blocks: int) -> None:
    tiers = [Tier(number, TierSpec(str(tmp_path), Medium.SSD, quota), quota) for number, quota in enumerate(quotas)]
    assert longest_run(tiers, MIB, streamed=False) == blocks
