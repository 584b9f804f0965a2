"""Reads a directory tree in the ways that programs do, and takes the time: names, sequentially, at random, many small files.

State: the results so far. One thread, and eight for the random reads of one measurement. It reads what is there and changes
nothing; what the kernel keeps of a file is given up before a reading that shall show the cache behind it.
"""

from __future__ import annotations

import os
import random
import stat
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from fusecache.base.units import KIB, MIB
from fusecache.cli.text import printable
from fusecache.contract.errors import CacheError, ErrorKind

READ_BYTES = 1 * MIB
RANDOM_BYTES = 128 * KIB
RANDOM_READS = 2048  # in a pass, at distinct places; fewer if the file is smaller
RANDOM_THREADS = (1, 8)
SMALL_BYTES = 1 * MIB  # files up to this size are small ones, larger ones are read sequentially
MOST_NAMES = 200_000  # of a tree are listed, so that a bench of millions of files ends
MOST_STATS = 5000
LEAST_SECONDS = 0.5  # of what is in memory, in passes: one pass is too short to believe
MOST_PASSES = 20
SEED = 7

MB_S = "MB/s"
FILES_S = "files/s"
READS_S = "reads/s"
NAMES_S = "names/s"


class Result(NamedTuple):
    """One measurement: `amount` is bytes (for MB/s), files, reads or names, in `passes` passes that took `seconds` together."""

    name: str
    title: str
    group: str
    unit: str
    amount: int
    seconds: float
    passes: int

    @property
    def rate(self) -> float:
        return self.amount / max(self.seconds, 1e-9) / (1e6 if self.unit == MB_S else 1)


class File(NamedTuple):
    path: str
    size: int


