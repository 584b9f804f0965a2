"""What fetch says about itself: the fields of contract.control.Status that it knows, and Prometheus metrics from the same
numbers."""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fusecache.base import metrics
from fusecache.base.counters import CounterPage
from fusecache.base.metrics import COUNTERS, Metric
from fusecache.base.units import percentage
from fusecache.contract.run_files import KEPT_DIR
from fusecache.contract.shared_memory import ACCESS_PASSTHROUGH, Counter, Layout
from fusecache.fetch.cache import Cache
from fusecache.fetch.kept_aside import kept_files

DEGRADED_SECONDS = 30.0  # how long after the last error of a store the state says so


class StatusReport:
    def __init__(self, cache: Cache, memory: mmap.mmap, layout: Layout, access: int, readers: Callable[[], int]) -> None:
        self._cache = cache
        self._serves = [CounterPage(memory, layout.serve_counters(number)) for number in range(layout.serve_count)]
        self._access = access
        self._readers = readers
        self.listing_complete = False

    def collect(self) -> dict[str, Any]:
        """Return the Status fields but mountpoint, engine, pids and restarts, which the supervisor knows."""
        cache, own = self._cache, self._cache.counters
        tree = cache.tree
        cached = cache.store.cached_bytes
        last_error = cache.flights.last_error or cache.listing.questions.last_error
        last_error_at = max(cache.flights.last_error_at, cache.listing.questions.last_error_at, cache.index_error_at)
        degraded = time.time() - last_error_at < DEGRADED_SECONDS or any(tier.is_failing() for tier in cache.store.tiers)
        return {
            "sources": [opened.source.url for opened in cache.sources.all],
            "state": "degraded" if degraded else "ready" if self.listing_complete else "listing",
            "access": "passthrough" if self._access == ACCESS_PASSTHROUGH else "openless",
            "tiers": [
                {
                    "path": str(tier.path),
                    "medium": str(tier.medium),
                    "quota_bytes": tier.quota_bytes,
                    "used_bytes": tier.used_bytes,
                    "high": tier.high,
                    "low": tier.low,
                    "errors": tier.errors,
                    "last_error": tier.last_error,
                }
                for tier in cache.store.tiers
            ],
            "files": tree.files,
            "total_bytes": tree.total_bytes,
            "cached_bytes": cached,
            "cached_percentage": percentage(cached, tree.total_bytes),
            "hit_bytes": self._sum(Counter.HIT_BYTES),
            "miss_bytes": self._sum(Counter.MISS_BYTES),
            "remote_bytes": own.get(Counter.REMOTE_BYTES),
            "remote_requests": own.get(Counter.REMOTE_REQUESTS),
            "peers": [] if cache.peers is None else list(cache.peers.nodes),
            "peer_bytes": own.get(Counter.PEER_BYTES),
            "peer_hit_bytes": own.get(Counter.PEER_HIT_BYTES),
            "peer_requests": own.get(Counter.PEER_REQUESTS),
            "peer_errors": own.get(Counter.PEER_ERRORS),
            "peer_served_bytes": own.get(Counter.PEER_SERVED_BYTES),
            "errors": self._sum(Counter.READ_ERRORS) + self._sum(Counter.OTHER_ERRORS),
            "checksum_failures": self._sum(Counter.CHECKSUM_FAILURES) + own.get(Counter.FETCH_CHECKSUM_FAILURES),
            "index_errors": cache.index_errors,
            **self._writing(),
            "hidden": tree.hidden,
            "listing_complete": self.listing_complete,
            "last_error": last_error,
        }

    def _writing(self) -> dict[str, Any]:
        spec, desk = self._cache.spec, self._cache.desk
        state_dir = Path(spec.state_dir)
        files, size = (0, 0) if desk is None else desk.files.waiting()
        return {
            "write_mode": "" if desk is None else str(spec.write_mode),
            "pending_files": files,
            "pending_bytes": size,
            "kept_files": len(kept_files(state_dir)),
            "kept_dir": str(state_dir / KEPT_DIR),
        }

    def _sum(self, counter: Counter) -> int:
        return sum(page.get(counter) for page in self._serves)

    def metrics(self) -> str:
        """Return Prometheus text: the counters of all serve processes added up, and what fetch knows."""
        own = self._cache.counters
        samples: dict[Metric, float | dict[str, float]] = {
            metric: self._sum(counter) if counter < Counter.REMOTE_BYTES else own.get(counter)
            for counter, metric in COUNTERS.items()
        }
        tiers = self._cache.store.tiers
        samples[metrics.FILES] = self._cache.tree.files
        samples[metrics.TOTAL_BYTES] = self._cache.tree.total_bytes
        samples[metrics.CACHED_BYTES] = self._cache.store.cached_bytes
        samples[metrics.TIER_USED] = {str(tier.number): tier.used_bytes for tier in tiers}
        samples[metrics.TIER_QUOTA] = {str(tier.number): tier.quota_bytes for tier in tiers}
        samples[metrics.FLIGHTS] = self._cache.flights.count_in_flight
        samples[metrics.LEASES] = self._cache.store.leases.total()
        samples[metrics.READERS] = self._readers()
        writing = self._writing()
        samples[metrics.PENDING_FILES] = writing["pending_files"]
        samples[metrics.PENDING_BYTES] = writing["pending_bytes"]
        samples[metrics.KEPT_FILES] = writing["kept_files"]
        return metrics.exposition(samples)
