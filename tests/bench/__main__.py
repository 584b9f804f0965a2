"""`python -m tests.bench`: reads flags and environment, runs the phases, writes the results.

Owns the run's directories; they are gone when it ends, also after Ctrl-C or SIGTERM.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from fusecache.base.units import GIB, MIB, format_size, parse_size
from fusecache.contract.errors import CacheError
from tests.bench import columns, guard, hit_ratios, machine, phases, replay, report, synthetic_names
from tests.bench.results import Table
from tests.bench.sessions import PHASES
from tests.bench.settings import ALL_NAMES, Settings
from tests.support.seaweed import find_weed

log = logging.getLogger("tests.bench")
DOCUMENT = Path(__file__).parents[2] / "docs" / "benchmarks.md"
HITS, REPLAY, SYNTHETIC = "hits", "replay", "synthetic"  # no columns: hit ratios, requests replayed, ten million names
CONTENDERS = ("fusecache", "fusecache-pyfuse3", "juicefs", "rclone", "bare", "tmpfs")
FULL_BYTES = (4 * GIB, 2 * GIB, GIB)  # the first that fits into the memory there is
FULL_FILES = 10_000
FULL_ROUNDS = 3
QUICK_BYTES = 256 * MIB
QUICK_FILES = 2000


Act = Callable[[Settings, Sequence[str]], int]


def main() -> int:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    try:
        act, settings, more = parse(sys.argv[1:])
        check(settings)
    except (ValueError, CacheError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return act(settings, more)
    except ValueError as error:  # the recorded ratios
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; mounts, processes and files are gone", file=sys.stderr)
        return 130


def parse(arguments: Sequence[str]) -> tuple[Act, Settings, tuple[str, ...]]:
    """Return what to do, the settings, and -o options for fusecache's own mounts. Raises: ValueError, CacheError."""
    parser = argparse.ArgumentParser(prog="make bench ARGS=...", description="Compare fusecache with other clients of one store.")
    parser.add_argument("--quick", action="store_true", help="less data, one round: a few minutes; writes no document")
    parser.add_argument("--guard", action="store_true", help="compare a short run with the recorded ratios (make bench-quick)")
    parser.add_argument("--record", action="store_true", help="record the ratios that --guard compares with")
    parser.add_argument(
        "--only", default="", help=f"columns or groups of them, by comma: {', '.join((*columns.ALL, HITS, REPLAY, SYNTHETIC))}"
    )
    parser.add_argument("--also", default="", help=f"what is measured on request, beside the usual: names, {SYNTHETIC}")
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help=f"some of {', '.join(CONTENDERS)}")
    parser.add_argument("--rounds", type=int, help="how often each column is measured (3; quick: 1)")
    parser.add_argument("--output", type=Path, help="the document (docs/benchmarks.md if everything is measured)")
    parser.add_argument("--raw", type=Path, help="keep all single figures there, as JSON")
    parser.add_argument("--directory", type=Path, default=Path("/dev/shm"), help="where the data lies while it runs; a tmpfs")
    parser.add_argument("--disk", type=Path, default=Path("/var/tmp"), help="where the cache on a disk lies; no tmpfs")
    parser.add_argument("-o", dest="options", action="append", default=[], help="an option for fusecache's mounts: KEY=VALUE")
    given = parser.parse_args(arguments)
    only, also = given.only.split(","), given.also.split(",")
    wanted = columns.select(_columns(only)) if given.only else columns.USUAL
    wanted += columns.select(_columns(also))
    named = tuple(name for name in CONTENDERS if name in given.contenders.split(","))
    if unknown := set(given.contenders.split(",")) - set(CONTENDERS):
        raise ValueError(f"no contender is called {', '.join(sorted(unknown))}; there are: {', '.join(CONTENDERS)}")
    complete = not given.only and named == CONTENDERS and not given.quick and not given.options
    named_size = os.environ.get("BENCH_SIZE")
    sizes = [parse_size(named_size)] if named_size else [QUICK_BYTES] if given.quick else FULL_BYTES
    settings = Settings(
        big_bytes=sizes[0],
        files=int(os.environ.get("BENCH_FILES") or (QUICK_FILES if given.quick else FULL_FILES)),
        rounds=given.rounds or (1 if given.quick else FULL_ROUNDS),
        contenders=named,
        columns=tuple(name for name in columns.ALL if name in wanted),
        hit_ratios=not given.only or HITS in only,
        replay=not given.only or REPLAY in only,
        synthetic=SYNTHETIC in (*only, *also),
        names=int(os.environ.get("BENCH_NAMES") or ALL_NAMES),
        parent=given.directory,
        disk=machine.on_disk(given.disk),
        output=given.output or (DOCUMENT if complete else None),
        raw=given.raw,
    )
    if given.guard or given.record:
        act: Act = record_ratios if given.record else run_guard
        return act, guard.guard_settings(settings), tuple(given.options)
    fitting = [size for size in sizes if dataclasses.replace(settings, big_bytes=size).needed_bytes <= free_bytes(settings)]
    return run, dataclasses.replace(settings, big_bytes=[*fitting, sizes[-1]][0]), tuple(given.options)


