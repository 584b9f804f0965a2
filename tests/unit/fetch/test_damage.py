"""Damage in the cache: found by a reader, the scrubber, or before a hand-over; forgotten once, and only while it is there."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from fusecache.contract.shared_memory import Counter
from fusecache.tiers.container_files import container_path
from tests.support.block_damage import damage_block, extent_of
from tests.support.cache_reader import CacheReader
from tests.support.fake_source import FakeSource, content
from tests.support.fetch_harness import BLOCK, FetchHarness, fetching
from tests.support.log_check import LogCheck

BLOCKS = 4
DATA = content("file", BLOCKS * BLOCK)
QUIET: dict[str, Any] = {"ticks": False, "ttl_seconds": 1000.0}


def made_source() -> FakeSource:
    source = FakeSource()
    source.put("file", DATA)
    return source


def cached(reader: CacheReader) -> int:
    inode = reader.inode(b"file")
    assert reader.read(inode, 0, len(DATA)) == DATA
    return inode


def test_a_report_of_damage_that_was_healed_meanwhile_is_ignored(tmp_path: Path) -> None:
    """A block fetched again lies where the damaged one lay: a second reader's late report must not throw the good one away."""
    with fetching(tmp_path, made_source(), keep_whole=True, **QUIET) as (harness, reader):
        inode = cached(reader)
        damage_block(harness, inode, 1)
        assert harness.call_sync(harness.cache.forget_damaged, inode, 1)
        assert extent_of(harness, inode, 1) is None
        assert reader.read(inode, 0, len(DATA)) == DATA
        before = harness.counter(Counter.REMOTE_BYTES)
        assert not harness.call_sync(harness.cache.forget_damaged, inode, 1)
        assert extent_of(harness, inode, 1) is not None
        assert reader.read(inode, 0, len(DATA)) == DATA
        assert harness.counter(Counter.REMOTE_BYTES) == before


def test_a_container_that_is_gone_is_forgotten(tmp_path: Path) -> None:
    with fetching(tmp_path, made_source(), **QUIET) as (harness, reader):
        inode = cached(reader)
        extent = extent_of(harness, inode, 0)
        assert extent is not None
        Path(container_path(harness.tiers[extent.tier].path, extent.container)).unlink()
        assert harness.call_sync(harness.cache.forget_damaged, inode, 0)
        assert reader.read(inode, 0, len(DATA)) == DATA


def test_the_scrubber_finds_and_counts_every_damaged_block_once(tmp_path: Path, expect_log: LogCheck) -> None:
    expect_log("2 damaged blocks were found in idle time")
    with fetching(tmp_path, made_source(), **QUIET) as (harness, reader):
        inode = cached(reader)
        damage_block(harness, inode, 0)
        damage_block(harness, inode, 2)
        assert harness.call(harness.cache.scrubber.scrub_batch) == 2
        assert [extent_of(harness, inode, block) is None for block in range(BLOCKS)] == [True, False, True, False]
        assert harness.counter(Counter.FETCH_CHECKSUM_FAILURES) == 2
        assert harness.call(harness.cache.scrubber.scrub_batch) == 0
        assert reader.read(inode, 0, len(DATA)) == DATA


def written_ns(harness: FetchHarness, number: int) -> int:
    def get() -> int:
        with harness.index.read() as txn:
            row = harness.index.containers.get(txn, number)
            return row.written_ns if row is not None else -1

    return harness.call_sync(get)


def verify(harness: FetchHarness, inode: int) -> None:
    """What an OPEN that could not be handed over starts; returns when it is through."""

    def start() -> None:
        with harness.index.read() as txn:
            row = harness.index.inodes.get(txn, inode)
        assert row is not None
        harness.cache.verification.note_open(inode, row)

    harness.call_sync(start)
    deadline = time.monotonic() + 5
    while harness.call_sync(lambda: bool(harness.cache.verification._under_way)):
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_a_container_that_was_touched_is_verified_and_trusted_again(tmp_path: Path) -> None:
    with fetching(tmp_path, made_source(), keep_whole=True, **QUIET) as (harness, reader):
        inode = cached(reader)
        extent = extent_of(harness, inode, 0)
        assert extent is not None
        tier, number = harness.tiers[extent.tier], extent.container
        trusted = written_ns(harness, number)
        assert trusted == tier.changed_ns(number), "a complete container is trusted as it was written"
        path = Path(container_path(tier.path, number))
        path.chmod(0o640)  # a new ctime, the same bytes
        assert tier.changed_ns(number) != trusted
        verify(harness, inode)
        assert written_ns(harness, number) == tier.changed_ns(number)
        assert harness.counter(Counter.FETCH_CHECKSUM_FAILURES) == 0


def test_verification_before_a_hand_over_forgets_what_is_damaged_and_trusts_nothing(tmp_path: Path, expect_log: LogCheck) -> None:
    expect_log("1 damaged blocks found before hand-over")
    with fetching(tmp_path, made_source(), keep_whole=True, **QUIET) as (harness, reader):
        inode = cached(reader)
        extent = extent_of(harness, inode, 3)
        assert extent is not None
        damage_block(harness, inode, 3)
        verify(harness, inode)
        assert extent_of(harness, inode, 3) is None
        assert harness.counter(Counter.FETCH_CHECKSUM_FAILURES) == 1
        assert written_ns(harness, extent.container) != harness.tiers[extent.tier].changed_ns(extent.container)
        assert reader.read(inode, 0, len(DATA)) == DATA
