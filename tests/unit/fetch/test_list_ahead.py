"""Listings ahead of a program that walks a tree."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from fusecache.fetch.list_ahead import MAX_UNDER_WAY, ListAhead
from fusecache.index.inodes import ROOT


@dataclass
class Row:
    parent: int
    path: bytes


@dataclass
class Directories:
    """A root with ten directories 2..11, each with one directory below it: 102..111."""

    listed: set[int] = field(default_factory=set)

    def inode(self, number: int) -> Row | None:
        return Row(ROOT, b"d%03d" % number) if number < 100 else Row(number - 100, b"d%03d/sub" % (number - 100))

    def unlisted_near(self, parent: int, name: bytes, count: int, without: Collection[int]) -> list[int]:
        if parent != ROOT:
            return []
        unlisted = [number for number in range(2, 12) if number not in self.listed and number not in without]
        after = [number for number in unlisted if b"d%03d" % number > name]
        return [*after, *(number for number in reversed(unlisted) if number not in after)][:count]


def walk(*order: int, under_way: Collection[int] = ()) -> list[int]:
    started: list[int] = []
    directories = Directories()

    def start(inode: int) -> None:
        directories.listed.add(inode)
        started.append(inode)

    ahead = ListAhead(directories, start, under_way)  # type: ignore[arg-type]  # only these two methods are used
    for inode in order:
        directories.listed.add(inode)
        ahead.note(inode)
    return started


def test_a_single_listing_lists_nothing_else() -> None:
    assert walk(5) == []
    assert walk(ROOT) == []


def test_a_directory_after_its_parent_brings_the_next_siblings() -> None:
    assert walk(ROOT, 2) == [3, 4, 5, 6]


def test_a_directory_after_its_sibling_does_too_as_the_parent_may_be_known_for_long() -> None:
    assert walk(2, 3) == [4, 5, 6, 7]


def test_more_siblings_are_listed_when_the_walk_goes_on() -> None:
    assert walk(ROOT, 2, 3) == list(range(3, 12))


def test_what_was_listed_ahead_counts_as_part_of_the_walk() -> None:
    assert walk(ROOT, 2, 103) == [3, 4, 5, 6]  # nothing beside 103, but it was recognised without 3 being read


def test_a_program_that_comes_from_the_end_is_served_too() -> None:
    assert walk(ROOT, 11) == [10, 9, 8, 7]


def test_many_listings_at_once_are_enough() -> None:
    assert walk(ROOT, 2, under_way=range(1000, 1000 + MAX_UNDER_WAY)) == []
    assert walk(ROOT, 2, under_way=range(1001, 1000 + MAX_UNDER_WAY)) == [3]


def test_as_many_are_ahead_of_a_reader_who_is_among_them() -> None:
    assert walk(ROOT, 2, under_way=[3, 4]) == [5, 6, 7, 8]
