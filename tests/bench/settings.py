"""The settings of one bench run, as one frozen value. Built by `__main__` from flags and environment; nobody else reads those."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fusecache.base.units import GIB, KIB, MIB
from fusecache.cli.demo_data import large_files

READ_BYTES = 1 * MIB  # buffer of the sequential readers
RANDOM_BYTES = 128 * KIB
RANDOM_READS = 8192  # in a pass, at distinct places, so that the page cache answers none; fewer if the file is smaller
HOT_RANDOM_TIMES = 8  # how often a hot pass reads the same places: once takes a tenth of a second, as much as starting threads
SMALL_BYTES = 100 * KIB
FILES_PER_DIRECTORY = 500
PARALLEL_FILES = 4
NAMES_PER_DIRECTORY = 1000
FOREIGN_BYTES = 256 * MIB  # of a Parquet file, twice what archive and database have; less if the big file is below a GiB
ALL_NAMES = 1_000_000  # the bounds for many names are those of so many
MIDDLE_NAME = "middle.bin"  # what a MiB is written into
WRITTEN_SMALL_BYTES = 40 * KIB
WRITTEN_FILES = 5000  # of that size; fewer if there are fewer than twice as many small files
NAME_BYTES = 4 * KIB  # memory for each of many names, in the store and the cache; a guess
MIXED_MEAN_BYTES = 80 * KIB  # of the log-normal sizes, about


@dataclass(frozen=True, slots=True)
class Settings:
    """One run.

    Attributes:
        big_bytes: size of the big file, and of the files of parallel readers together.
        files: how many small files of `SMALL_BYTES`; there are a quarter as many with log-normal sizes.
        names: how many empty objects the columns of many names have.
        hit_ratios: whether traces are run through the eviction, which needs no contender.
        replay: whether requests are answered by serve processes without a kernel, which needs none either.
        synthetic: whether ten million names that a synthetic store makes up are listed.
        rounds: each column is measured so often for each contender; the median counts.
        contenders: names, in table order.
        columns: names of the columns to measure.
        parent: where the run's directory is made; on tmpfs, so that no disk decides.
        disk: where the run's directory for the disk tier is made; None: there is no disk, and nothing is measured on it.
        output: the document to write; None: the table is only printed.
        raw: file for all single figures as JSON; None: not kept.
        least_seconds: of reading in one figure that need not be cold: a pass over what is in memory takes a tenth of a second.
        reader_seconds: a reader that takes longer counts as failed.
    """

    big_bytes: int
    files: int
    rounds: int
    contenders: tuple[str, ...]
    columns: tuple[str, ...]
    parent: Path = Path("/dev/shm")
    disk: Path | None = None
    output: Path | None = None
    raw: Path | None = None
    names: int = ALL_NAMES
    hit_ratios: bool = False
    replay: bool = False
    synthetic: bool = False
    least_seconds: float = 1.0
    reader_seconds: float = 900.0

    @property
    def mixed_files(self) -> int:
        return max(1, self.files // 4)

    @property
    def written_files(self) -> int:
        return max(1, min(WRITTEN_FILES, self.files // 2))

    @property
    def middle_bytes(self) -> int:
        """Of the file that a MiB is written into."""
        return max(2 * MIB, round(GIB * self.scale) // MIB * MIB)

    @property
    def small_total_bytes(self) -> int:
        return self.files * SMALL_BYTES

    @property
    def mixed_total_bytes(self) -> int:
        return self.mixed_files * MIXED_MEAN_BYTES

    @property
    def scale(self) -> float:
        """What becomes of sizes that are given, in a run with little data."""
        return min(1.0, self.big_bytes / GIB)

    @property
    def link_bytes(self) -> int:
        return sum(file.size for file in large_files(self.scale))

    @property
    def foreign_bytes(self) -> int:
        return round(FOREIGN_BYTES * self.scale)

    @property
    def quota_bytes(self) -> int:
        """Of every cache: nobody has to evict."""
        small = (self.small_total_bytes, self.mixed_total_bytes, 2 * self.foreign_bytes)
        return 2 * max(self.big_bytes, self.link_bytes, *small)

    @property
    def needed_bytes(self) -> int:
        """Memory for the plain copy, the store's objects, JuiceFS's objects, one cache, and what hot reads keep in pages.

        Big and small files are not there at the same time.
        """
        three = (self.small_total_bytes, self.mixed_total_bytes, 3 * self.foreign_bytes)  # and what the archive becomes
        small = 3 * sum(three) + 2 * max(three)
        names = self.names * NAME_BYTES if any(column.startswith("names") for column in self.columns) else 0
        large = max(self.big_bytes, self.link_bytes)
        return max((4 + ("juicefs" in self.contenders)) * large, small, names) + GIB
