"""Checksums notice wrong bytes, and right bytes in the wrong place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusecache.index.inodes import identity_of
from fusecache.tiers.checksums import block_checksums, damaged_granule

GRANULE = 8
BLOCK = 32
ME = identity_of(1, b"path", b"v1")


def is_right(data: bytes, checksums: tuple[int, ...], identity: int = ME, offset: int = 0) -> bool:
    return damaged_granule(memoryview(data), checksums, identity, offset, GRANULE, 0) is None


@given(st.binary(min_size=1, max_size=BLOCK), st.integers(0, 1 << 50))
def test_what_was_written_is_right(data: bytes, block: int) -> None:
    sums = block_checksums(data, ME, block * BLOCK, GRANULE)
    assert len(sums) == -(-len(data) // GRANULE)
    assert is_right(data, sums, offset=block * BLOCK)


@given(st.binary(min_size=1, max_size=BLOCK), st.data())
def test_a_flipped_bit_is_found_in_its_granule(data: bytes, draw: st.DataObject) -> None:
    sums = block_checksums(data, ME, 0, GRANULE)
    bit = draw.draw(st.integers(0, 8 * len(data) - 1))
    damaged = bytearray(data)
    damaged[bit // 8] ^= 1 << bit % 8
    assert damaged_granule(memoryview(damaged), sums, ME, 0, GRANULE, 0) == bit // 8 // GRANULE


@given(st.binary(min_size=BLOCK, max_size=BLOCK), st.integers(1, 100))
def test_the_same_bytes_of_another_block_are_wrong(data: bytes, blocks: int) -> None:
    assert not is_right(data, block_checksums(data, ME, 0, GRANULE), offset=blocks * BLOCK)


@pytest.mark.parametrize(
    "other",
    [
        identity_of(2, b"path", b"v1"),
        identity_of(1, b"path2", b"v1"),
        identity_of(1, b"path", b"v2"),
        identity_of(1, b"pathv", b"1"),
    ],
)
def test_the_same_bytes_of_another_object_or_version_are_wrong(other: int) -> None:
    data = bytes(BLOCK)
    assert not is_right(data, block_checksums(data, other, 0, GRANULE))


def test_swapped_granules_are_found() -> None:
    data = b"a" * GRANULE + b"b" * GRANULE
    sums = block_checksums(data, ME, 0, GRANULE)
    assert not is_right(data, (sums[1], sums[0]))
    assert not is_right(data[GRANULE:] + data[:GRANULE], sums)


@pytest.mark.parametrize("length", [1, GRANULE - 1, GRANULE + 1, BLOCK - 1])
def test_a_short_granule_of_zeros_is_not_a_long_one(length: int) -> None:
    sums = block_checksums(bytes(length), ME, 0, GRANULE)
    assert not is_right(bytes(length + 1), sums)
    if length > 1:
        assert not is_right(bytes(length - 1), sums) or (length - 1) % GRANULE == 0


def test_a_part_that_begins_inside_the_block_is_checked_by_its_granules() -> None:
    data = bytes(range(BLOCK))
    sums = block_checksums(data, ME, 7 * BLOCK, GRANULE)
    assert damaged_granule(memoryview(data)[GRANULE:], sums, ME, 7 * BLOCK, GRANULE, 1) is None
    assert damaged_granule(memoryview(data)[GRANULE:], sums, ME, 7 * BLOCK, GRANULE, 0) == 0
    assert damaged_granule(memoryview(data), sums, ME, 7 * BLOCK, GRANULE, 1) == 1  # one granule more than there are sums
