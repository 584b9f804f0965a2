"""A tier's files: made where they belong, punched, unlinked, and left alone for a while after an error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from fusecache.contract.mount_spec import Medium, TierSpec
from fusecache.tiers.container_files import container_path
from fusecache.tiers.tier import ALIGNMENT, MAX_WRITABLE, Tier, align
from tests.support.index_check import allocated_bytes
from tests.support.log_check import LogCheck


@pytest.fixture
def tier(tmp_path: Path) -> Iterator[Tier]:
    made = Tier(0, TierSpec(str(tmp_path / "tier"), Medium.SSD, 1 << 20), 1 << 20)
    made.prepare()
    yield made
    made.close_writable()


def write(tier: Tier, container: int, data: bytes, offset: int = 0) -> None:
    fd = tier.duplicate_for_writing(container, create=True)
    os.pwrite(fd, data, offset)
    os.close(fd)


@pytest.mark.parametrize(("length", "aligned"), [(0, 0), (1, 4096), (4096, 4096), (4097, 8192)])
def test_lengths_are_rounded_up_to_pages(length: int, aligned: int) -> None:
    assert align(length) == aligned


def test_a_punched_range_gives_its_pages_back_and_reads_as_zeros(tier: Tier) -> None:
    write(tier, 1, b"x" * (3 * ALIGNMENT))
    before = allocated_bytes(tier.path)
    tier.punch(1, ALIGNMENT, ALIGNMENT)
    assert allocated_bytes(tier.path) == before - ALIGNMENT
    data = Path(container_path(tier.path, 1)).read_bytes()
    assert data == b"x" * ALIGNMENT + bytes(ALIGNMENT) + b"x" * ALIGNMENT


def test_punching_or_unlinking_what_is_gone_is_no_error(tier: Tier) -> None:
    tier.punch(77, 0, ALIGNMENT)
    tier.unlink(77)
    assert not tier.is_failing()


def test_a_container_that_is_gone_is_not_made_by_accident(tier: Tier) -> None:
    with pytest.raises(FileNotFoundError):
        tier.duplicate_for_writing(5, create=False)
    assert not tier.has(5)


def test_the_directory_comes_back_with_the_first_container(tier: Tier) -> None:
    write(tier, 0x1FF, b"data")
    assert tier.has(0x1FF)
    assert list(tier.containers_on_disk()) == [0x1FF]
    assert tier.size_of(0x1FF) == 4
    assert oct(os.stat(tier.path).st_mode & 0o777) == "0o700"


def test_a_directory_that_was_removed_is_one_error_of_the_tier(tier: Tier, expect_log: LogCheck) -> None:
    """It counted as nothing: the directory was made again, and a user saw a cache that forgets."""
    expect_log(r"tier .*: its directory was removed", at_least=1)
    write(tier, 0x1FF, b"data")
    assert tier.errors == 0
    shutil.rmtree(tier.path)
    tier.close_writable()
    write(tier, 0x2FF, b"data")
    write(tier, 0x300, b"data")
    assert (tier.errors, tier.is_failing()) == (1, False)
    assert "removed" in tier.last_error
    assert len(expect_log.records) == 1


def test_a_quota_smaller_than_a_block_is_an_error_of_the_tier(tier: Tier, expect_log: LogCheck) -> None:
    tier.note_small_quota(tier.quota_bytes)
    assert tier.errors == 0
    expect_log("the quota of .* is smaller than a block", at_least=1)
    tier.note_small_quota(tier.quota_bytes + 1)
    assert tier.errors == 1


def test_descriptors_for_writing_are_bounded(tier: Tier) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for container in range(1, MAX_WRITABLE + 20):
        write(tier, container, b"x")
    assert len(os.listdir("/proc/self/fd")) - before <= MAX_WRITABLE


def test_an_error_is_logged_once_and_the_tier_left_alone(tier: Tier, expect_log: LogCheck) -> None:
    expect_log(r"tier .*: .*reads go on without it", at_least=1)
    tier.note_failure(OSError(28, "No space left on device"))
    assert tier.is_failing()
    tier.note_failure(OSError(28, "No space left on device"))
    assert tier.errors == 2
    assert len([record for record in expect_log.records if "reads go on without it" in record.getMessage()]) == 1


def test_symbolic_links_are_not_followed(tier: Tier, tmp_path: Path) -> None:
    path = Path(container_path(tier.path, 9))
    path.parent.mkdir(parents=True)
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError):
        tier.duplicate_for_writing(9, create=True)
    assert not (tmp_path / "elsewhere").exists()


def test_wiping_leaves_what_is_not_ours(tier: Tier) -> None:
    write(tier, 1, b"x")
    (tier.path / "letter").write_text("not a container")
    tier.wipe()
    assert [entry.name for entry in tier.path.iterdir()] == ["letter"]
