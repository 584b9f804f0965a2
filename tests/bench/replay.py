"""How serve processes get on beside each other: the same requests answered by 1, 2, 4 and 8 of them, without kernel and readers.

On a machine with fewer cores than processes the rate says nothing any more, but the CPU time of a request does: it would grow if
they waited for each other's locks or pushed each other's data out of the processor's caches.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from fusecache.contract.mount_spec import Medium, TierSpec
from tests.support.cache_builder import CacheBuilder

PROCESSES = (1, 2, 4, 8)
FILES = 2000
FILE_BYTES = 100 << 10
SECONDS = 3.0
BLOCK_BYTES, GRANULE_BYTES = 1 << 20, 128 << 10  # the defaults of a mount


class Replayed(NamedTuple):
    """`rate`: requests a second of all processes together; `cpu_us`: CPU time of one request."""

    processes: int
    rate: float
    cpu_us: float


def measure(parent: Path, seconds: float = SECONDS, files: int = FILES) -> list[Replayed]:
    """`parent`: where the cache is made, a tmpfs."""
    with tempfile.TemporaryDirectory(prefix="fusecache-replay-", dir=parent) as name:
        spec = _make_cache(Path(name), files)
        return [_measure(spec, count, seconds) for count in PROCESSES]


def lines(found: Sequence[Replayed]) -> list[list[str]]:
    """Return head and rows of a table; no line without figures."""
    if not found:
        return []
    rows = [[f"{one.processes}", f"{one.rate:,.0f}", f"{one.cpu_us:.0f}"] for one in found]
    return [["serve processes", "requests/s", "CPU of a request, µs"], *rows]


def _make_cache(directory: Path, files: int) -> Path:
    """Return the path of its spec."""
    tier = TierSpec(str(directory / "mem"), Medium.MEM, 2 * files * FILE_BYTES)
    cache = CacheBuilder(directory, block_size=BLOCK_BYTES, granule_size=GRANULE_BYTES, tiers=(tier,))
    try:
        for number in range(files):
            cache.cache(cache.file(1, b"%d" % number, os.urandom(FILE_BYTES)))
        return cache.write_spec()
    finally:
        cache.close_index()


def _measure(spec: Path, count: int, seconds: float) -> Replayed:
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(_started(spec, number, count)) for number in range(count)]
        for process in processes:
            _read(process)
        began = time.monotonic()
        for process in processes:
            assert process.stdin is not None
            process.stdin.write(f"{seconds}\n")
            process.stdin.flush()
        reports = [json.loads(_read(process)) for process in processes]
        elapsed = time.monotonic() - began
    answered = sum(report["requests"] for report in reports)
    return Replayed(count, answered / elapsed, 1e6 * sum(report["cpu"] for report in reports) / answered)


@contextlib.contextmanager
def _started(spec: Path, number: int, count: int) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.bench.replay_program", str(spec), str(number), str(count)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    with process:
        try:
            yield process
        finally:
            process.kill()


def _read(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError("a process that replays requests ended early")
    return line
