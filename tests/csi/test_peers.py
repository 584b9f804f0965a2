"""Cache pods of one Dataset on several nodes: what the store has to send, and what readers see when a node goes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.cache_pod import TOKEN, CachePod, volume_of
from tests.support.csi_driver import CsiDriver, Mode
from tests.support.fault_proxy import FaultProxy, Plan
from tests.support.mounted import wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Seaweed, free_ports
from tests.support.stored_truth import upload

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.requires("unshare", "setpriv")]

NODES = ("a", "b", "c")
SIZE = (96 << 20) + 12_345
BANDWIDTH = 60 << 20
LONGEST_SECONDS = 6.0  # a node that says nothing is given 2 s, its next WAIT and its connections as well; two busy cores
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


class Cluster:
    """Attributes: pods and targets (where a consumer sees the Dataset) by node; proxy, which counts what the store sends."""

    def __init__(self, base: Path, proxy: FaultProxy, source: dict[str, Any], stack: ExitStack) -> None:
        self.proxy = proxy
        self.pods: dict[str, CachePod] = {}
        self.targets: dict[str, Path] = {}
        self.drivers: dict[str, CsiDriver] = {}
        self.ports = dict(zip(NODES, free_ports(len(NODES)), strict=True))
        self.service = ",".join(f"127.0.0.1:{port}" for port in self.ports.values())
        self._source = source
        for node in NODES:
            mode = ("node", "--node-id", node, "--daemons", "pods")
            driver = self.drivers[node] = stack.enter_context(CsiDriver(base / node, {}, mode=mode))
            pod = self.pods[node] = self.pod(node, node, self.ports[node])
            stack.callback(pod.close)
            pod.publish()
            pod.start()
        for node, pod in self.pods.items():
            pod.wait_serving(30)
            volume = volume_of("demo")
            driver = self.drivers[node]
            staging = driver.stage(volume, mode=Mode.MULTI_NODE_READER_ONLY)
            self.targets[node] = driver.publish(volume, staging, "consumer", mode=Mode.MULTI_NODE_READER_ONLY)
        assert wait_until(lambda: all(self.status(node)["peers"] == list(NODES) for node in NODES), 20), self.status("a")

    def pod(self, node: str, name: str, port: int) -> CachePod:
        peers = {"service": self.service, "port": port}
        return CachePod(self.drivers[node], name, [self._source], settings={"ttl": "5m"}, peers=peers, node=node)

    def status(self, node: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.pods[node].get("/status", TOKEN)[1])
        return found

    def start_reader(self, node: str, name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([sys.executable, "-c", READ, str(self.targets[node] / name)], stdout=subprocess.PIPE)

    def fetches(self, node: str) -> list[int]:
        """The fetch processes of a pod, the one that serves and the spare."""
        process = self.pods[node].process
        assert process is not None
        return [pid for pid in below(process.pid) if b"fusecache.fetch" in Path(f"/proc/{pid}/cmdline").read_bytes()]


def below(pid: int) -> Iterator[int]:
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        yield int(child)
        yield from below(int(child))


@pytest.fixture
def data(disk_path: Path, seaweed: Seaweed, bucket: S3Bucket) -> bytes:
    made = random.Random(3).randbytes(SIZE)
    directory = disk_path / "truth"
    directory.mkdir()
    (directory / "model").write_bytes(made)
    upload(seaweed, bucket.bucket, directory)
    return made


@pytest.fixture
def cluster(disk_path: Path, seaweed: Seaweed, bucket: S3Bucket, data: bytes) -> Iterator[Cluster]:
    with FaultProxy(seaweed.endpoint_url, Plan(bandwidth_bytes_per_second=BANDWIDTH)) as proxy, ExitStack() as stack:
        source = {
            "url": f"s3://{bucket.bucket}", "place": "", "options": {"endpoint_url": proxy.url},
            "secret_options": {"access_key": "0.access_key", "secret_key": "0.secret_key"},
        }  # fmt: skip
        yield Cluster(disk_path, proxy, source, stack)


def collect(readers: Sequence[subprocess.Popen[bytes]]) -> list[tuple[str, float]]:
    found = []
    try:
        for reader in readers:
            out, _ = reader.communicate(timeout=90)
            found.append(tuple(json.loads(out)))
    finally:
        for reader in readers:
            reader.kill()
            reader.wait()
    return found


def test_all_nodes_start_cold_and_the_store_sends_everything_once(cluster: Cluster, bucket: S3Bucket, data: bytes) -> None:
    cluster.proxy.reset()
    seen = collect([cluster.start_reader(node, "model") for node in NODES])
    assert [digest for digest, _ in seen] == [hashlib.sha256(data).hexdigest()] * len(NODES)
    sent = cluster.proxy.counts().bytes[f"GET /{bucket.bucket}/model"]
    statuses = [cluster.status(node) for node in NODES]
    print(f"the store sent {sent} bytes of an object of {SIZE} to {len(NODES)} nodes")
    assert SIZE <= sent <= 1.05 * SIZE
    assert sum(status["peer_bytes"] for status in statuses) >= 2 * SIZE - (sent - SIZE)
    assert all(status["peer_served_bytes"] and status["remote_bytes"] for status in statuses), "each has owned a part"
    assert sum(status["remote_bytes"] for status in statuses) == sent


def test_loaded_by_all_and_then_read_elsewhere(cluster: Cluster, bucket: S3Bucket, data: bytes) -> None:
    lines = [list(pod.warm("", owned=True)) for pod in cluster.pods.values()]
    assert [line[-1]["owners"] for line in lines] == [list(NODES)] * 3
    assert sum(line[-1]["bytes"] for line in lines) == SIZE
    assert sum(line[-1]["files"] for line in lines) == 1
    assert sum(cluster.status(node)["cached_bytes"] for node in NODES) == SIZE
    cluster.proxy.reset()
    ((digest, _),) = collect([cluster.start_reader("b", "model")])
    assert digest == hashlib.sha256(data).hexdigest()
    assert f"GET /{bucket.bucket}/model" not in cluster.proxy.counts().bytes
    status = cluster.status("b")
    assert status["peer_hit_bytes"] == status["peer_bytes"] == SIZE - status["remote_bytes"]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_an_owner_goes_in_the_middle_of_a_transfer(
    cluster: Cluster, bucket: S3Bucket, data: bytes, number: signal.Signals
) -> None:
    cluster.proxy.reset()
    readers = [cluster.start_reader(node, "model") for node in ("a", "c")]
    stopped: list[int] = []
    try:
        assert wait_until(lambda: cluster.status("b")["peer_served_bytes"] > 4 << 20, 30)
        for pid in cluster.fetches("b"):
            stopped.append(pid)
            os.kill(pid, number)
        assert stopped
        seen = collect(readers)
    finally:
        for pid in stopped:
            if number is signal.SIGSTOP:
                os.kill(pid, signal.SIGCONT)
        for reader in readers:
            reader.kill()
            reader.wait()
    sent = cluster.proxy.counts().bytes[f"GET /{bucket.bucket}/model"]
    print(f"{number.name}: longest reads {[longest for _, longest in seen]}; the store sent {sent / SIZE:.2f} times the object")
    assert [digest for digest, _ in seen] == [hashlib.sha256(data).hexdigest()] * 2
    assert max(longest for _, longest in seen) < LONGEST_SECONDS
    assert sum(cluster.status(node)["peer_errors"] for node in ("a", "c")) > 0, "nothing was under way: this proves nothing"
    assert wait_until(lambda: cluster.status("a")["peers"] == list(NODES), 30), "it takes part again"


def test_who_stands_by_neither_owns_nor_serves(cluster: Cluster) -> None:
    (port,) = free_ports(1)
    second = cluster.pod("b", "second", port)
    try:
        second.publish()
        second.start()
        assert wait_until(second.is_standby, 20), second.log()
        with pytest.raises(ConnectionError):
            socket.create_connection(("127.0.0.1", port), 1).close()
        began = time.monotonic()
        cluster.pods["b"].end()
        second.wait_serving()
        assert wait_until(lambda: _listens(port), 5)
        print(f"the second pod answers peers {time.monotonic() - began:.1f} s after the first was told to end")
    finally:
        second.close()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except ConnectionError:
        return False
    return True
