"""A program that reads files in every way it knows, at random, and compares each byte: `python fsx_reader.py JSON`.

After the idea of Apple's fsx (file system exerciser), for file systems that are not written to. Job: root, truth, seconds, seed.
It prints JSON: operations (name → count), bytes, wrong (descriptions), and the last operations before the first wrong one.
Needs nothing but the standard library.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import sys
import tempfile
import time
from collections import Counter, deque
from typing import Any

MOST_OPEN = 8
MOST_BYTES = 3 << 20
PAGE = mmap.PAGESIZE


class Open:
    """A descriptor, its file's bytes, and where a read would go on. Descriptors made with dup share the position."""

    def __init__(self, fd: int, path: str, content: bytes, position: list[int], *, direct: bool) -> None:
        self.fd = fd
        self.path = path
        self.content = content
        self.position = position
        self.direct = direct


class FsxReader:
    def __init__(self, job: dict[str, Any]) -> None:
        self._root = job["root"]
        self._random = random.Random(job["seed"])
        self._contents: dict[str, bytes] = {}
        for name in sorted(os.listdir(job["truth"])):
            with open(os.path.join(job["truth"], name), "rb") as file:
                self._contents[name] = file.read()
        self._open: list[Open] = []
        self._sink = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        self._log: deque[str] = deque(maxlen=20)
        self.operations: Counter[str] = Counter()
        self.bytes = 0
        self.wrong: list[str] = []
        self.last: list[str] = []

    def run(self, seconds: float) -> None:
        names = [name for name in dir(self) if name.startswith("do_")]
        end = time.monotonic() + seconds
        while time.monotonic() < end and len(self.wrong) < 5:
            if not self._open:
                self.do_open()
            name = self._random.choice(names)
            getattr(self, name)()
            self.operations[name[3:]] += 1

    # -- choosing

    def _any(self) -> Open:
        return self._random.choice(self._open) if self._open else self._reopen()

    def _reopen(self) -> Open:
        self.do_open()
        return self._open[-1]

    def _range(self, one: Open, *, aligned: bool = False) -> tuple[int, int]:
        size = len(one.content)
        offset = self._random.choice(
            (0, size, max(0, size - 1), self._random.randrange(size + 1), self._random.randrange(size + 1))
        )
        length = self._random.choice((1, PAGE, 1 << 17, (1 << 17) + 1, 1 << 20, self._random.randrange(1, MOST_BYTES)))
        if aligned:
            return offset & ~(PAGE - 1), (length + PAGE - 1) & ~(PAGE - 1)
        return offset, length

    def _check(self, what: str, one: Open, offset: int, length: int, got: bytes) -> None:
        self._log.append(f"{what} {one.path} {offset}+{length}")
        self.bytes += len(got)
        wanted = one.content[offset : offset + length]
        if got != wanted:
            at = next((i for i, (a, b) in enumerate(zip(got, wanted, strict=False)) if a != b), min(len(got), len(wanted)))
            self.wrong.append(
                f"{what} {one.path} at {offset}+{length}: {len(got)} bytes, not {len(wanted)}; first difference at {at}"
            )
            self.last = self.last or list(self._log)

    def _pread(self, one: Open, length: int, offset: int) -> bytes:
        with mmap.mmap(-1, max(length, 1)) as buffer:
            return buffer[: os.preadv(one.fd, [buffer], offset)] if length else b""

    # -- operations

    def do_open(self) -> None:
        if len(self._open) >= MOST_OPEN:
            self.do_close()
        path = self._random.choice(list(self._contents))
        direct = self._random.random() < 0.2
        fd = os.open(os.path.join(self._root, path), os.O_RDONLY | (os.O_DIRECT if direct else 0))
        self._open.append(Open(fd, path, self._contents[path], [0], direct=direct))

    def do_close(self) -> None:
        if self._open:
            os.close(self._open.pop(self._random.randrange(len(self._open))).fd)

    def do_dup(self) -> None:
        one = self._any()
        if len(self._open) < MOST_OPEN:
            self._open.append(Open(os.dup(one.fd), one.path, one.content, one.position, direct=one.direct))

    def do_read(self) -> None:
        one = self._any()
        if one.direct:
            return
        _, length = self._range(one)
        got = os.read(one.fd, length)
        self._check("read", one, one.position[0], length, got)
        one.position[0] += len(got)

    def do_seek(self) -> None:
        one = self._any()
        offset, _ = self._range(one)
        whence = self._random.choice((os.SEEK_SET, os.SEEK_CUR, os.SEEK_END))
        base = {os.SEEK_SET: 0, os.SEEK_CUR: one.position[0], os.SEEK_END: len(one.content)}[whence]
        one.position[0] = os.lseek(one.fd, offset - base, whence)
        if one.position[0] != offset:
            self.wrong.append(f"lseek {one.path} to {offset}: {one.position[0]}")

    def do_pread(self) -> None:
        one = self._any()
        offset, length = self._range(one, aligned=one.direct)
        self._check("direct" if one.direct else "pread", one, offset, length, self._pread(one, length, offset))

    def do_scattered(self) -> None:
        """preadv into several buffers."""
        one = self._any()
        if one.direct:
            return
        offset, length = self._range(one)
        buffers = [bytearray(length // 3 + 1) for _ in range(3)]
        count = os.preadv(one.fd, buffers, offset)
        self._check("preadv", one, offset, sum(map(len, buffers)), b"".join(buffers)[:count])

    def do_map(self) -> None:
        one = self._any()
        if not one.content:
            return
        offset, length = self._range(one)
        start = offset & ~(mmap.ALLOCATIONGRANULARITY - 1)
        stop = min(offset + length, len(one.content))
        if stop <= offset:
            return
        flags = self._random.choice((mmap.MAP_SHARED, mmap.MAP_PRIVATE))
        with mmap.mmap(one.fd, stop - start, flags=flags, prot=mmap.PROT_READ, offset=start) as mapped:
            if self._random.random() < 0.3:
                mapped.madvise(self._random.choice((mmap.MADV_WILLNEED, mmap.MADV_RANDOM, mmap.MADV_SEQUENTIAL)))
            self._check("map", one, offset, stop - offset, mapped[offset - start : stop - start])

    def do_advise(self) -> None:
        one = self._any()
        offset, length = self._range(one)
        advice = (os.POSIX_FADV_WILLNEED, os.POSIX_FADV_DONTNEED, os.POSIX_FADV_RANDOM, os.POSIX_FADV_SEQUENTIAL)
        os.posix_fadvise(one.fd, offset, length, self._random.choice(advice))

    def do_sendfile(self) -> None:
        one = self._any()
        if one.direct:
            return
        offset, length = self._range(one)
        self._sink.seek(0)
        self._sink.truncate()
        sent = 0
        while sent < length and (count := os.sendfile(self._sink.fileno(), one.fd, offset + sent, length - sent)):
            sent += count
        self._check("sendfile", one, offset, length, os.pread(self._sink.fileno(), sent, 0))

    def do_stat(self) -> None:
        one = self._any()
        sizes = os.fstat(one.fd).st_size, os.stat(os.path.join(self._root, one.path)).st_size
        if sizes != (len(one.content), len(one.content)):
            self.wrong.append(f"stat {one.path}: {sizes}, not {len(one.content)}")


def main() -> None:
    job = json.loads(sys.argv[1])
    reader = FsxReader(job)
    reader.run(job["seconds"])
    print(json.dumps({"operations": reader.operations, "bytes": reader.bytes, "wrong": reader.wrong, "last": reader.last}))


if __name__ == "__main__":
    main()
