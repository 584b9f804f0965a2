"""What fetch says about itself: the fields of contract.control.Status that it knows, and Prometheus metrics from the same
numbers."""

from __future__ import annotations

import mmap
import time
from typing import Any

from fusecache.base.counters import CounterPage
from fusecache.base.units import percentage
from fusecache.contract.shared_memory import ACCESS_PASSTHROUGH, Counter, Layout
from fusecache.fetch.cache import Cache

DEGRADED_SECONDS = 30.0  # how long after the last error of a store the state says so


class StatusReport:
    def __init__(self, cache: Cache, memory: mmap.mmap, layout: Layout, access: int) -> None:
        self._cache = cache
        self._serves = [CounterPage(memory, layout.serve_counters(number)) for number in range(layout.serve_count)]
        self._access = access
        self.listing_complete = False

    def collect(self) -> dict[str, Any]:
        """Return the Status fields but mountpoint, engine, pids and restarts, which the supervisor knows."""
        cache, own = self._cache, self._cache.counters
        tree = cache.tree
        cached = cache.store.cached_bytes
        last_error = cache.flights.last_error or cache.listing.last_error
        last_error_at = max(cache.flights.last_error_at, cache.listing.last_error_at)
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
                    "high": tier.high_bytes / tier.quota_bytes if tier.quota_bytes else 0.0,
                    "low": tier.low_bytes / tier.quota_bytes if tier.quota_bytes else 0.0,
                }
                for tier in cache.store.tiers
            ],
            "files": tree.files,
            "total_bytes": tree.total_bytes,
            "cached_bytes": min(cached, tree.total_bytes) if self.listing_complete else cached,
            "cached_percentage": percentage(cached, tree.total_bytes),
            "hit_bytes": self._sum(Counter.HIT_BYTES),
            "miss_bytes": self._sum(Counter.MISS_BYTES),
            "remote_bytes": own.get(Counter.REMOTE_BYTES),
            "remote_requests": own.get(Counter.REMOTE_REQUESTS),
            "errors": self._sum(Counter.READ_ERRORS) + self._sum(Counter.OTHER_ERRORS),
            "checksum_failures": self._sum(Counter.CHECKSUM_FAILURES) + own.get(Counter.FETCH_CHECKSUM_FAILURES),
            "hidden": tree.hidden,
            "listing_complete": self.listing_complete,
            "last_error": last_error,
        }

    def _sum(self, counter: Counter) -> int:
        return sum(page.get(counter) for page in self._serves)

    def metrics(self) -> str:
        """Return Prometheus text. No key, path or bucket is ever a label."""
        lines: list[str] = []
        fetch_counters = [counter for counter in Counter if counter >= Counter.REMOTE_BYTES]
        serve_counters = [counter for counter in Counter if counter < Counter.REMOTE_BYTES]
        for counter in serve_counters:
            lines += _sample(f"fusecache_{counter.name.lower()}_total", "counter", self._sum(counter))
        for counter in fetch_counters:
            lines += _sample(f"fusecache_{counter.name.lower()}_total", "counter", self._cache.counters.get(counter))
        status = self.collect()
        for name in ("files", "total_bytes", "cached_bytes"):
            lines += _sample(f"fusecache_dataset_{name}", "gauge", status[name])
        lines.append("# TYPE fusecache_tier_used_bytes gauge")
        for number, tier in enumerate(status["tiers"]):
            lines.append(f'fusecache_tier_used_bytes{{tier="{number}",medium="{tier["medium"]}"}} {tier["used_bytes"]}')
        lines.append("# TYPE fusecache_tier_quota_bytes gauge")
        for number, tier in enumerate(status["tiers"]):
            lines.append(f'fusecache_tier_quota_bytes{{tier="{number}",medium="{tier["medium"]}"}} {tier["quota_bytes"]}')
        return "\n".join(lines) + "\n"


def _sample(name: str, kind: str, value: float) -> list[str]:
    return [f"# TYPE {name} {kind}", f"{name} {value}"]