class Reading:
    """The measurements of one tree, in their order.

    Args:
        first: what the first reading of everything shows: "cold" if nothing can be cached, else "first".
        size_bytes, files: how much of the largest file and how many small files are read.
        check: called between two steps of work; may raise to stop.
    """

    def __init__(self, root: str, first: str, size_bytes: int, files: int, check: Callable[[], None]) -> None:
        self._root = root
        self._first = first
        self._size_bytes = size_bytes
        self._most_files = files
        self._check = check
        self.results: list[Result] = []
        self.notes: list[str] = []

    def run(self, say: Callable[[str], None]) -> None:
        """Measure everything. Raises: CacheError if the tree cannot be read."""
        try:
            say("names")
            files = self._names()
            large, small = self._choose(files)
            if large is not None:
                say(f"{self._name(large)} sequentially")
                self._sequential(large)
                say(f"{self._name(large)} at random")
                self._random(large)
            if small:
                say(f"{len(small):,} small files")
                self._small(small)
        except OSError as error:
            where = error.filename if isinstance(error.filename, str) else self._root
            cure = "see fusecache status and the log of the mount"
            raise CacheError(ErrorKind.UNAVAILABLE, f"{where} cannot be read: {error.strerror}; {cure}") from error

    def _names(self) -> list[File]:
        paths: list[str] = []
        self._take("names-first", f"list names, {self._first}", "metadata", NAMES_S, lambda: self._walk(paths))
        if len(paths) > MOST_STATS:
            paths = sorted(random.Random(SEED).sample(paths, MOST_STATS))
        files: list[File] = []
        self._take("stat-first", f"stat files, {self._first}", "metadata", FILES_S, lambda: self._stat(paths, files))
        self._repeat("names-again", "list names, again", "metadata", NAMES_S, lambda: self._walk([]))
        self._repeat("stat-again", "stat files, again", "metadata", FILES_S, lambda: self._stat(paths, []))
        return files

    def _walk(self, paths: list[str]) -> int:
        """Add the path of each file to `paths`; return the number of names seen."""
        count = 0
        pending = [self._root]
        while pending and count < MOST_NAMES:
            self._check()
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    count += 1
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(entry.path)
                    elif entry.is_file(follow_symlinks=False):
                        paths.append(entry.path)
        return count

    def _stat(self, paths: Sequence[str], files: list[File]) -> int:
        for path in paths:
            status = os.stat(path)
            if stat.S_ISREG(status.st_mode) and status.st_size:
                files.append(File(path, status.st_size))
        return len(paths)

    def _choose(self, files: Sequence[File]) -> tuple[File | None, list[File]]:
        """Return the largest file, if it is no small one, and a sample of the small ones in random order."""
        largest = max(files, key=lambda file: file.size, default=None)
        if largest is None or largest.size <= SMALL_BYTES:
            largest = None
            self.notes.append("no file of more than 1 MiB was found: nothing was read sequentially or at random")
        small = [file for file in files if file.size <= SMALL_BYTES]
        if not small:
            self.notes.append("no file of up to 1 MiB was found: no small files were read")
        random.Random(SEED).shuffle(small)
        return largest, small[: self._most_files]

    def _name(self, file: File) -> str:
        return printable(os.path.relpath(file.path, self._root))

    def _sequential(self, file: File) -> None:
        limit = min(file.size, self._size_bytes)
        if limit < file.size:
            self.notes.append(
                f"--size is less than {self._name(file)} has: a file that is not cached as a whole gets no passthrough"
            )
        for name, title, read in (
            ("sequential-first", f"one file, {self._first}", self._take),
            ("sequential-cached", "one file, cached", self._repeat_forgotten([file])),
            ("sequential-hot", "one file, hot", self._repeat),
        ):
            read(name, title, "sequential", MB_S, lambda: self._stream(file.path, limit))

    def _random(self, file: File) -> None:
        pieces = min(file.size, self._size_bytes) // RANDOM_BYTES
        for threads in RANDOM_THREADS:
            chosen = random.Random(threads).sample(range(pieces), min(RANDOM_READS, pieces))
            offsets = [piece * RANDOM_BYTES for piece in chosen]
            title = f"128 KiB at random, cached, {threads} thread{'s' if threads > 1 else ''}"
            work = partial(self._scattered, file.path, offsets, threads)
            self._repeat_forgotten([file])(f"random-{threads}", title, "random", READS_S, work)

    def _small(self, files: Sequence[File]) -> None:
        for name, title, read in (
            ("small-first", f"small files, {self._first}", self._take),
            ("small-cached", "small files, cached", self._repeat_forgotten(files)),
            ("small-hot", "small files, hot", self._repeat),
        ):
            read(name, title, "small files", FILES_S, lambda: self._read_all(files))

    def _stream(self, path: str, limit: int) -> int:
        buffer = memoryview(bytearray(READ_BYTES))
        total = 0
        with open(path, "rb", buffering=0) as file:
            while total < limit and (count := file.readinto(buffer)):
                total += count
                self._check()
        return total

    def _read_all(self, files: Sequence[File]) -> int:
        buffer = memoryview(bytearray(SMALL_BYTES))
        for one in files:
            self._check()
            with open(one.path, "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
        return len(files)

    def _scattered(self, path: str, offsets: Sequence[int], threads: int) -> int:
        failures: list[OSError] = []
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

        def read(mine: Sequence[int]) -> None:
            buffers = [memoryview(bytearray(RANDOM_BYTES))]
            try:
                for offset in mine:
                    os.preadv(fd, buffers, offset)
            except OSError as error:
                failures.append(error)

        try:
            workers = [threading.Thread(target=read, args=(offsets[number::threads],)) for number in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        finally:
            os.close(fd)
        self._check()
        if failures:
            raise failures[0]
        return len(offsets)

    def _take(self, name: str, title: str, group: str, unit: str, work: Callable[[], int]) -> None:
        """Measure one pass."""
        started = time.monotonic()
        amount = work()
        self.results.append(Result(name, title, group, unit, amount, time.monotonic() - started, 1))

    def _repeat(
        self, name: str, title: str, group: str, unit: str, work: Callable[[], int], before: Callable[[], None] = lambda: None
    ) -> None:
        """Measure passes until they took long enough; `before` each of them is not counted."""
        amount, seconds, passes = 0, 0.0, 0
        while seconds < LEAST_SECONDS and passes < MOST_PASSES:
            before()
            started = time.monotonic()
            amount += work()
            seconds += time.monotonic() - started
            passes += 1
        self.results.append(Result(name, title, group, unit, amount, seconds, passes))

    def _repeat_forgotten(self, files: Sequence[File]) -> Callable[[str, str, str, str, Callable[[], int]], None]:
        def forget() -> None:
            for one in files:
                fd = os.open(one.path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
                finally:
                    os.close(fd)

        return lambda name, title, group, unit, work: self._repeat(name, title, group, unit, work, forget)
