"""What objects depend on beside the Dataset: the installation, and the Dataset's identity."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from csi import DRIVER_NAME

HTTP_PORT = 9820  # of a cache pod: /healthz, /livez, /metrics, and with a token /status and /warm
PEER_PORT = 9821  # of a cache pod: other pods of the Dataset ask it for blocks


@dataclass(frozen=True, slots=True)
class Installation:
    """Attributes:
    image: of cache pods and loaders. `pull_policy`: where no runtime sets one; "": the cluster's default.
    pull_secrets: names of Secrets that pods of ours pull images with, in namespaces that have them, beside those of runtimes.
    plugin_selector: labels of the nodes that have the node plugin: no others can cache. Empty: all have.
    priority_class: of cache pods: pods wait for their mounts, so that they should not be the first to go. "": none.
    storage_class: that PV and PVC name; nothing is provisioned by it.
    daemon_memory_bytes: what a cache pod needs beside its tiers in memory, requested where the user requests nothing (a guess
        from a daemon with 96Mi in flight, an index of a million files and its page cache).
    consumer_memory_bytes: the same on nodes that do not cache, where the daemon takes more as long as nobody else wants it (a
        guess from its processes and what is in flight).
    worker_cpu, consumer_cpu: what a cache pod that runs requests of the processors, where the user says nothing
        (csi/operator/app/processor_shares.py has what it is good for).
    """

    image: str
    pull_policy: str = ""
    pull_secrets: tuple[str, ...] = ()
    priority_class: str = ""
    plugin_selector: Mapping[str, str] = field(default_factory=dict)
    driver: str = DRIVER_NAME
    storage_class: str = "fluid"
    daemon_memory_bytes: int = 512 << 20
    consumer_memory_bytes: int = 192 << 20
    worker_cpu: str = "100m"
    consumer_cpu: str = "50m"

    def all_pull_secrets(self, of_runtime: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Return references to them, each once, those of a runtime first."""
        names = dict.fromkeys([*(str(one["name"]) for one in of_runtime if one.get("name")), *self.pull_secrets])
        return [{"name": name} for name in names]


@dataclass(frozen=True, slots=True)
class Identity:
    """The Dataset as the cluster knows it: objects are owned by it, and go with it."""

    uid: str
