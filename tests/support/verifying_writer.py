"""Writes below a directory as programs do, checks what it reads back, and tells what was acknowledged. A program: it is run as a
process of its own, as it has files open on the mount under test.

`python verifying_writer.py JSON` with root, seconds, mode and seed prints JSON: calls, errors, wrong, longest_seconds, and
`files`: each name that must be there at the end, with the SHA-256 of its bytes. `mode`:

sequential  large files in pieces, closed, read back
random      writes, truncations and appends in a few files, against a copy in memory, with fsync now and then
small       many small files, created, overwritten and removed
rename      write a temporary file, fsync, rename it over the last one; read that
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any


class Writer:
    def __init__(self, order: dict[str, Any]) -> None:
        self.root = os.path.join(order["root"], f"{order['mode']}-{order['seed']}")
        self.chance = random.Random(order["seed"])
        self.deadline = time.monotonic() + order["seconds"]
        self.files: dict[str, bytes] = {}
        self.calls = self.wrong = 0
        self.errors: Counter[str] = Counter()
        self.examples: list[str] = []
        self.longest = 0.0

    def run(self, mode: str) -> dict[str, Any]:
        self.call(lambda: os.mkdir(self.root), "mkdir")
        step = {"sequential": self.sequential, "random": self.rewrite, "small": self.small, "rename": self.rename}[mode]
        while time.monotonic() < self.deadline:
            step()
        base = os.path.dirname(self.root)
        return {
            "calls": self.calls,
            "wrong": self.wrong,
            "errors": dict(self.errors),
            "examples": self.examples[:10],
            "longest_seconds": round(self.longest, 3),
            "files": {os.path.relpath(path, base): hashlib.sha256(data).hexdigest() for path, data in self.files.items()},
        }

    def call(self, run: Callable[[], Any], what: str) -> Any:
        """One or more system calls, none of which may fail."""
        began = time.monotonic()
        try:
            return run()
        except OSError as error:
            self.errors[errno.errorcode.get(error.errno or 0, str(error.errno))] += 1
            self.examples.append(f"{what}: {error}")
            return None
        finally:
            self.calls += 1
            self.longest = max(self.longest, time.monotonic() - began)

    def path(self, number: int) -> str:
        return os.path.join(self.root, f"f{number}")

    def write_whole(self, path: str, data: bytes, *, sync: bool = False) -> bool:
        """Return whether every call succeeded. Until then either content may be there."""
        before = sum(self.errors.values())

        def run() -> None:
            with open(path, "wb", buffering=0) as file:
                for start in range(0, len(data), 256 << 10):
                    file.write(data[start : start + (256 << 10)])
                if sync:
                    os.fsync(file.fileno())

        self.call(run, f"write {path}")
        return sum(self.errors.values()) == before

    def check(self, path: str, data: bytes) -> None:
        def run() -> bytes:
            with open(path, "rb") as file:
                return file.read()

        found = self.call(run, f"read {path}")
        if found is not None and found != data:
            self.wrong += 1
            place = next((at for at, (a, b) in enumerate(zip(found, data, strict=False)) if a != b), min(len(found), len(data)))
            self.examples.append(f"{path}: {len(found)} bytes instead of {len(data)}, other ones from {place} on")

    def sequential(self) -> None:
        path = self.path(self.chance.randrange(3))
        data = self.chance.randbytes(self.chance.randrange(1, 24 << 20))
        if self.write_whole(path, data):
            self.files[path] = data
            self.check(path, data)

    def rewrite(self) -> None:
        path = self.path(self.chance.randrange(3))
        content = bytearray(self.files.get(path, b""))

        def run() -> None:
            fd = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
            try:
                for _ in range(self.chance.randrange(1, 8)):
                    offset = self.chance.randrange(len(content) + 100_000)
                    if self.chance.random() < 0.15:
                        os.ftruncate(fd, offset)
                        content[offset:] = bytes(max(0, offset - len(content)))
                        continue
                    data = self.chance.randbytes(self.chance.randrange(1, 300_000))
                    if offset > len(content):
                        content.extend(bytes(offset - len(content)))
                    at = offset
                    while data:
                        count = os.pwrite(fd, data, at)
                        content[at : at + count] = data[:count]
                        at, data = at + count, data[count:]
                    if self.chance.random() < 0.3:
                        os.fsync(fd)
                    start = self.chance.randrange(len(content))
                    if os.pread(fd, 50_000, start) != content[start : start + 50_000]:
                        self.wrong += 1
                        self.examples.append(f"{path}: wrong bytes at {start} while it is written")
            finally:
                os.close(fd)

        before = sum(self.errors.values())
        self.call(run, f"rewrite {path}")
        if sum(self.errors.values()) == before:
            self.files[path] = bytes(content)
            self.check(path, bytes(content))

    def small(self) -> None:
        path = self.path(self.chance.randrange(50))
        if path in self.files and self.chance.random() < 0.3:
            self.call(lambda: os.unlink(path), f"unlink {path}")
            del self.files[path]
            with contextlib.suppress(FileNotFoundError):
                os.stat(path)
                self.wrong += 1
                self.examples.append(f"{path} is there after it was removed")
            return
        data = self.chance.randbytes(self.chance.randrange(40_000))
        if self.write_whole(path, data):
            self.files[path] = data
            self.check(path, data)

    def rename(self) -> None:
        path = self.path(self.chance.randrange(5))
        data = self.chance.randbytes(self.chance.randrange(1, 2 << 20))
        temporary = f"{path}.tmp"
        if self.write_whole(temporary, data, sync=self.chance.random() < 0.5):
            self.call(lambda: os.replace(temporary, path), f"rename {path}")
            self.files[path] = data
            self.check(path, data)


if __name__ == "__main__":
    order = json.loads(sys.argv[1])
    print(json.dumps(Writer(order).run(order["mode"])))
