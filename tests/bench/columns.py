"""The columns of the table: what is measured, in which unit, and in which session a figure comes up. Stateless."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Column(NamedTuple):
    """`group` is what --only may name beside the column itself; `cold` columns start with an empty cache."""

    name: str
    title: str
    unit: str
    group: str
    cold: bool = False


MB_S = "MB/s"
FILES_S = "files/s"
NAMES_S = "names/s"
READS_S = "reads/s"

COLUMNS = (
    Column("big-cold", "big file, cold", MB_S, "big", cold=True),
    Column("big-cached", "big file, cached, pages dropped", MB_S, "big"),
    Column("big-hot", "big file, hot", MB_S, "big"),
    Column("random-1", "random 128 KiB preads, cached, 1 thread", READS_S, "random"),
    Column("random-8", "random 128 KiB preads, cached, 8 threads", READS_S, "random"),
    Column("small-cold-shuffled-1", "small files, cold, shuffled, 1 reader", FILES_S, "small", cold=True),
    Column("small-cold-shuffled-2", "small files, cold, shuffled, 2 readers", FILES_S, "small", cold=True),
    Column("small-cold-listed-1", "small files, cold, in order, 1 reader", FILES_S, "small", cold=True),
    Column("small-cold-listed-2", "small files, cold, in order, 2 readers", FILES_S, "small", cold=True),
    Column("small-cached-1", "small files, cached, pages dropped, 1 reader", FILES_S, "small"),
    Column("small-cached-2", "small files, cached, pages dropped, 2 readers", FILES_S, "small"),
    Column("small-hot-1", "small files, hot, 1 reader", FILES_S, "small"),
    Column("small-hot-2", "small files, hot, 2 readers", FILES_S, "small"),
    Column("find-first", "find, first time, background listing off", NAMES_S, "find", cold=True),
    Column("find-mounted", "find, first time, mounted with its defaults", NAMES_S, "find", cold=True),
    Column("find-again", "find, again, dentries dropped", NAMES_S, "find"),
)
BY_NAME = {column.name: column for column in COLUMNS}
ALL = tuple(BY_NAME)


def select(words: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that any word names: a column, a group, or the beginning of a name. Raises: ValueError."""
    chosen = set()
    for word in words:
        found = {name for name, column in BY_NAME.items() if word == column.group or name.startswith(word)}
        if not found:
            raise ValueError(f"no column is called {word!r}; there are: {', '.join(ALL)}")
        chosen |= found
    return tuple(name for name in ALL if name in chosen)
