"""Three nodes that cache one Dataset, found by DNS: what the store sends, and what the status says of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.cluster_harness.cluster import Cluster
from tests.support.dataset_objects import dataset, reading_pod, runtime
from tests.support.fault_plan import Plan
from tests.support.fault_proxy import FaultProxy
from tests.support.kubectl import Kubectl
from tests.support.mounted import wait_until
from tests.support.nginx import nginx
from tests.support.scenarios import digests, digests_of, shows, wait_pod

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(400)]

SIZE = 48 << 20
STATUS = """
import json, urllib.request
token = open("/etc/fusecache/token/token").read().strip()
request = urllib.request.Request("http://127.0.0.1:9820/status", headers={"Authorization": f"Bearer {token}"})
print(urllib.request.urlopen(request, timeout=5).read().decode())
"""


def statuses(kubectl: Kubectl, name: str) -> list[dict[str, object]]:
    """Return what each worker says of itself."""
    pods = kubectl.items("pods", f"--selector=fusecache.io/dataset={name},app.kubernetes.io/component=cache")
    names = [pod["metadata"]["name"] for pod in pods]
    return [json.loads(kubectl("exec", pod, "--", "python", "-c", STATUS)) for pod in names]


def test_cold_pods_on_three_nodes_and_one_store(
    cluster: Cluster, tmp_path: Path, new_namespace: Callable[..., Kubectl], promise: Callable[[str, str, str, str], None]
) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "model.bin").write_bytes(os.urandom(SIZE))
    kubectl = new_namespace(f"peers-{os.urandom(3).hex()}")
    with nginx(site) as url, FaultProxy(url, Plan(bandwidth_bytes_per_second=30 << 20), cluster.addresses.machine) as proxy:
        kubectl.create([dataset("model", [{"mountPoint": f"{proxy.url}/", "name": "model", "path": "/"}]), runtime("model", 3)])
        shows(kubectl, "model", 90.0, PHASE="Bound")
        nodes = [node.name for node in cluster.nodes]
        pods = [f"reader-{node}" for node in nodes]
        kubectl.create([reading_pod(pod, "model", node=node) for pod, node in zip(pods, nodes, strict=True)])
        for pod in pods:
            wait_pod(kubectl, pod)
        assert wait_until(lambda: all(status["peers"] == sorted(nodes) for status in statuses(kubectl, "model")), 60.0, 1.0)
        proxy.reset()
        with ThreadPoolExecutor(len(pods)) as threads:
            found = list(threads.map(lambda pod: digests(kubectl, pod), pods))
        assert found == [digests_of(site)] * len(pods)
        sent = proxy.counts().bytes["GET /model.bin"]
        shared = statuses(kubectl, "model")
    promise(
        "K2 peers",
        f"{len(pods)} pods on as many nodes read one cold object at once",
        f"every byte compared; the store sent {sent / SIZE:.2f} times the object, other nodes the rest",
        "at most 1.05 times",
    )
    assert SIZE <= sent <= 1.05 * SIZE
    # The object has three groups of blocks, and a node may own none, or all of them.
    assert sum(status["peer_bytes"] for status in shared) >= 2 * SIZE - (sent - SIZE)
    assert sum(status["peer_served_bytes"] for status in shared) >= 2 * SIZE - (sent - SIZE)
