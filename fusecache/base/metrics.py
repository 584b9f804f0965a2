"""The metrics of a mount: every name, kind and meaning in one table, which docs/operations.md repeats and a test compares.

Names are stable: a script may rely on them. Units are bytes and seconds. No object key, path or bucket is ever a label.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from fusecache.contract.shared_memory import Counter


@dataclass(frozen=True, slots=True)
class Metric:
    """`labels` names the label of which there is a sample each; "" means a single sample."""

    name: str
    kind: str  # "counter" or "gauge"
    help: str
    label: str = ""


COUNTERS: dict[Counter, Metric] = {
    Counter.REQUESTS: Metric("fusecache_requests_total", "counter", "requests of the kernel that were taken"),
    Counter.HITS: Metric("fusecache_read_hits_total", "counter", "READ requests answered from the cache at once"),
    Counter.MISSES: Metric("fusecache_misses_total", "counter", "requests that had to ask fetch"),
    Counter.HIT_BYTES: Metric("fusecache_hit_bytes_total", "counter", "bytes read from the cache at once"),
    Counter.MISS_BYTES: Metric("fusecache_miss_bytes_total", "counter", "bytes of READ requests that had to ask fetch"),
    Counter.READ_ERRORS: Metric("fusecache_read_errors_total", "counter", "READ requests answered with an error"),
    Counter.OTHER_ERRORS: Metric("fusecache_other_errors_total", "counter", "other requests answered with EIO and the like"),
    Counter.CHECKSUM_FAILURES: Metric("fusecache_checksum_failures_total", "counter", "damaged blocks that readers met"),
    Counter.REPLAYED: Metric("fusecache_replayed_requests_total", "counter", "requests taken over from a dead serve process"),
    Counter.POISONED: Metric("fusecache_poisoned_requests_total", "counter", "requests given up after killing serve twice"),
    Counter.PASSTHROUGH_OPENS: Metric("fusecache_passthrough_opens_total", "counter", "opens handed to the kernel"),
    Counter.REMOTE_BYTES: Metric("fusecache_remote_bytes_total", "counter", "bytes fetched from the sources"),
    Counter.REMOTE_REQUESTS: Metric("fusecache_remote_requests_total", "counter", "requests sent to the sources"),
    Counter.REMOTE_ERRORS: Metric("fusecache_remote_errors_total", "counter", "requests to the sources that failed"),
    Counter.REMOTE_RETRIES: Metric("fusecache_remote_retries_total", "counter", "requests to the sources that were repeated"),
    Counter.PEER_BYTES: Metric("fusecache_peer_bytes_total", "counter", "bytes got from other nodes"),
    Counter.PEER_HIT_BYTES: Metric("fusecache_peer_hit_bytes_total", "counter", "of these, bytes that were cached there"),
    Counter.PEER_REQUESTS: Metric("fusecache_peer_requests_total", "counter", "requests sent to other nodes"),
    Counter.PEER_ERRORS: Metric(
        "fusecache_peer_errors_total", "counter", "requests that another node did not fulfil: the source was asked"
    ),
    Counter.PEER_SERVED_BYTES: Metric("fusecache_peer_served_bytes_total", "counter", "bytes given to other nodes"),
    Counter.PREFETCHED_BYTES: Metric("fusecache_prefetched_bytes_total", "counter", "bytes fetched before anybody asked"),
    Counter.BOUNCED_BYTES: Metric("fusecache_bounced_bytes_total", "counter", "bytes that no tier could take"),
    Counter.EVICTED_BYTES: Metric("fusecache_evicted_bytes_total", "counter", "bytes that left the cache"),
    Counter.DEMOTED_BYTES: Metric("fusecache_demoted_bytes_total", "counter", "bytes moved to the next tier"),
    Counter.TIER_ERRORS: Metric("fusecache_tier_errors", "gauge", "failures of tiers since fetch started"),
    Counter.INDEX_ERRORS: Metric(
        "fusecache_index_errors", "gauge", "changes of the index that found no room since fetch started"
    ),
    Counter.HIDDEN: Metric("fusecache_hidden_objects", "gauge", "objects whose names cannot be shown"),
    Counter.FETCH_CHECKSUM_FAILURES: Metric(
        "fusecache_scrubbed_checksum_failures_total", "counter", "damaged blocks found while moving, scrubbing or handing over"
    ),
}

FILES = Metric("fusecache_dataset_files", "gauge", "files known")
TOTAL_BYTES = Metric("fusecache_dataset_bytes", "gauge", "bytes of the files known")
CACHED_BYTES = Metric("fusecache_cached_bytes", "gauge", "bytes in the cache")
TIER_USED = Metric("fusecache_tier_used_bytes", "gauge", "space a tier uses", "tier")
TIER_QUOTA = Metric("fusecache_tier_quota_bytes", "gauge", "space a tier may use", "tier")
FLIGHTS = Metric("fusecache_blocks_in_flight", "gauge", "blocks being fetched now")
LEASES = Metric("fusecache_leased_blocks", "gauge", "blocks kept from eviction until a reader has them")
READERS = Metric("fusecache_reader_connections", "gauge", "serve processes connected")
PENDING_FILES = Metric("fusecache_pending_files", "gauge", "files written and not in the store yet")
PENDING_BYTES = Metric("fusecache_pending_bytes", "gauge", "bytes of these files")
KEPT_FILES = Metric("fusecache_kept_files", "gauge", "files written that cannot be uploaded: see `fusecache recover`")
GAUGES = (
    *(FILES, TOTAL_BYTES, CACHED_BYTES, TIER_USED, TIER_QUOTA, FLIGHTS, LEASES, READERS),
    *(PENDING_FILES, PENDING_BYTES, KEPT_FILES),
)

Samples = Mapping[Metric, float | Mapping[str, float]]


def exposition(samples: Samples) -> str:
    """Return the Prometheus text format."""
    from prometheus_client import CollectorRegistry, generate_latest  # 40 ms, and few mounts are scraped
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    class Collector:
        def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
            families: list[CounterMetricFamily | GaugeMetricFamily] = []
            for metric, value in samples.items():
                kind = CounterMetricFamily if metric.kind == "counter" else GaugeMetricFamily
                family = kind(metric.name, metric.help, labels=[metric.label] if metric.label else None)
                for label, number in value.items() if isinstance(value, Mapping) else [("", value)]:
                    family.add_metric([label] if metric.label else [], number)
                families.append(family)
            return families

    registry = CollectorRegistry()
    registry.register(Collector())
    return generate_latest(registry).decode()
