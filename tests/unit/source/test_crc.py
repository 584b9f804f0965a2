"""Known values of the checks that stores send."""

from __future__ import annotations

import pytest

from fusecache.source.crc import crc_named


@pytest.mark.parametrize(
    ("name", "expected"),  # of "123456789", the customary check value: https://reveng.sourceforge.io/crc-catalogue/
    [("crc32", "cbf43926"), ("crc32c", "e3069283"), ("crc64nvme", "ae8b14860a799888")],
)
def test_known_values(name: str, expected: str) -> None:
    crc = crc_named(name)
    assert crc is not None
    assert crc(b"123456789").hex() == expected
    assert crc(memoryview(bytearray(b"0123456789"))[1:]).hex() == expected


def test_what_nobody_knows_is_none() -> None:
    assert crc_named("crc7") is None
