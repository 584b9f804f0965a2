"""Metrics of the operator, in the Prometheus text format. Names are stable. Owns a registry of its own."""

from __future__ import annotations

from collections import Counter as Counts
from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from csi.metrics_server import Address, serve_metrics
from csi.operator.app.known import DATASETS, Known

_SECONDS = (0.005, 0.02, 0.1, 0.5, 1.0, 5.0, 20.0, 60.0)


class OperatorMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter(
            "fusecache_operator_api_calls", "requests to the API server", ("verb", "resource"), registry=self.registry
        )
        self._looks = Counter("fusecache_operator_looks", "looks at objects", ("queue", "result"), registry=self.registry)
        self._seconds = Histogram(
            "fusecache_operator_look_seconds", "how long they took", ("queue",), buckets=_SECONDS, registry=self.registry
        )
        self._leads = Gauge(
            "fusecache_operator_leads", "1 for the one that works, 0 for one that stands by", registry=self.registry
        )

    def note_call(self, verb: str, resource: str) -> None:
        self._calls.labels(verb, resource).inc()

    def note_look(self, queue: str, result: str, seconds: float) -> None:
        """`result`: done or failed."""
        self._looks.labels(queue, result).inc()
        self._seconds.labels(queue).observe(seconds)

    def note_leading(self) -> None:
        self._leads.set(1)

    def watch_queue(self, queue: str, depth: Callable[[], int]) -> None:
        """Tell how many objects wait to be looked at."""
        Gauge(f"fusecache_operator_{queue}_waiting", "objects that wait", registry=self.registry).set_function(depth)

    def watch_datasets(self, known: Known) -> None:
        self.registry.register(_Datasets(known))

    def serve(self, where: Address) -> None:
        """Answer on a port, in a thread. Raises: OSError."""
        serve_metrics(where, self.registry)


class _Datasets(Collector):
    """Datasets by their phase, counted when somebody asks."""

    def __init__(self, known: Known) -> None:
        self._known = known

    def collect(self) -> Iterator[GaugeMetricFamily]:
        family = GaugeMetricFamily("fusecache_operator_datasets", "Datasets by their phase", labels=["phase"])
        counts = Counts(raw.get("status", {}).get("phase") or "New" for raw in self._known.all(DATASETS))
        for phase, count in sorted(counts.items()):
            family.add_metric([phase], count)
        yield family
