"""Access marks: one byte a block, shared with readers."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusecache.tiers.marks import MARK_SLOTS, NEVER, TICKS, Marks
from tests.support.log_check import LogCheck
from tests.support.small_disks import SmallDisk


def test_a_mark_is_seen_by_the_other_side_and_taken_once(tmp_path: Path) -> None:
    writer, reader = Marks(tmp_path / "marks", create=True), Marks(tmp_path / "marks")
    reader.set(5)
    assert writer.is_set(5)
    assert writer.take(5)
    assert not writer.take(5)
    assert not reader.is_set(5)
    writer.close()
    reader.close()


def test_marks_survive_and_a_file_of_another_size_is_made_anew(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks", create=True)
    marks.set(MARK_SLOTS + 3)
    marks.close()
    marks = Marks(tmp_path / "marks", create=True)
    assert marks.is_set(3)  # slots are shared modulo their number
    marks.close()
    (tmp_path / "marks").write_bytes(b"\1" * 10)
    marks = Marks(tmp_path / "marks", create=True)
    assert not marks.is_set(3)
    marks.close()


def test_a_mark_tells_how_long_ago_it_was_set(tmp_path: Path) -> None:
    writer, reader = Marks(tmp_path / "marks", create=True), Marks(tmp_path / "marks")
    assert writer.idle_ticks(5) == NEVER
    for ago in (0, 1, TICKS - 1):
        reader.set(5)
        for _ in range(ago):
            writer.advance()
        assert writer.idle_ticks(5) == ago
    writer.advance()
    assert writer.idle_ticks(5) == 0  # the clock went round: it has to be chilled before
    writer.close()
    reader.close()


def test_the_clock_goes_on_after_a_restart(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks", create=True)
    marks.set(5)
    marks.advance()
    marks.close()
    marks = Marks(tmp_path / "marks", create=True)
    assert marks.idle_ticks(5) == 1
    marks.close()


def test_what_is_cold_looks_unread_until_it_is_read(tmp_path: Path) -> None:
    marks = Marks(tmp_path / "marks", create=True)
    marks.chill(5)
    assert (marks.is_set(5), marks.is_unread(5), marks.take(5), marks.idle_ticks(5)) == (False, False, False, NEVER)
    marks.set(5)
    assert marks.is_set(5)
    marks.move(5, 6)
    marks.move(7, 8)
    assert (marks.idle_ticks(6), marks.idle_ticks(8)) == (0, 0)
    marks.close()


@pytest.mark.root
def test_marks_survive_a_disk_that_becomes_full(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", 32 << 20) as disk:
        marks, reader = Marks(disk.path / "marks", create=True), Marks(disk.path / "marks")
        disk.fill()
        for order in range(0, MARK_SLOTS, 4096):
            reader.set(order)  # a hole here would be a SIGBUS
        assert marks.take(4096)
        marks.close()
        reader.close()


@pytest.mark.root
def test_marks_without_room_are_private(tmp_path: Path, expect_log: LogCheck) -> None:
    with SmallDisk(tmp_path / "disk", 32 << 20) as disk:
        disk.fill(leave_bytes=1 << 20)
        expect_log("no room for access marks")
        marks, reader = Marks(disk.path / "marks", create=True), Marks(disk.path / "marks")
        assert not reader.is_shared
        for order in range(0, MARK_SLOTS, 4096):
            reader.set(order)
        assert reader.take(4096)
        assert not marks.take(8192)
        marks.close()
        reader.close()
