from __future__ import annotations

import pytest

from fusecache.tiers.memory_limit import FURTHER_SERVE_BYTES, PROCESSES_BYTES, share_memory

MIB = 1 << 20


def test_without_a_limit_everything_is_as_asked() -> None:
    assert share_memory(None, 96 * MIB, 64 * MIB) == (96 * MIB, 64 * MIB, None)


@pytest.mark.parametrize("limit_mib", [256, 512, 1024, 4096, 65536])
def test_shares_and_processes_stay_below_nine_tenths_of_the_limit(limit_mib: int) -> None:
    shares = share_memory(limit_mib * MIB, 96 * MIB, 64 * MIB)
    assert shares.in_flight_bytes <= 96 * MIB
    assert shares.bounce_bytes <= 64 * MIB
    assert shares.memory_tier_bytes is not None
    assert shares.memory_tier_bytes > 0
    total = PROCESSES_BYTES + 2 * shares.in_flight_bytes + shares.bounce_bytes + shares.memory_tier_bytes
    assert total <= 0.9 * limit_mib * MIB + MIB


def test_a_limit_too_small_for_the_processes_leaves_nothing_for_a_tier_but_something_to_work_with() -> None:
    shares = share_memory(64 * MIB, 96 * MIB, 64 * MIB)
    assert shares.memory_tier_bytes == 0
    assert shares.in_flight_bytes >= MIB
    assert shares.bounce_bytes >= MIB


def test_each_further_serve_takes_from_the_tiers() -> None:
    one, four = (share_memory(512 * MIB, 32 * MIB, 16 * MIB, serves).memory_tier_bytes for serves in (1, 4))
    assert one is not None
    assert four == one - 3 * FURTHER_SERVE_BYTES
