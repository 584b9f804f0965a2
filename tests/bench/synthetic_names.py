"""What ten million names cost: fusecache mounts a store that makes them up, and lists all of it in the background.

No kernel and no reader takes part after the mount: it is about the memory of fetch and serve when so much is known and nobody
asks.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from fusecache.base.units import MIB
from tests.bench.processes import anonymous_memory_bytes
from tests.bench.synthetic_store import BUCKET, PAGE_NAMES
from tests.support.command_line import CommandLine

log = logging.getLogger("tests.bench")

NAMES = 10_000_000
BYTES_OF_A_NAME = 1 << 10  # of the index, more than it takes: what must be free
IDLE_SECONDS = 5.0
LONGEST_SECONDS = 1800.0


class Known(NamedTuple):
    """`seconds`: from the mount to the last name; `anonymous_mib`: RssAnon of fetch and serve; `index_mib`: of the index."""

    names: int
    seconds: float
    anonymous_mib: float
    index_mib: float


def measure(parent: Path, names: int = NAMES) -> Known | None:
    """Args: `parent`: where the index lies. None: there is no room for it."""
    file_system = os.statvfs(parent)
    free = file_system.f_bavail * file_system.f_frsize
    if free < names * BYTES_OF_A_NAME:
        log.warning("%d names are left out: %s has %d MiB free", names, parent, free // MIB)
        return None
    with tempfile.TemporaryDirectory(prefix="fusecache-names-", dir=parent) as name, _store(names) as port:
        directory = Path(name)
        with CommandLine(directory) as cli:
            began = time.monotonic()
            options = (f"endpoint_url=http://127.0.0.1:{port}", "anonymous=true", f"cache_dir={directory / 'state'}")
            given = [word for option in options for word in ("-o", option)]
            mounted = cli.mount(*given, "--ttl", "86400", f"s3://{BUCKET}/")
            if mounted.returncode:
                raise RuntimeError(f"no mount: {mounted.stderr}")
            status = cli.status()
            while not status["listing_complete"]:
                if time.monotonic() - began > LONGEST_SECONDS:
                    raise RuntimeError(f"only {status['files']} of {names} names after {LONGEST_SECONDS:.0f} s")
                time.sleep(1)
                status = cli.status()
            seconds = time.monotonic() - began
            if status["files"] != names:
                raise RuntimeError(f"{status['files']} names listed instead of {names}")
            time.sleep(IDLE_SECONDS)
            memory = anonymous_memory_bytes([status["pids"]["fetch"], *status["pids"]["serve"]])
            index = sum(file.stat().st_blocks * 512 for file in directory.rglob("*.mdb"))
            return Known(names, seconds, memory / MIB, index / MIB)


def lines(known: Known | None) -> list[list[str]]:
    """Return head and row of a table; nothing without figures."""
    if known is None:
        return []
    row = [f"{known.names:,}", f"{known.seconds:.0f}", f"{known.names / known.seconds:,.0f}"]
    row += [f"{known.anonymous_mib:.0f}", f"{known.index_mib:,.0f}"]
    return [["names", "seconds to list them", "names/s", "RssAnon, MiB", "index, MiB"], row]


@contextlib.contextmanager
def _store(names: int) -> Iterator[int]:
    in_each = min(names, PAGE_NAMES)
    command = [sys.executable, "-m", "tests.bench.synthetic_store", str(names // in_each), str(in_each)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])
    with process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()
