"""The columns of the table: what is measured, in which unit, on which part of the dataset. Stateless."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import NamedTuple


class Job(enum.Enum):
    """What readers do for a column. `MEMORY` and `FIRST_BYTE` are no reading: sessions.py measures them in their own way.
    `WRITE` is one file, `CREATE` many small ones, `PATCH` a MiB within one, `SENT` what the store was sent for that
    (writing/sessions.py).

    `STREAM` gives each reader a file, all of them the same if there is but one; `COPY` reads all files, one after the other;
    `FOREIGN` is a program or library that is not ours, named by the end of the column's name.
    """

    STREAM = "stream"
    RANDOM = "random"
    FILES = "files"
    WALK = "walk"
    LS = "ls"
    COPY = "copy"
    FOREIGN = "foreign"
    WARM = "warm"
    FIRST_BYTE = "first byte"
    MEMORY = "memory"
    WRITE = "write"
    CREATE = "create"
    PATCH = "patch"
    SENT = "sent"


WRITING = (Job.WRITE, Job.CREATE, Job.PATCH)


class Kept(enum.Enum):
    """What is still there when readers start: nothing, the contender's cache, or the kernel's pages too."""

    NOTHING = "cold"
    CACHE = "cached"
    PAGES = "hot"


MB_S = "MB/s"
FILES_S = "files/s"
NAMES_S = "names/s"
READS_S = "reads/s"
SECONDS = "s"
MEMORY_MIB = "MiB"
LESS_IS_BETTER = (SECONDS, MEMORY_MIB)


class Column(NamedTuple):
    """`group` is what --only may name beside the column itself.

    `listed`: small files in the order of the listing. `on_request`: takes so long that it is measured only if --only or --also
    names it.
    """

    name: str
    title: str
    unit: str
    group: str
    job: Job
    kept: Kept
    readers: int = 1
    listed: bool = False
    on_request: bool = False

    @property
    def cold(self) -> bool:
        return self.kept is Kept.NOTHING

    @property
    def leaves_no_trace(self) -> bool:
        """Whether what is measured after it in a session is the same without it."""
        return not self.cold and self.job in (Job.STREAM, Job.RANDOM, Job.FILES, Job.COPY, Job.FOREIGN)


COLD, CACHED, HOT = Kept.NOTHING, Kept.CACHE, Kept.PAGES
COLUMNS = (
    Column("big-cold", "big file, cold", MB_S, "big", Job.STREAM, COLD),
    Column("big-cached", "big file, cached, pages dropped", MB_S, "big", Job.STREAM, CACHED),
    Column("big-hot", "big file, hot", MB_S, "big", Job.STREAM, HOT),
    Column("random-1", "random 128 KiB preads, cached, 1 thread", READS_S, "random", Job.RANDOM, CACHED),
    Column("random-8", "random 128 KiB preads, cached, 8 threads", READS_S, "random", Job.RANDOM, CACHED, 8),
    Column("big-cold-2", "big file, cold, 2 readers", MB_S, "big-2", Job.STREAM, COLD, 2),
    Column("big-cached-2", "big file, cached, pages dropped, 2 readers", MB_S, "big-2", Job.STREAM, CACHED, 2),
    Column("big-hot-2", "big file, hot, 2 readers", MB_S, "big-2", Job.STREAM, HOT, 2),
    Column("random-hot-1", "random 128 KiB preads, hot, 1 thread", READS_S, "random", Job.RANDOM, HOT),
    Column("random-hot-8", "random 128 KiB preads, hot, 8 threads", READS_S, "random", Job.RANDOM, HOT, 8),
    Column("checked", "big file, cached, pages dropped, every byte checked", MB_S, "checked", Job.STREAM, CACHED),
    Column("warm-big", "big file, warmed", MB_S, "warm", Job.WARM, COLD),
    Column("parallel", "4 files, 4 readers, cached, pages dropped", MB_S, "parallel", Job.STREAM, CACHED, 4),
    Column("disk", "a file cached on a disk, pages dropped", MB_S, "disk", Job.STREAM, CACHED),
    Column("small-cold-shuffled-1", "small files, cold, shuffled, 1 reader", FILES_S, "small", Job.FILES, COLD),
    Column("small-cold-shuffled-2", "small files, cold, shuffled, 2 readers", FILES_S, "small", Job.FILES, COLD, 2),
    Column("small-cold-listed-1", "small files, cold, in order, 1 reader", FILES_S, "small", Job.FILES, COLD, listed=True),
    Column(
        "small-cold-listed-2",
        "small files, cold, in order, 2 readers",
        FILES_S,
        "small",
        Job.FILES,
        COLD,
        2,
        listed=True,
        on_request=True,
    ),
    Column("small-cached-1", "small files, cached, pages dropped, 1 reader", FILES_S, "small", Job.FILES, CACHED),
    Column("small-cached-2", "small files, cached, pages dropped, 2 readers", FILES_S, "small", Job.FILES, CACHED, 2),
    Column("small-hot-1", "small files, hot, 1 reader", FILES_S, "small", Job.FILES, HOT),
    Column("small-hot-2", "small files, hot, 2 readers", FILES_S, "small", Job.FILES, HOT, 2),
    Column("serve-1", "small files, cached, pages dropped, 2 readers, 1 serve process", FILES_S, "serve", Job.FILES, CACHED, 2),
    Column("serve-2", "small files, cached, pages dropped, 2 readers, 2 serve processes", FILES_S, "serve", Job.FILES, CACHED, 2),
    Column("warm-small", "small files, warmed", FILES_S, "warm", Job.WARM, COLD),
    Column("mixed-cold-1", "log-normal sizes, cold, shuffled, 1 reader", FILES_S, "mixed", Job.FILES, COLD),
    Column("mixed-cold-2", "log-normal sizes, cold, shuffled, 2 readers", FILES_S, "mixed", Job.FILES, COLD, 2),
    Column("mixed-cached-1", "log-normal sizes, cached, pages dropped, 1 reader", FILES_S, "mixed", Job.FILES, CACHED),
    Column("mixed-cached-2", "log-normal sizes, cached, pages dropped, 2 readers", FILES_S, "mixed", Job.FILES, CACHED, 2),
    Column("mixed-hot-1", "log-normal sizes, hot, 1 reader", FILES_S, "mixed", Job.FILES, HOT),
    Column("mixed-hot-2", "log-normal sizes, hot, 2 readers", FILES_S, "mixed", Job.FILES, HOT, 2),
    Column("find-first", "find, first time, background listing off", NAMES_S, "find", Job.WALK, COLD),
    Column("find-mounted", "find, first time, mounted with its defaults", NAMES_S, "find", Job.WALK, COLD),
    Column("find-again", "find, again, dentries dropped", NAMES_S, "find", Job.WALK, CACHED),
    Column("memory", "anonymous memory after find", MEMORY_MIB, "memory", Job.MEMORY, CACHED),
    Column("first-byte-cold", "mount to first byte, cold", SECONDS, "first-byte", Job.FIRST_BYTE, COLD),
    Column("first-byte-warm", "mount to first byte, on a warm cache", SECONDS, "first-byte", Job.FIRST_BYTE, CACHED),
    Column("link-cold", "behind a link, copy of 7 files, cold", MB_S, "link", Job.COPY, COLD),
    Column("link-cached", "behind a link, the copy again, cached, pages dropped", MB_S, "link", Job.COPY, CACHED),
    Column("link-hot", "behind a link, the copy again, hot", MB_S, "link", Job.COPY, HOT),
    Column("foreign-model", "safetensors, all tensors of the big file, cached", MB_S, "foreign", Job.FOREIGN, CACHED),
    Column("foreign-loader", "data loader of 4 processes, small files, cached", FILES_S, "foreign", Job.FOREIGN, CACHED),
    Column("foreign-parquet", "pyarrow, 3 of 8 columns of a Parquet file, cached", MB_S, "foreign", Job.FOREIGN, CACHED),
    Column("foreign-tar", "tar xf, cached", MB_S, "foreign", Job.FOREIGN, CACHED),
    Column("foreign-grep", "grep -r, small files, cached", MB_S, "foreign", Job.FOREIGN, CACHED),
    Column("foreign-sqlite", "SQLite, a scan with 1,000 rows looked up, cached", MB_S, "foreign", Job.FOREIGN, CACHED),
    Column("write-big", "big file, written and closed", MB_S, "writes", Job.WRITE, COLD),
    Column("write-readback", "the same, read back, pages dropped", MB_S, "writes", Job.STREAM, CACHED),
    Column("write-small", "files of 40 KiB, written and closed by 4 writers", FILES_S, "writes", Job.CREATE, COLD, 4),
    Column("write-small-back", "the same, brought to the store later", FILES_S, "writes", Job.CREATE, COLD, 4),
    Column("write-middle", "1 MiB in the middle of an object, written over and closed", SECONDS, "writes", Job.PATCH, COLD),
    Column("write-middle-sent", "the same: sent to the store", MEMORY_MIB, "writes", Job.SENT, COLD),
    Column("names-ls", "many names: first ls of the root", SECONDS, "names", Job.LS, COLD, on_request=True),
    Column("names-ls-restart", "many names: first ls after a restart", SECONDS, "names", Job.LS, CACHED, on_request=True),
    Column(
        "names-find", "many names: find, first time, mounted with its defaults", NAMES_S, "names", Job.WALK, COLD, on_request=True
    ),
    Column("names-again", "many names: find, again, dentries dropped", NAMES_S, "names", Job.WALK, CACHED, on_request=True),
    Column("names-memory", "many names: anonymous memory after find", MEMORY_MIB, "names", Job.MEMORY, CACHED, on_request=True),
)
BY_NAME = {column.name: column for column in COLUMNS}
ALL = tuple(BY_NAME)
USUAL = tuple(column.name for column in COLUMNS if not column.on_request)
MOUNTS_ONLY = ("write-small-back",)
OURS_ONLY = ("checked", "disk", "serve")
FASTEST_ONLY = (
    *("small-cold-listed", "parallel", "mixed", "warm"),
    *("big-2", "random-hot", "link", "foreign"),
)  # not of slow contenders: a run should not take an hour


def select(words: Iterable[str]) -> tuple[str, ...]:
    """Return the columns that any word names: a column, a group, or the beginning of a name. Raises: ValueError."""
    chosen = set()
    for word in words:
        found = {name for name, column in BY_NAME.items() if word == column.group or name.startswith(word)}
        if not found:
            raise ValueError(f"no column is called {word!r}; there are: {', '.join(ALL)}")
        chosen |= found
    return tuple(name for name in ALL if name in chosen)


def all_but(*words: str) -> tuple[str, ...]:
    """Return all columns that no word names."""
    left_out = select(words)
    return tuple(name for name in ALL if name not in left_out)
