from __future__ import annotations

from pathlib import Path

import pytest

from fusecache.fetch import ballast
from fusecache.fetch.ballast import BALLAST_BYTES, Ballast
from tests.support.log_check import LogCheck
from tests.support.small_disks import SmallDisk


def test_ballast_takes_real_space_and_gives_it_back(tmp_path: Path, expect_log: LogCheck) -> None:
    one = Ballast(tmp_path)
    one.make()
    assert one.is_there
    assert (tmp_path / "ballast").stat().st_blocks * 512 >= BALLAST_BYTES
    expect_log("gave up the ballast")
    assert one.release()
    assert not one.is_there
    assert not one.release()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.root
def test_ballast_comes_back_when_there_is_room(tmp_path: Path, expect_log: LogCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ballast, "RETRY_SECONDS", 0.0)
    with SmallDisk(tmp_path / "disk", 32 << 20) as disk:
        one = Ballast(disk.path)
        one.make()
        disk.fill()
        expect_log("gave up the ballast")
        assert one.release()
        disk.fill()
        one.tick()
        assert not one.is_there
        disk.empty()
        one.tick()
        assert one.is_there


@pytest.mark.root
def test_a_disk_without_room_for_ballast_is_said(tmp_path: Path, expect_log: LogCheck) -> None:
    with SmallDisk(tmp_path / "disk", 1 << 20) as disk:
        one = Ballast(disk.path)
        expect_log("no room for .* bytes of ballast")
        one.make()
        assert not one.is_there
        assert list(disk.path.iterdir()) == []
