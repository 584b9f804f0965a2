"""Tables of options are of one piece with the documents that say what their targets are."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

import pytest

from csi.operator.resolve.load import OPTIONS
from csi.operator.resolve.option_row import Effect, Table, option, silent
from csi.operator.resolve.option_values import (
    block_size,
    boolean,
    copies,
    endpoint,
    lasting,
    size,
    tenths,
    timeout,
    whole,
)
from csi.operator.resolve.options_reference import TABLES
from csi.operator.resolve.store_options import TABLES as OF_STORES
from fusecache.base.settings import SETTINGS

SOURCES = (Path(__file__).parents[4] / "docs/sources.md").read_text()
# Parameters of a library's file system, which docs/sources.md does not list.
OF_LIBRARIES = {"account_name", "tenant_id", "client_id", "account_key", "sas_token", "client_secret"}


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.title[:30])
def test_a_table(table: Table) -> None:
    spelt = Counter(key for row in table.rows for key in row.keys)
    assert [key for key, times in spelt.items() if times > 1] == []
    for row in table.rows:
        assert row.keys
        assert "|" not in row.note
        if row.effect is Effect.SETTING:
            assert row.target in SETTINGS
        if row.effect is Effect.REFUSED or (row.effect is Effect.DECISION and row.target):
            assert row.note


def test_options_of_sources_are_documented() -> None:
    for table in OF_STORES.values():
        for row in table.rows:
            if row.effect is Effect.SOURCE and row.target not in OF_LIBRARIES | {"use_tls"}:
                assert f"`{row.target}`" in SOURCES, row
            if row.effect is Effect.SECRET and row.target not in OF_LIBRARIES:
                assert f"`{row.target}_file`" in SOURCES, row


def test_every_option_of_a_load_is_told() -> None:
    assert OPTIONS in TABLES
    assert all(row.note for row in OPTIONS.rows if row.effect is Effect.DECISION)


def test_exact_keys_win_over_patterns_and_early_rows_over_late_ones() -> None:
    exact, early, late = option("a", "x.y"), silent("x.*"), silent("x*")
    table = Table("t", (late, early, exact))
    assert table.find("x.y") is exact
    assert table.find("x.z") is late
    assert Table("t", (early, late)).find("x.z") is early
    assert table.find("y") is None
    assert [key for key, _ in table.in_order(["a", "x.y", "none", "x.z"])] == ["x.y", "a", "x.z"]


@pytest.mark.parametrize(
    ("convert", "text", "found"),
    [
        (boolean, " TRUE ", "true"),
        (boolean, "", "true"),
        (boolean, "off", "false"),
        (lasting(), "-1", "31536000"),
        (lasting(), "0", "0"),
        (lasting("ms"), "1500", "1.5"),
        (lasting("ms"), "2min", "120"),
        (lasting(), "1day", "86400"),
        (lasting(), "99999999h", "31536000"),
        (timeout(), "0", None),
        (timeout(), "0.0001", "0.001"),
        (timeout(), "3days", "86400"),
        (timeout("ms"), "50000", "50"),
        (tenths, "600", "60"),
        (tenths, "0", None),
        (whole(1, 10), " 7 ", "7"),
        (whole(1, 10), "99", "10"),
        (size(10, 100), "1Ki", "100"),
        (size(16, 1 << 40, plain_factor=1 << 20), "2", "2097152"),
        (size(16, 1 << 40, plain_factor=1 << 20), "2K", "2000"),
        (block_size, "256MB", str(64 << 20)),
        (block_size, "1MiB", str(1 << 20)),
        (endpoint, "http://[::1]:9000/", "http://[::1]:9000"),
        (copies, "1", None),
    ],
)
def test_values(convert: object, text: str, found: str | None) -> None:
    assert callable(convert)
    assert convert(text) == found


@pytest.mark.parametrize(
    ("convert", "text"),
    [
        (boolean, "maybe"),
        (lasting(), "-2"),
        (lasting(), "soon"),
        (lasting(), "1" * 100),
        (lasting(), "١s"),
        (timeout(), "-1"),
        (whole(1, 10), "0"),
        (whole(1, 10), "١"),
        (whole(1, 10), "1.5"),
        (size(1, 10), "much"),
        (size(1, 10), "-1Gi"),
        (endpoint, "http://user:hush@host"),
        (endpoint, "http://host?x"),
        (endpoint, "ftp://host"),
        (endpoint, ""),
        (tenths, "x"),
    ],
)
def test_values_that_are_none(convert: object, text: str) -> None:
    assert callable(convert)
    with pytest.raises(ValueError) as caught:
        convert(text)
    assert re.match(r"(a|an|the|true|octal) ", str(caught.value))
    assert not text or text not in str(caught.value)
