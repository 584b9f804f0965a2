"""The table of backing ids and answers: what another process finds in it."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from fusecache.custody import favour_table
from fusecache.custody.favour_table import FavourTable, make_favour_table
from fusecache.custody.favours import Favours


@pytest.fixture
def fd() -> Iterator[int]:
    fd = make_favour_table()
    yield fd
    os.close(fd)


def test_a_successor_finds_modes_and_answers(fd: int) -> None:
    table = FavourTable(fd)
    table.put(7, 3, 1)
    table.put(8, 0, 2)
    table.put(7, 3, 5)
    table.put(9, 4, 1)
    table.drop(9)
    table.drop(10)
    table.answered("open", 100, 3)
    table.answered("release", 102, 0)
    table.close()
    again = FavourTable(fd)
    assert sorted(again.modes()) == [(7, 3, 5), (8, 0, 2)]
    assert sorted(again.take_answers()) == [("open", 100, 3), ("release", 102, 0)]
    again.put(11, 1, 1)
    again.put(12, 1, 1)
    assert sorted(FavourTable(fd).modes()) == [(7, 3, 5), (8, 0, 2), (11, 1, 1), (12, 1, 1)], "in rows of their own"
    again.close()


def test_a_table_takes_the_memory_of_what_is_in_it(fd: int) -> None:
    """Custody of 22 mounts was killed for memory: each table took all of its own, 1.1 MiB of rows and 2.6 of free ones."""
    table = FavourTable(fd)
    assert os.fstat(fd).st_blocks == 0
    table.put(1, 1, 1)
    assert os.fstat(fd).st_blocks * 512 <= 4096
    assert FavourTable(fd).take_answers() == []
    assert os.fstat(fd).st_blocks * 512 <= 4096
    table.close()


def test_the_oldest_answers_make_room_and_a_full_table_takes_nothing_more(fd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    table = FavourTable(fd)
    for unique in range(1, favour_table.ANSWERS + 11):
        table.answered("open", unique, 0)
    assert min(unique for _, unique, _ in FavourTable(fd).take_answers()) == 11
    for inode in range(1, favour_table.MODES + 2):
        table.put(inode, 0, 1)
    assert len(list(table.modes())) == favour_table.MODES
    table.drop(5)
    table.put(favour_table.MODES + 5, 1, 1)
    assert (favour_table.MODES + 5, 1, 1) in set(table.modes())
    table.close()


def test_favours_go_on_where_a_dead_custody_stopped(fd: int) -> None:
    """Opens are counted on, and a question that is repeated counts once."""
    first = Favours(-1, (), allow_passthrough=False, table=FavourTable(fd))
    for unique in (10, 12, 14):
        assert first.answer("open", 5, unique, None) == {"mode": "cached"}
    second = Favours(-1, (), allow_passthrough=False, table=FavourTable(fd))
    assert second.answer("open", 5, 14, None) == {"mode": "cached"}
    for unique in (20, 22, 24):
        assert [opens for _, _, opens in FavourTable(fd).modes()] == [3 - (unique - 20) // 2]
        second.answer("release", 5, unique, None)
    assert list(FavourTable(fd).modes()) == []
