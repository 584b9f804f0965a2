"""The sources of one mount, opened, each with the gate that bounds what it is asked at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.mount_spec import MountSpec, SourceSpec
from fusecache.fetch.read_loop import ReadLoop
from fusecache.fetch.workers import Gate, MemoryBudget, Workers
from fusecache.index.source_ids import source_id
from fusecache.source.protocol import BeginRead, ReadInto, Source
from fusecache.source.registry import open_source
from fusecache.source.write_protocol import Writable, Writer

MAX_PARALLEL = 16  # threads of one gate; more fight for two cores and the GIL (4 x 8 MiB was best there for large objects)


Opener = Callable[[str, Mapping[str, str], Mapping[str, str]], Source]  # as registry.open_source


class OpenSource:
    def __init__(self, spec: SourceSpec, source: Source, gate: Gate) -> None:
        self.spec = spec
        self.id = source_id(spec)
        self.source = source
        self.streams = isinstance(source, ReadInto)
        self.begins = source if isinstance(source, BeginRead) else None
        self.gate = gate
        self.writer: Writer | None = None
        self.subdir = tuple(part for part in spec.subdir.encode("utf-8", "surrogateescape").split(b"/") if part)

    def open_writer(self) -> None:
        """On a mount that may be written, before it is used. Raises: READ_ONLY, UNSUPPORTED, and what the check of the store
        says."""
        if self.spec.read_only:
            return
        if not isinstance(self.source, Writable):
            raise CacheError(ErrorKind.UNSUPPORTED, f"{self.source.url} cannot be written; mount it read-only")
        self.writer = self.source.open_writer()

    def require_writer(self) -> Writer:
        """Raises: READ_ONLY."""
        if self.writer is None:
            raise CacheError(ErrorKind.READ_ONLY, f"{self.source.url} is mounted read-only")
        return self.writer


class Sources:
    """Opened once; the set does not change while fetch lives."""

    def __init__(
        self,
        spec: MountSpec,
        workers: Workers,
        read_loop: ReadLoop,
        environment: Mapping[str, str],
        opener: Opener = open_source,
    ) -> None:
        """Raises: CacheError(INVALID) for a URL or option that no source understands."""
        self.all: list[OpenSource] = []
        self._by_id: dict[int, OpenSource] = {}
        budget = MemoryBudget(spec.fetch_memory_bytes)
        for source_spec in spec.sources:
            source = opener(source_spec.url, source_spec.options, environment)
            most = max(2, source.capabilities.parallel_requests)
            limit = min(MAX_PARALLEL, most)
            share = spec.fetch_memory_bytes // len(spec.sources)
            gate = Gate(workers, limit, share, most, start=read_loop.start, budget=budget)
            opened = OpenSource(source_spec, source, gate)
            self.all.append(opened)
            self._by_id[opened.id] = opened

    def find(self, source: int) -> OpenSource | None:
        """Return None for a source that an earlier life of the index had and this mount does not have."""
        return self._by_id.get(source)

    def of(self, source: int) -> OpenSource:
        """As `find`. Raises: CacheError(STALE): what still means such a source is a file that somebody holds open."""
        opened = self.find(source)
        if opened is None:
            raise CacheError(ErrorKind.STALE, "the source of this file is not part of the mount any more")
        return opened

    def close(self) -> None:
        for opened in self.all:
            opened.source.close()
