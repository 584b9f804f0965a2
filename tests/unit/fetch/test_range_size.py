"""Large ranges: as long as they may be, in buffers that are used again."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusecache.contract.mount_spec import Medium, TierSpec
from fusecache.fetch.buffer_pool import KEPT, BufferPool
from fusecache.fetch.range_size import MAX_RANGE_BYTES, longest_run
from fusecache.tiers.tier import Tier

MIB = 1 << 20


@pytest.mark.parametrize(
    ("quotas", "blocks"), [([], 1), ([MIB], 1), ([32 * MIB], 4), ([8 * MIB, 1 << 40], 16), ([1 << 40], MAX_RANGE_BYTES // MIB)]
)
def test_a_range_is_small_beside_the_roomiest_tier(tmp_path: Path, quotas: list[int], blocks: int) -> None:
    tiers = [Tier(number, TierSpec(str(tmp_path), Medium.SSD, quota), quota) for number, quota in enumerate(quotas)]
    assert longest_run(tiers, MIB) == blocks


def test_a_buffer_is_used_again_and_never_by_two() -> None:
    pool = BufferPool()
    with pool.borrow(10) as first, pool.borrow(20) as second:
        first[:] = b"1" * 10
        second[:] = b"2" * 20
        assert bytes(first) == b"1" * 10
        identities = {id(first.obj), id(second.obj)}
    assert len(identities) == 2
    with pool.borrow(5) as third:
        assert id(third.obj) in identities


def test_idle_buffers_are_given_back() -> None:
    pool = BufferPool()
    for _ in range(KEPT + 1):
        with pool.borrow(1):
            pass
    pool.release_idle()
    assert pool._free  # used since the last look
    pool.release_idle()
    assert not pool._free
