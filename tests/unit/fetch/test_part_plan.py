"""Parts follow each other without a gap, and ten thousand hold what a store takes."""

from __future__ import annotations

import itertools

import pytest

from fusecache.fetch.part_plan import FIRST_BYTES, part_range, parts_of
from fusecache.tiers.stage import REGION


def test_parts_follow_each_other() -> None:
    end = 0
    for number in range(1, 10_001):
        part = part_range(number)
        assert part.start == end
        assert part.start % REGION == 0
        assert 5 << 20 <= part.end - part.start <= 5 << 30
        end = part.end
    assert end > 5 << 40


@pytest.mark.parametrize("size", [0, 1, FIRST_BYTES - 1, FIRST_BYTES, FIRST_BYTES + 1, 9_000 * (1 << 20)])
def test_the_parts_of_a_file_are_all_of_it(size: int) -> None:
    parts = parts_of(size)
    assert parts[0].start == 0
    assert parts[-1].end == size
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    assert all(before.end == after.start for before, after in itertools.pairwise(parts))
    assert all(part.end > part.start for part in parts) or size == 0
