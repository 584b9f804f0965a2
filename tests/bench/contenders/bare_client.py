"""The bare store client (obstore): the same objects from the same store into memory, with the concurrency that suits it best.

State: that concurrency, found by `prepare`. What it reaches is the limit of anything cold.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
from collections.abc import Iterator, Mapping
from typing import Any

from fusecache.base.units import MIB
from tests.bench.contenders.contender import Place, part_directory
from tests.bench.dataset import BIG_NAME, Dataset
from tests.bench.readers import STORE_CLIENT, run_readers
from tests.bench.settings import SMALL_BYTES
from tests.bench.store import BUCKET
from tests.support.seaweed import Seaweed

RANGE_BYTES = 8 * MIB
RANGE_CONCURRENCIES = (2, 4, 8)
OBJECT_CONCURRENCIES = (4, 8, 16, 32)
TRIAL_SECONDS = 300.0
TRIAL_BYTES = 256 * MIB
TRIAL_FILES = 2000


class BareClient:
    """Measured cold only: it caches nothing."""

    name = "bare"
    title = "bare client (obstore)"
    columns: tuple[str, ...] = (
        "big-cold",
        "small-cold-shuffled-1",
        "small-cold-shuffled-2",
        "small-cold-listed-1",
        "small-cold-listed-2",
        "find-first",
        "find-mounted",
    )

    def __init__(self, server: Seaweed, dataset: Dataset) -> None:
        self._server = server
        self._dataset = dataset
        self._best = {"stream": 4, "files": 16, "walk": 1}

    def prepare(self) -> None:
        size = min(self._dataset.big_bytes, TRIAL_BYTES)
        big = {"do": "stream", "path": f"{part_directory('big')}/{BIG_NAME}", "size": size}
        self._best["stream"] = self._choose(big, RANGE_CONCURRENCIES)
        names = self._dataset.shuffled(1)[:TRIAL_FILES]
        small = {"do": "files", "root": part_directory("small"), "names": names, "bytes": len(names) * SMALL_BYTES}
        self._best["files"] = self._choose(small, OBJECT_CONCURRENCIES)

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
    def open(self, part: str, *, list_ahead: bool) -> Iterator[Place]:
        yield Place(
            STORE_CLIENT,
            part_directory(part),
            extra=self._extra,
            environment=self._environment(),
            one_process=True,
        )

    def _extra(self, job: str) -> dict[str, Any]:
        return {"bucket": BUCKET, "range_bytes": RANGE_BYTES, "concurrency": self._best.get(job, 1)}

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", ""), **self._server.client_environment()}

    def version(self) -> str:
        return importlib.metadata.version("obstore")

    def options(self) -> str:
        return f"{self._best['stream']} ranges of 8 MiB, {self._best['files']} small objects at a time (the best of those tried)"
