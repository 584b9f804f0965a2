"""Listings that do not tell a size exactly: names are asked for one by one, and are as fresh as that answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusecache.contract.messages import Op
from fusecache.fetch.warm import refresh
from tests.support.fake_source import FakeSource
from tests.support.fetch_harness import fetching
from tests.support.mounted import wait_until

TTL = 100.0
FAST = {"rate": 8.0, "ttl_seconds": TTL}


@pytest.fixture
def inexact() -> FakeSource:
    made = FakeSource(needs_stat=True)
    for name in ("a", "b", "c"):
        made.put(name, name.encode() * 33)
    return made


def test_a_size_is_exact_before_it_is_told(tmp_path: Path, inexact: FakeSource) -> None:
    with fetching(tmp_path, inexact, **FAST) as (_, reader):
        part = reader.ask(lambda: reader.fs.readdir(1, 0, 100, True))
        assert all(entry.attributes is None for entry in part.entries)
        found = reader.lookup(1, b"a")
        assert found is not None
        assert found.size == 33
        assert reader.read_file(b"b") == b"b" * 33


def test_a_name_of_an_inexact_listing_is_as_fresh_as_its_own_check(tmp_path: Path, inexact: FakeSource) -> None:
    with fetching(tmp_path, inexact, **FAST) as (harness, reader):
        assert reader.read_file(b"a") == b"a" * 33
        inexact.put("a", b"other bytes of the same file" * 2)
        assert reader.read_file(b"a") == b"a" * 33  # within the TTL
        harness.now += TTL + 1
        reader.names()  # the listing tells nothing about it
        assert reader.read_file(b"a") == b"other bytes of the same file" * 2


@pytest.mark.slow
def test_a_name_checked_alone_is_told_while_its_source_is_silent(tmp_path: Path, inexact: FakeSource) -> None:
    with fetching(tmp_path, inexact, ttl_seconds=TTL, deadline_seconds=2.0) as (harness, reader):
        assert reader.read_file(b"a") == b"a" * 33
        harness.now += TTL + 1
        inexact.put("a", b"replaced")
        inexact.gate.clear()
        assert reader.read_file(b"a") == b"a" * 33
        inexact.gate.set()
        assert wait_until(
            lambda: (Op.INVALIDATE_ENTRY, 1, b"a") in {(answer.op, answer.inode, answer.name) for answer in reader.told}, 5.0
        )
        assert reader.read_file(b"a") == b"replaced"


def test_refresh_expires_names_of_inexact_listings(tmp_path: Path, inexact: FakeSource) -> None:
    with fetching(tmp_path, inexact, **FAST) as (harness, reader):
        assert reader.read_file(b"a") == b"a" * 33
        inexact.put("a", b"new")
        harness.call(refresh, harness.cache, [b""])
        assert wait_until(lambda: bool(reader.told), 5.0)
        assert (Op.INVALIDATE_ENTRY, 1, b"a") in {(answer.op, answer.inode, answer.name) for answer in reader.told}
        assert reader.read_file(b"a") == b"new"
