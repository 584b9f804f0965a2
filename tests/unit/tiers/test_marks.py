"""Access marks: one byte a block, shared with readers."""

from __future__ import annotations

from pathlib import Path

import pytest

from fusecache.tiers.marks import MARK_SLOTS, Marks
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
