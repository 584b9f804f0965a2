"""`python -m fusecache.fetch.survey SPEC`: whether the sources of a mount may be read, and how many files and bytes they have.

For Datasets that nobody caches or mounts yet. The last line on stdout is `{"files": N, "total_bytes": N}`; what is wrong is a
sentence on stderr, and the exit status of its kind. No cache is touched. State: none that outlives the call.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass

from fusecache.base.hardening import harden_process
from fusecache.base.log import configure
from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.exit_status import exit_status_of
from fusecache.contract.mount_spec import MountSpec
from fusecache.source.protocol import Entry, EntryKind, Source, StatMany
from fusecache.source.registry import open_source

PARALLEL = 8  # directories listed at once
STATS = 32  # sizes asked for at once, where listings do not tell them
_GONE = (ErrorKind.NOT_FOUND, ErrorKind.NOT_A_DIRECTORY)


@dataclass(slots=True)
class Totals:
    files: int = 0
    total_bytes: int = 0


def survey(source: Source) -> Totals:
    """Count what a source has. What goes meanwhile is not counted. Raises: CacheError."""
    source.check()
    totals = Totals()
    with ThreadPoolExecutor(PARALLEL) as threads:
        running: set[Future[tuple[list[bytes], Totals]]] = {threads.submit(_list, source, b"")}
        try:
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for one in done:
                    directories, counted = one.result()
                    totals.files += counted.files
                    totals.total_bytes += counted.total_bytes
                    running |= {threads.submit(_list, source, path) for path in directories}
        finally:
            for one in running:
                one.cancel()
    return totals


def _list(source: Source, path: bytes) -> tuple[list[bytes], Totals]:
    """Return the directories in a directory, and what it has of files. Raises: CacheError."""
    directories, totals = [], Totals()
    try:
        for entries in _pages(source, path):
            inexact = []
            for entry in entries:
                below = path + b"/" + entry.name if path else entry.name
                if entry.kind is EntryKind.DIRECTORY:
                    directories.append(below)
                elif entry.kind is EntryKind.FILE:
                    totals.files += 1
                    totals.total_bytes += 0 if entry.needs_stat else entry.size
                    if entry.needs_stat:
                        inexact.append(below)
            totals.total_bytes += sum(_sizes(source, inexact))
    except CacheError as error:
        if not path or error.kind not in _GONE:
            raise
    return directories, totals


def _pages(source: Source, path: bytes) -> Iterator[tuple[Entry, ...]]:
    token = None
    while True:
        page = source.list_page(path, token)
        yield tuple(page.entries)
        token = page.next_token
        if token is None:
            return


def _sizes(source: Source, paths: list[bytes]) -> Iterator[int]:
    for first in range(0, len(paths), STATS):
        part = paths[first : first + STATS]
        found = source.stat_many(part) if isinstance(source, StatMany) else [source.stat(path) for path in part]
        yield from (entry.size for entry in found if not isinstance(entry, CacheError))


def main() -> int:
    harden_process()
    configure("survey")
    totals = Totals()
    try:
        for one in MountSpec.load(sys.argv[1]).sources:
            source = open_source(one.url, one.options, os.environ)
            try:
                counted = survey(source)
            finally:
                source.close()
            totals.files += counted.files
            totals.total_bytes += counted.total_bytes
    except CacheError as error:
        sys.stderr.write(f"{error}\n")
        return exit_status_of(error.kind)
    sys.stdout.write(json.dumps({"files": totals.files, "total_bytes": totals.total_bytes}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