def _columns(words: Sequence[str]) -> list[str]:
    return [word for word in words if word not in ("", HITS, REPLAY, SYNTHETIC)]


def free_bytes(settings: Settings) -> int:
    return min(shutil.disk_usage(settings.parent).free, machine.available_memory_bytes())


def check(settings: Settings) -> None:
    """Refuse what cannot work, before anything is made. Raises: ValueError."""
    if os.geteuid() != 0:
        raise ValueError("dropping the kernel's caches needs root; run make bench as root")
    if settings.files < 1 or settings.big_bytes < MIB:
        raise ValueError("BENCH_FILES must be at least 1, BENCH_SIZE at least 1MiB")
    free = free_bytes(settings)
    if free < settings.needed_bytes:
        needed, there = format_size(settings.needed_bytes), format_size(free)
        raise ValueError(f"{settings.parent} must have {needed} of memory, {there} are free; lower BENCH_SIZE, BENCH_FILES")


def run(settings: Settings, more: Sequence[str]) -> int:
    began = time.monotonic()
    found = measure(settings, more)
    result = report.Run(
        settings,
        Table(
            found.figures,
            hit_ratios.measure() if settings.hit_ratios else None,
            replay.measure(settings.parent) if settings.replay else (),
            synthetic_names.measure(settings.parent) if settings.synthetic else None,
        ),
        found.participants,
        [*machine.describe_machine(), ("SeaweedFS", machine.seaweed_version(find_weed()))],
        found.absent,
        found.failures,
        found.disturbed,
        (time.monotonic() - began) / 60,
    )
    report.print_table(result)
    if settings.raw is not None:
        report.write_raw(settings.raw, found.figures)
    if settings.output is not None:
        report.write_document(settings.output, result)
        log.info("written to %s", settings.output)
    if settings.output == DOCUMENT:
        log.info("now what the regression guard compares with")
        record_ratios(settings)
    return 1 if found.failures else 0


def measure(settings: Settings, more: Sequence[str]) -> phases.Found:
    log.info("big files of %s, %d small files", format_size(settings.big_bytes), settings.files)
    found = phases.Found()
    with contextlib.ExitStack() as stack:
        directory = _directory(stack, settings.parent)
        disk = None if settings.disk is None else _directory(stack, settings.disk)
        for parts in PHASES:
            phases.run_phase(settings, parts, directory, disk, more, found)
    return found


def record_ratios(settings: Settings, more: Sequence[str] = ()) -> int:
    short = guard.guard_settings(settings)
    guard.write(guard.RECORDED, short, guard.ratios(Table(measure(short, more).figures)))
    log.info("written to %s", guard.RECORDED)
    return 0


def run_guard(settings: Settings, more: Sequence[str]) -> int:
    """Compare with the recorded ratios; what fell is measured once more before it is believed. Returns 1 if something fell."""
    short = guard.guard_settings(settings)
    recorded = guard.read(guard.RECORDED, short)
    found = measure(short, more)
    now = guard.ratios(Table(found.figures))
    fallen = {one.column for one in guard.falls(recorded, now)}
    if fallen:
        log.info("measuring once more: %s", ", ".join(sorted(fallen)))
        again = dataclasses.replace(short, columns=tuple(name for name in short.columns if name in fallen))
        now = guard.merged(now, guard.ratios(Table(measure(again, more).figures)))
    print("\n".join(guard.lines(recorded, now)))
    for failure in found.failures:
        print(f"failed: {failure}")
    return 1 if found.failures or guard.falls(recorded, now) else 0


def _directory(stack: contextlib.ExitStack, parent: Path) -> Path:
    directory = Path(tempfile.mkdtemp(prefix="fusecache-bench-", dir=parent))
    stack.callback(shutil.rmtree, directory, ignore_errors=True)
    return directory


def _interrupt(number: int, frame: FrameType | None) -> NoReturn:
    """Once only: a second Ctrl-C must not interrupt the clean-up."""
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, signal.SIG_IGN)
    raise KeyboardInterrupt


if __name__ == "__main__":
    sys.exit(main())
