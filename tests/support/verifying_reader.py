"""A program that reads below a mount and compares every byte with the truth: `python verifying_reader.py JSON`.

The truth is a directory with the same files. It prints one JSON object at the end: reads, bytes, wrong, errors (errno name ->
count), longest_seconds, slowest, mode. Needs nothing but the standard library, and never holds a file open longer than one read.
What is timed is one question to the mount: open and read of a range, stat, or one page of a listing.
"""

from __future__ import annotations

import contextlib
import errno
import json
import mmap
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

KEPT = 5
SIZES = (1, 511, 4096, 65_536, 131_072, 1_000_000, 1 << 20, 3 << 20)


class Reader:
    def __init__(self, job: dict[str, Any]) -> None:
        self.root = job["root"]
        self.truth = job["truth"]
        self.mode = job.get("mode", "random")
        self.seconds = float(job["seconds"])
        self.random = random.Random(job.get("seed", 0))
        self.drop_caches = float(job.get("drop_caches", 0.0))  # probability per read; needs root
        self.allowed = set(job.get("allowed_errors", ()))
        self.files = sorted(
            str(path.relative_to(self.truth)) for path in Path(self.truth).rglob("*") if path.is_file() and not path.is_symlink()
        )
        self.reads = self.bytes = self.wrong = 0
        self.errors: Counter[str] = Counter()
        self.slowest: list[tuple[float, float, str]] = []  # seconds, monotonic time at the end, what it was; longest first
        self.examples: list[str] = []  # of errors
        self.differences: list[str] = []

    def run(self) -> None:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end:
            try:
                getattr(self, f"_{self.mode}")()
            except OSError as error:
                self.errors[errno.errorcode.get(error.errno or 0, str(error.errno))] += 1
                self.examples.append(str(error)[:200])
                time.sleep(0.01)
            if self.drop_caches and self.random.random() < self.drop_caches:
                Path("/proc/sys/vm/drop_caches").write_text("1")

    @contextlib.contextmanager
    def _timed(self, what: str) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            ended = time.monotonic()
            if len(self.slowest) < KEPT or ended - started > self.slowest[-1][0]:
                self.slowest.append((round(ended - started, 3), ended, what))
                self.slowest = sorted(self.slowest, reverse=True)[:KEPT]

    def _random(self) -> None:
        self._compare(self.random.choice(self.files), direct=False)

    def _direct(self) -> None:
        self._compare(self.random.choice(self.files), direct=True)

    def _sequential(self) -> None:
        name = self.random.choice(self.files)
        offset = 0
        with self._timed(f"stat {name}"):
            size = os.stat(os.path.join(self.root, name)).st_size
        while offset < size:
            offset += self._compare_range(name, offset, 1 << 20, False) or 1
        self.reads += 1

    def _walk(self) -> None:
        expected = {str(path.relative_to(self.truth)) for path in Path(self.truth).rglob("*")}
        found: set[str] = set()
        line = [self.root]
        while line:
            directory = line.pop()
            with self._timed(f"list {os.path.relpath(directory, self.root)}"), os.scandir(directory) as entries:
                listed = list(entries)
            for entry in listed:
                with self._timed(f"stat {os.path.relpath(entry.path, self.root)}"):
                    entry.stat(follow_symlinks=False)
                found.add(os.path.relpath(entry.path, self.root))
                if entry.is_dir(follow_symlinks=False):
                    line.append(entry.path)
        self.reads += 1
        if found != expected:
            self._note_wrong(f"listing differs: {sorted(found ^ expected)[:5]}")

    def _compare(self, name: str, direct: bool) -> None:
        size = os.stat(os.path.join(self.truth, name)).st_size
        length = self.random.choice(SIZES)
        offset = self.random.randrange(0, size + 2)
        if direct:
            offset, length = offset & ~4095, (length + 4095) & ~4095
        self._compare_range(name, offset, length, direct)
        self.reads += 1

    def _compare_range(self, name: str, offset: int, length: int, direct: bool) -> int:
        with open(os.path.join(self.truth, name), "rb") as truth:
            wanted = os.pread(truth.fileno(), length, offset)
        with self._timed(f"{self.mode} read {name} {offset}+{length}"):
            got = self._read(name, offset, length, direct, len(wanted))
        self.bytes += len(got)
        if got != wanted:
            place = next((at for at, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
            self._note_wrong(f"{name} at {offset}+{length}: {len(got)} bytes, not {len(wanted)}, other ones from {place} on")
        return len(got)

    def _note_wrong(self, what: str) -> None:
        self.wrong += 1
        self.differences.append(what)

    def _read(self, name: str, offset: int, length: int, direct: bool, wanted: int) -> bytes:
        """Where the kernel could not get a page, it answers with those before: asking on with the same file says why."""
        fd = os.open(os.path.join(self.root, name), os.O_RDONLY | (os.O_DIRECT if direct else 0))
        try:
            if not direct:
                got = os.pread(fd, length, offset)
                if 0 < len(got) < wanted:
                    os.pread(fd, wanted - len(got), offset + len(got))
                return got
            with mmap.mmap(-1, length) as buffer:
                return buffer[: os.preadv(fd, [buffer], offset)]
        finally:
            os.close(fd)


def main() -> None:
    reader = Reader(json.loads(sys.argv[1]))
    reader.run()
    print(
        json.dumps(
            {
                "reads": reader.reads,
                "bytes": reader.bytes,
                "wrong": reader.wrong,
                "errors": dict(reader.errors),
                "longest_seconds": reader.slowest[0][0] if reader.slowest else 0.0,
                "slowest": reader.slowest,
                "mode": reader.mode,
                "examples": reader.differences[:KEPT] + reader.examples[:KEPT],
            }
        )
    )


if __name__ == "__main__":
    main()
