"""Cache pods of one Dataset on several nodes, which find each other and share what they have: a driver and a pod for each node.

Owns drivers and pods. A node may be there from the beginning, or come later (`add`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.support.cache_pod import TOKEN, CachePod, volume_of
from tests.support.csi_driver import CsiDriver, Mode
from tests.support.mounted import wait_until
from tests.support.seaweed import free_ports

READ = """
import hashlib, json, sys, time
digest, longest, size = hashlib.sha256(), 0.0, 0
with open(sys.argv[1], "rb", buffering=0) as file:
    while True:
        began = time.monotonic()
        data = file.read(1 << 20)
        longest = max(longest, time.monotonic() - began)
        if not data:
            break
        digest.update(data)
print(json.dumps([digest.hexdigest(), longest]))
"""


class SharingPods:
    """Attributes: pods, by node. `nodes`: whoever may ever be there, as its address is known to the others from the beginning."""

    def __init__(self, base: Path, source: Mapping[str, Any], stack: ExitStack, nodes: Sequence[str]) -> None:
        self.pods: dict[str, CachePod] = {}
        self.ports = dict(zip(nodes, free_ports(len(nodes)), strict=True))
        self._service = ",".join(f"127.0.0.1:{port}" for port in self.ports.values())
        self._drivers: dict[str, CsiDriver] = {}
        self._base, self._source, self._stack = base, source, stack

    def add(self, node: str) -> CachePod:
        """Start the pod of a node."""
        mode = ("node", "--node-id", node, "--daemons", "pods")
        self._drivers[node] = self._stack.enter_context(CsiDriver(self._base / node, {}, mode=mode))
        pod = self.pods[node] = self.pod(node, node, self.ports[node])
        self._stack.callback(pod.close)
        pod.publish()
        pod.start()
        return pod

    def wait(self) -> None:
        """Until all serve, and know each other."""
        for pod in self.pods.values():
            pod.wait_serving(30)
        names = sorted(self.pods)
        assert wait_until(lambda: all(self.status(node)["peers"] == names for node in names), 20), self.status(names[0])

    def pod(self, node: str, name: str, port: int) -> CachePod:
        """Return another pod of a node, which was not started."""
        peers = {"service": self._service, "port": port}
        return CachePod(self._drivers[node], name, [self._source], settings={"ttl": "5m"}, peers=peers, node=node)

    def status(self, node: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.pods[node].get("/status", TOKEN)[1])
        return found

    def mount(self, node: str) -> Path:
        """Return where a consumer on a node sees the Dataset."""
        volume, driver = volume_of("demo"), self._drivers[node]
        staging = driver.stage(volume, mode=Mode.MULTI_NODE_READER_ONLY)
        return driver.publish(volume, staging, "consumer", mode=Mode.MULTI_NODE_READER_ONLY)

    def fetches(self, node: str) -> list[int]:
        """The fetch processes of a pod, the one that serves and the spare."""
        process = self.pods[node].process
        assert process is not None
        return [pid for pid in below(process.pid) if b"fusecache.fetch" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def start_reader(path: Path) -> subprocess.Popen[bytes]:
    """Read a file from its beginning to its end; tell its digest, and how long the longest read took."""
    return subprocess.Popen([sys.executable, "-c", READ, str(path)], stdout=subprocess.PIPE)


def below(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from below(int(child))
