"""A program in which many threads read one file at once: `python crowd.py JSON`.

Every thread reads the whole file with O_DIRECT (so that each of its reads reaches the mount), from its own place on, and
compares it with the truth. It prints one JSON object: readers, reads, bytes, wrong, errors (errno name -> count), seconds.
"""

from __future__ import annotations

import collections
import errno
import json
import mmap
import os
import sys
import threading
import time
from typing import Any

PIECE = 1 << 20


class Crowd:
    def __init__(self, job: dict[str, Any]) -> None:
        self.path = job["path"]
        self.readers = int(job["readers"])
        self.spread = bool(job["spread"])  # each from a place of its own; else all from the beginning
        with open(job["truth"], "rb") as file:
            self.truth = file.read()
        self.lock = threading.Lock()
        self.counts: collections.Counter[str] = collections.Counter()
        self.errors: collections.Counter[str] = collections.Counter()
        self.gate = threading.Barrier(self.readers)

    def run(self) -> dict[str, Any]:
        threads = [threading.Thread(target=self._read, args=(number,)) for number in range(self.readers)]
        started = time.monotonic()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return {
            **self.counts,
            "errors": dict(self.errors),
            "readers": self.readers,
            "seconds": round(time.monotonic() - started, 2),
        }

    def _read(self, number: int) -> None:
        pieces = -(-len(self.truth) // PIECE)
        first = number * pieces // self.readers if self.spread else 0
        with mmap.mmap(-1, PIECE) as buffer:
            self.gate.wait()
            fd = os.open(self.path, os.O_RDONLY | os.O_DIRECT)
            try:
                for piece in range(pieces):
                    self._read_piece(fd, buffer, (first + piece) % pieces * PIECE)
            finally:
                os.close(fd)

    def _read_piece(self, fd: int, buffer: mmap.mmap, offset: int) -> None:
        try:
            count = os.preadv(fd, [buffer], offset)
        except OSError as error:
            with self.lock:
                self.errors[errno.errorcode.get(error.errno or 0, str(error.errno))] += 1
            return
        is_right = buffer[:count] == self.truth[offset : offset + PIECE]
        with self.lock:
            self.counts.update({"reads": 1, "bytes": count, "wrong": not is_right})


def main() -> None:
    print(json.dumps(Crowd(json.loads(sys.argv[1])).run()))


if __name__ == "__main__":
    main()
