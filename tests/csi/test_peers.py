"""Cache pods of one Dataset on several nodes: what the store has to send, and what readers see when a node goes."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.support.fault_proxy import FaultProxy, Plan
from tests.support.mounted import wait_until
from tests.support.s3_bucket import S3Bucket
from tests.support.seaweed import Seaweed, free_ports
from tests.support.sharing_pods import SharingPods, start_reader
from tests.support.stored_truth import upload

pytestmark = [pytest.mark.fuse, pytest.mark.root, pytest.mark.slow, pytest.mark.requires("unshare", "setpriv")]

NODES = ("a", "b", "c")
SIZE = (96 << 20) + 12_345
BANDWIDTH = 60 << 20
LONGEST_SECONDS = 6.0  # a node that says nothing is given 2 s, its next WAIT and its connections as well; two busy cores


class Cluster(SharingPods):
    """Attributes: targets, where a consumer sees the Dataset, by node; proxy, which counts what the store sends."""

    def __init__(self, base: Path, proxy: FaultProxy, source: dict[str, Any], stack: ExitStack) -> None:
        super().__init__(base, source, stack, NODES)
        self.proxy = proxy
        for node in NODES:
            self.add(node)
        for pod in self.pods.values():
            pod.wait_serving(30)
        self.targets = {node: self.mount(node) for node in NODES}
        self.wait()

    def start_reader(self, node: str, name: str) -> subprocess.Popen[bytes]:
        return start_reader(self.targets[node] / name)


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
    assert all(bool(status["peer_served_bytes"]) == bool(status["remote_bytes"]) for status in statuses), "who owns, serves"
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
    shares = {node: list(pod.warm("", owned=True, dry_run=True))[-1]["bytes_total"] for node, pod in cluster.pods.items()}
    owner = max(NODES, key=lambda node: shares[node])  # of 7 groups of blocks a node may own none
    others = [node for node in NODES if node != owner]
    cluster.proxy.reset()
    readers = [cluster.start_reader(node, "model") for node in others]
    stopped: list[int] = []
    try:
        assert wait_until(lambda: cluster.status(owner)["peer_served_bytes"] > 4 << 20, 30)
        for pid in cluster.fetches(owner):
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
    assert sum(cluster.status(node)["peer_errors"] for node in others) > 0, "nothing was under way: this proves nothing"
    assert wait_until(lambda: cluster.status(others[0])["peers"] == list(NODES), 30), "it takes part again"


def test_who_stands_by_neither_owns_nor_serves(cluster: Cluster) -> None:
    (port,) = free_ports(1)
    second = cluster.pod("b", "second", port)
    try:
        second.publish()
        second.start()
        second.wait_standby()
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
