"""Reads for a while, verifies every byte, and prints JSON: how many reads, errors, wrong ones, and the longest wait in seconds.

Arguments: kind (buffered, direct, names, late), seed, seconds. The working directory is the mount. Errors are counted, never
retried.
"""

from __future__ import annotations

import json
import mmap
import os
import random
import sys
import time

from tests.fuse.native_serve import BIG, FIRST_LATE, FIRST_SMALL, LATE_BYTES, SMALL_BYTES, pattern, phase


def main() -> None:
    kind, seed, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    choose = random.Random(seed)
    whole = memoryview(pattern())
    big = os.open("big", os.O_RDONLY | (os.O_DIRECT if kind == "direct" else 0))
    os.posix_fadvise(big, 0, 0, os.POSIX_FADV_RANDOM)
    buffer = mmap.mmap(-1, 1 << 17)

    def read_big() -> bool:
        offset = choose.randrange((1 << 30) // 4096 - 32) * 4096
        count = os.preadv(big, [buffer], offset)
        start = phase(BIG, offset)
        return count == 1 << 17 and memoryview(buffer) == whole[start : start + count]

    def read_file(path: str, inode: int, size: int) -> bool:
        fd = os.open(path, os.O_RDONLY)
        try:
            offset = choose.randrange(size)
            data = os.pread(fd, 1 << 16, offset)
            start = phase(inode, offset)
            return bool(data == whole[start : start + min(1 << 16, size - offset)])
        finally:
            os.close(fd)

    def walk() -> bool:
        return len(os.listdir("many")) == 3000 and os.stat(f"small/{choose.randrange(10_000):05}").st_size == SMALL_BYTES

    def read_late() -> bool:
        index = choose.randrange(100)
        return read_file(f"late/{index:02}", FIRST_LATE + index, LATE_BYTES)

    def read_small() -> bool:
        index = choose.randrange(10_000)
        return read_file(f"small/{index:05}", FIRST_SMALL + index, SMALL_BYTES)

    acts = {"buffered": [read_big, read_small], "direct": [read_big], "names": [walk], "late": [read_late]}[kind]
    reads = wrong = 0
    errors: list[str] = []
    longest = 0.0
    end = time.monotonic() + seconds
    while (begin := time.monotonic()) < end:
        try:
            wrong += not choose.choice(acts)()
        except OSError as error:
            errors.append(str(error))
        reads += 1
        longest = max(longest, time.monotonic() - begin)
        if kind != "direct" and reads % 50 == 0:
            os.posix_fadvise(big, 0, 0, os.POSIX_FADV_DONTNEED)
    print(json.dumps({"reads": reads, "errors": errors[:3], "failed": len(errors), "wrong": wrong, "longest": longest}))


if __name__ == "__main__":
    main()
