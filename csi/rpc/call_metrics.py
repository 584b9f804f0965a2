"""Metrics of the driver, in the Prometheus text format on a local port. Names are stable. Owns a registry of its own."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from csi.metrics_server import Address, serve_metrics

_SECONDS = (0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 20.0, 60.0)


class CallMetrics:
    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._calls = Counter("fusecache_csi_calls", "calls of the driver", ("method", "code"), registry=self.registry)
        self._seconds = Histogram(
            "fusecache_csi_call_seconds", "how long they took", ("method",), buckets=_SECONDS, registry=self.registry
        )

    def note(self, method: str, code: str, seconds: float) -> None:
        self._calls.labels(method, code).inc()
        self._seconds.labels(method).observe(seconds)

    def watch(self, name: str, help_: str, read: Callable[[], float]) -> None:
        """Add a gauge that is read when somebody asks."""
        Gauge(f"fusecache_csi_{name}", help_, registry=self.registry).set_function(read)

    def serve(self, where: Address) -> None:
        """Answer on a port, in a thread. Raises: OSError."""
        serve_metrics(where, self.registry)
