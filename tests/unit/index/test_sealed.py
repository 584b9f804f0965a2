"""Rows that say which row they are."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fusecache.index.sealed import SEAL_BYTES, IndexDamagedError, seal, unseal


@given(st.binary(max_size=40), st.binary(max_size=200))
def test_a_sealed_value_comes_back(key: bytes, value: bytes) -> None:
    assert unseal(key, seal(key, value)) == value


@given(st.binary(max_size=40), st.binary(max_size=200), st.data())
def test_one_flipped_bit_is_noticed(key: bytes, value: bytes, data: st.DataObject) -> None:
    sealed = bytearray(seal(key, value))
    bit = data.draw(st.integers(0, 8 * len(sealed) - 1))
    sealed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(IndexDamagedError):
        unseal(key, bytes(sealed))


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=200))
def test_a_row_under_another_key_is_noticed(key: bytes, other: bytes, value: bytes) -> None:
    if key != other:
        with pytest.raises(IndexDamagedError):
            unseal(other, seal(key, value))


@pytest.mark.parametrize("length", range(SEAL_BYTES))
def test_a_row_shorter_than_its_seal_is_damage(length: int) -> None:
    with pytest.raises(IndexDamagedError):
        unseal(b"key", bytes(length))
