"""The bare store client (obstore): the same objects from the same store into memory, with the concurrency that suits it best.

State: that concurrency, found by `prepare`. What it reaches is the limit of anything cold.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fusecache.base.units import MIB
from tests.bench.columns import COLUMNS, MOUNTS_ONLY, Job
from tests.bench.contenders.contender import Place, Setup
from tests.bench.dataset import BIG, BIG_NAME, LINK, MIXED, SMALL, WRITES, Dataset
from tests.bench.readers import STORE_CLIENT, run_readers
from tests.bench.store import BUCKET
from tests.bench.writing import content
from tests.support.seaweed import Seaweed

RANGE_BYTES = 8 * MIB
RANGE_CONCURRENCIES = (2, 4, 8)
LINK_CONCURRENCIES = (4, 8, 16)  # ranges across a link, which hides its delay
WRITE_CONCURRENCIES = {"whole": 4, "small": 16}  # parts, objects; as the server has nearly all of the work, it matters little
OBJECT_CONCURRENCIES = (4, 8, 16, 32)
TRIAL_SECONDS = 300.0
TRIAL_BYTES = 256 * MIB
TRIAL_FILES = 2000


class BareClient:
    """Measured cold only, and not with two readers of a file: it caches nothing. What is warmed elsewhere it writes to files."""

    name = "bare"
    title = "bare client (obstore)"
    once = False
    plain_objects = True
    writes_back = False
    columns: tuple[str, ...] = tuple(
        column.name
        for column in COLUMNS
        if column.cold
        and column.job not in (Job.FIRST_BYTE, Job.LS, Job.PATCH, Job.SENT)
        and column.group != "big-2"
        and column.name not in MOUNTS_ONLY
    )

    def __init__(self, server: Seaweed, dataset: Dataset, directory: Path) -> None:
        self._server = server
        self._dataset = dataset
        self._directory = directory  # of what it writes to
        self._best = {"stream": 4, "files": 16, "copy": 8, "walk": 1}

    def prepare(self) -> None:
        self._directory.mkdir(parents=True, exist_ok=True)
        for part in self._dataset.parts.values():
            if part.name == BIG:
                size = min(part.sizes[BIG_NAME], TRIAL_BYTES)
                order = {"do": "stream", "path": f"{BIG}/{BIG_NAME}", "size": size}
                self._best["stream"] = self._choose(order, RANGE_CONCURRENCIES)
            elif part.name == LINK:
                names = [name for name in part.names if part.sizes[name] <= TRIAL_BYTES][-2:]
                order = {"do": "copy", "root": LINK, "sizes": {name: part.sizes[name] for name in names}}
                self._best["copy"] = self._choose({**order, "bytes": part.bytes_of(names)}, LINK_CONCURRENCIES)
            elif part.name == SMALL or (part.name == MIXED and SMALL not in self._dataset.parts):
                names = part.shuffled(1)[:TRIAL_FILES]
                order = {"do": "files", "root": part.name, "names": names, "bytes": part.bytes_of(names)}
                self._best["files"] = self._choose(order, OBJECT_CONCURRENCIES)

    def _choose(self, order: Mapping[str, Any], candidates: tuple[int, ...]) -> int:
        """Return the concurrency with the highest rate, each tried twice, the first time to warm the server."""
        rates: dict[int, float] = {}
        for _ in range(2):
            for candidate in candidates:
                full = {**order, **self._extra(""), "concurrency": candidate}
                reading = run_readers(STORE_CLIENT, [full], self._environment(), TRIAL_SECONDS, lambda: None)
                rates[candidate] = max(rates.get(candidate, 0.0), reading.rate)
        return max(rates, key=lambda candidate: rates[candidate])

    @contextlib.contextmanager
    def open(self, part: str, setup: Setup) -> Iterator[Place]:
        target = self._directory / "written"
        target.mkdir()
        for directory in sorted({name.rpartition("/")[0] for name in self._dataset.parts[part].names}):
            (target / directory).mkdir(exist_ok=True)

        def extra(job: str) -> dict[str, Any]:
            more = self._extra(job)
            if job == "warm":  # large objects in ranges, small ones whole
                more |= {"do": "save", "files": dict(self._dataset.parts[part].sizes), "root": part, "target": str(target)}
                more["concurrency"] = self._best["stream" if part == BIG else "files"]
            if job in WRITE_CONCURRENCIES:
                more |= {"do": "upload", "bucket": setup.bucket, "content": content.__file__}
                more["concurrency"] = WRITE_CONCURRENCIES[job]
            return more

        try:
            yield Place(STORE_CLIENT, self.root(part), extra=extra, environment=self._environment(), one_process=True)
        finally:
            shutil.rmtree(target, ignore_errors=True)

    def root(self, part: str) -> str:
        return part

    def _extra(self, job: str) -> dict[str, Any]:
        return {"bucket": BUCKET, "range_bytes": RANGE_BYTES, "concurrency": self._best.get(job, 1)}

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), **self._server.client_environment()}

    def abort(self) -> None:
        pass

    def version(self) -> str:
        return importlib.metadata.version("obstore")

    def options(self) -> str:
        best = [f"{self._best['stream']} ranges of 8 MiB"] if BIG in self._dataset.parts else []
        best += [f"{self._best['copy']} ranges of 8 MiB behind the link"] if LINK in self._dataset.parts else []
        best += [f"{self._best['files']} small objects"] if {SMALL, MIXED} & set(self._dataset.parts) else []
        if WRITES in self._dataset.parts:
            parts, objects = WRITE_CONCURRENCIES["whole"], WRITE_CONCURRENCIES["small"]
            return f"written: {parts} parts of 8 MiB, or {objects} small objects, at a time"
        return f"{', '.join(best)} at a time (the best of those tried)"
