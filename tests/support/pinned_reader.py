"""A program that reads objects whose every version is one repeated byte: `python pinned_reader.py JSON`.

It keeps some files open over the replacements of their objects, reads each here and there, and checks that a read, and an open
file as a whole, shows one version only. It prints one JSON object: reads, opens [[name, opened at, first read at, byte or null
for ENOENT]], mixed (within a read), switched (within an open file), short (an end where there is none), stale (ESTALE from a
read), open_stale, errors (any other errno's name), pinned_reads (of files whose object was replaced since, as far as this
program saw). Times are monotonic.
"""

from __future__ import annotations

import collections
import errno
import json
import os
import random
import sys
import time
from dataclasses import dataclass
from typing import Any

OPEN_FILES = 6
LENGTHS = (1, 4096, 65_536, 300_000, 1 << 20)


@dataclass(slots=True)
class Opened:
    name: str
    fd: int
    opened_at: float
    size: int
    byte: int = -1


class PinnedReader:
    def __init__(self, job: dict[str, Any]) -> None:
        self.root = job["root"]
        self.names: list[str] = job["names"]
        self.seconds = float(job["seconds"])  # at most
        self.stop = job["stop"]  # it ends once this file is there
        self.random = random.Random(job["seed"])
        self.open: list[Opened] = []
        self.newest: dict[str, int] = {}
        self.opens: list[list[Any]] = []
        self.counts: collections.Counter[str] = collections.Counter()
        self.errors: collections.Counter[str] = collections.Counter()

    def run(self) -> None:
        end = time.monotonic() + self.seconds
        while time.monotonic() < end and not os.path.exists(self.stop):
            if len(self.open) < 2 or self.random.random() < 0.1:
                self._open()
            if self.open:
                self._read(self.random.choice(self.open))
        for one in self.open:
            os.close(one.fd)

    def _open(self) -> None:
        name, now = self.random.choice(self.names), time.monotonic()
        if len(self.open) >= OPEN_FILES:
            self._close(self.random.choice(self.open))
        try:
            fd = os.open(os.path.join(self.root, name), os.O_RDONLY)
        except FileNotFoundError:
            self.opens.append([name, now, time.monotonic(), None])
            return
        except OSError as error:
            self._note(error, "open_stale")
            return
        self.open.append(Opened(name, fd, now, os.fstat(fd).st_size))

    def _read(self, one: Opened) -> None:
        length = self.random.choice(LENGTHS)
        offset = self.random.randrange(0, max(1, one.size))
        try:
            data = self._read_all(one, min(length, one.size - offset), offset)
        except OSError as error:
            self._note(error, "stale")
            self._close(one)
            return
        self.counts["reads"] += 1
        if len(data) != min(length, one.size - offset):
            self.counts["short"] += 1
        if not data:
            return
        if data.count(data[0]) != len(data):
            self.counts["mixed"] += 1
        if one.byte < 0:
            one.byte = data[0]
            self.newest[one.name] = data[0]
            self.opens.append([one.name, one.opened_at, time.monotonic(), data[0]])
        elif one.byte != data[0]:
            self.counts["switched"] += 1
        if self.newest[one.name] != one.byte:
            self.counts["pinned_reads"] += 1

    def _read_all(self, one: Opened, length: int, offset: int) -> bytes:
        """As programs do: a read that ends early is continued (the kernel gives what it had before a page that fails)."""
        data = os.pread(one.fd, length, offset)
        while 0 < len(data) < length:
            more = os.pread(one.fd, length - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def _note(self, error: OSError, stale: str) -> None:
        if error.errno == errno.ESTALE:
            self.counts[stale] += 1
        else:
            self.errors[errno.errorcode.get(error.errno or 0, str(error.errno))] += 1

    def _close(self, one: Opened) -> None:
        os.close(one.fd)
        self.open.remove(one)


def main() -> None:
    reader = PinnedReader(json.loads(sys.argv[1]))
    reader.run()
    print(json.dumps({**reader.counts, "opens": reader.opens, "errors": dict(reader.errors)}))


if __name__ == "__main__":
    main()
