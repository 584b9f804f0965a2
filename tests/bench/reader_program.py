"""The reader that every mount has before it: one process that does what one line on stdin orders, as often as it is told to.

Run by path, with no imports but the standard library (and xxhash to verify), so that it starts alike for all. It says "ready"
before it touches the mount; each further line is one pass, for which the clock runs, and one line of report. It ends with stdin.
"""

from __future__ import annotations

import importlib.util
import json
import os
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any


def stream(order: dict[str, Any]) -> int:
    """Read one file from its beginning to its end; return bytes."""
    buffers = [memoryview(bytearray(order["buffer_bytes"]))]
    total = 0
    fd = os.open(order["path"], os.O_RDONLY)
    while count := os.readv(fd, buffers):
        total += count
    os.close(fd)
    return total


def files(order: dict[str, Any]) -> int:
    """Read files one after the other, each until it ends; return their number."""
    _read_files(order)
    return len(order["names"])


def copy(order: dict[str, Any]) -> int:
    """The same, but return bytes."""
    _read_files(order)
    return int(order["bytes"])


def _read_files(order: dict[str, Any]) -> None:
    buffers = [memoryview(bytearray(order["buffer_bytes"]))]
    paths = [os.path.join(order["root"], name) for name in order["names"]]
    open_file, readv, close = os.open, os.readv, os.close
    _start(order)
    total = 0
    for path in paths:
        fd = open_file(path, os.O_RDONLY)
        while count := readv(fd, buffers):
            total += count
        close(fd)
    if total != order["bytes"]:
        raise RuntimeError(f"{total} bytes read instead of {order['bytes']}")


def scattered(order: dict[str, Any]) -> int:
    """Read pieces of one file in random order, from several threads; return their number."""
    offsets, threads, size = order["offsets"], order["threads"], order["piece_bytes"]
    fd = os.open(order["path"], os.O_RDONLY)
    failures: list[str] = []

    def read(mine: list[int]) -> None:
        buffers = [memoryview(bytearray(size))]
        for offset in mine:
            if os.preadv(fd, buffers, offset) != size:
                failures.append(f"short read at {offset}")

    if threads == 1:
        _start(order)
        read(offsets)
    else:
        workers = [threading.Thread(target=read, args=(offsets[number::threads],)) for number in range(threads)]
        _start(order)
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    os.close(fd)
    if failures:
        raise RuntimeError(failures[0])
    return len(offsets)


def walk(order: dict[str, Any]) -> int:
    """Visit every name as find(1) does, by the types that readdir gives; return the number of names."""
    found = 0
    pending = [order["root"]]
    while pending:
        with os.scandir(pending.pop()) as entries:
            for entry in entries:
                found += 1
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    if found != order["expected"]:
        raise RuntimeError(f"{found} names found instead of {order['expected']}")
    return found


def first(order: dict[str, Any]) -> int:
    """Read the first byte of a file; return 1."""
    fd = os.open(order["path"], os.O_RDONLY)
    count = len(os.pread(fd, 1, 0))
    os.close(fd)
    return count


def command(order: dict[str, Any]) -> int:
    """Run a command that does the work itself; return the amount that it was given."""
    done = subprocess.run(
        order["command"], env=order["environment"], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise RuntimeError((done.stderr or done.stdout).strip()[-500:])
    return int(order["amount"])


def ls(order: dict[str, Any]) -> int:
    """List one directory; return the number of its names."""
    with os.scandir(order["root"]) as entries:
        return sum(1 for _ in entries)


def compare(order: dict[str, Any]) -> int:
    """Read every file here and in the plain copy; return their number. Raises: RuntimeError at the first difference."""
    import xxhash

    def pieces(path: str) -> Iterator[bytes]:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(order["buffer_bytes"]):
                yield piece

    def digest(path: str) -> str:
        state = xxhash.xxh3_128()
        for piece in pieces(path):
            state.update(piece)
        return state.hexdigest()

    for name in order["names"]:
        if digest(os.path.join(order["root"], name)) != digest(os.path.join(order["truth"], name)):
            raise RuntimeError(f"{name} has other bytes than the original")
    return len(order["names"])


def foreign(order: dict[str, Any]) -> int:
    """Do what a function of another file does with the order (foreign/reader_jobs.py); return its amount."""
    if "module" not in order:
        spec = importlib.util.spec_from_file_location("reader_jobs", order["program"])
        assert spec is not None
        assert spec.loader is not None
        order["module"] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(order["module"])
    try:
        return int(getattr(order["module"], order["job"])(order, lambda: _start(order)))
    except Exception as failure:  # whatever a library raises is a failed measurement
        raise RuntimeError(f"{order['job']}: {type(failure).__name__}: {failure}") from failure
    finally:
        order["thorough"] = False  # in the first pass only


def _cpu_seconds() -> float:
    """Return what this process used, and commands that it waited for."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _start(order: dict[str, Any]) -> None:
    """Say that the work itself begins now: what a job prepared for itself does not count."""
    order["began"] = time.monotonic_ns()


def main() -> None:
    order = json.loads(sys.stdin.readline())
    jobs = (stream, files, copy, scattered, walk, ls, first, command, compare, foreign)
    job = {one.__name__: one for one in jobs}[order["do"]]
    print("ready", flush=True)
    while sys.stdin.readline():
        cpu = _cpu_seconds()
        _start(order)
        try:
            amount, error = job(order), ""
        except (OSError, RuntimeError) as failure:
            amount, error = 0, str(failure)
        ended = order.pop("ended", 0) or time.monotonic_ns()
        report = {"amount": amount, "began": order["began"], "ended": ended, "cpu": _cpu_seconds() - cpu, "error": error}
        print(json.dumps(report), flush=True)


main()
