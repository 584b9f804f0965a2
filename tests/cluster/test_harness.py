"""What a cluster of the harness must be able to do before anything can be tested on it."""

from __future__ import annotations

import json
import threading
import urllib.request
from dataclasses import dataclass
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.cluster_harness import nodes
from tests.cluster_harness.cluster import BASE_IMAGE, PAUSE_IMAGE, Cluster, base_archive
from tests.support.kubectl import Kubectl, KubectlError
from tests.support.mounted import wait_until
from tests.support.pods import pod, service, wait_running

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]

PORT = 8080
SOON_SECONDS = 30.0
SERVE = ["python3", "-m", "http.server", str(PORT), "--directory=/etc"]
FETCH = "import sys, urllib.request; print(urllib.request.urlopen(sys.argv[1], timeout=10).read().decode())"
RESOLVE = """
import socket, sys
try:
    print(socket.gethostbyname(sys.argv[1]))
except OSError as error:
    print(error)
"""
ASK_API_SERVER = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile="/var/run/secrets/kubernetes.io/serviceaccount/ca.crt")
print(urllib.request.urlopen(sys.argv[1], context=context, timeout=10).read().decode())
"""


@dataclass(frozen=True, slots=True)
class Servers:
    """A pod on each node that serves its /etc, called as the node; and a service in front of each."""

    kubectl: Kubectl
    pods: dict[str, str]  # name -> address
    services: dict[str, str]  # name -> address

    def run(self, name: str, program: str, argument: str) -> str:
        """Run a Python program in a pod and return what it printed."""
        return self.kubectl("exec", name, "--", "python3", "-c", program, argument).strip()

    def serves(self, client: str, server: str, address: str) -> bool:
        """Whether one pod gets the host name of another from an address."""
        try:
            return self.run(client, FETCH, f"http://{address}:{PORT}/hostname") == server
        except KubectlError:
            return False


@pytest.fixture(scope="module")
def base_image(cluster: Cluster) -> str:
    cluster.import_image(base_archive())
    return BASE_IMAGE


@pytest.fixture(scope="module")
def servers(cluster: Cluster, base_image: str, module_namespace: Kubectl) -> Servers:
    names = [node.name for node in cluster.nodes]
    module_namespace.create([pod(name, base_image, name, SERVE) for name in names])
    module_namespace.create([service(f"to-{name}", name, PORT) for name in names])
    addresses = {f"to-{name}": str(module_namespace.get("service", f"to-{name}")["spec"]["clusterIP"]) for name in names}
    return Servers(module_namespace, wait_running(module_namespace, *names), addresses)


def test_three_nodes_are_ready(cluster: Cluster) -> None:
    found = cluster.kubectl.items("nodes")
    assert [node["metadata"]["name"] for node in found] == ["node-1", "node-2", "node-3"]
    for node in found:
        assert {one["type"] for one in node["status"]["conditions"] if one["status"] == "True"} == {"Ready"}
        assert not node["spec"].get("taints")
    assert cluster.problems() == []


def test_the_smallest_pod_runs_on_each_node(cluster: Cluster, namespace: Kubectl) -> None:
    names = [node.name for node in cluster.nodes]
    namespace.create([pod(name, PAUSE_IMAGE, name) for name in names])
    assert len(set(wait_running(namespace, *names).values())) == len(names)


def test_exec_and_logs_work_on_each_node(servers: Servers) -> None:
    for name, address in servers.pods.items():
        assert servers.kubectl("exec", name, "--", "hostname").strip() == name
        assert wait_until(partial(servers.serves, name, name, address), SOON_SECONDS, 0.5)
        assert "GET /hostname" in servers.kubectl("logs", name)


def test_pods_reach_each_other_across_nodes_and_through_services(servers: Servers) -> None:
    for client in servers.pods:
        for server, address in servers.pods.items():
            for one in (address, servers.services[f"to-{server}"]):
                assert wait_until(partial(servers.serves, client, server, one), SOON_SECONDS, 0.5), (client, server, one)


def test_pods_and_the_machine_reach_each_other(cluster: Cluster, servers: Servers, tmp_path: Path) -> None:
    (tmp_path / "hostname").write_text("the machine")
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer((cluster.addresses.machine, PORT), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for name, address in servers.pods.items():
                assert servers.serves(name, "the machine", "machine.fusecache.internal")
                assert _fetch(f"http://{address}:{PORT}/hostname") == name
                assert _fetch(f"http://{servers.services[f'to-{name}']}:{PORT}/hostname") == name
        finally:
            server.shutdown()
            thread.join()


def test_names_of_the_cluster_resolve_and_others_do_not(cluster: Cluster, servers: Servers) -> None:
    namespace = servers.kubectl.namespace
    for client in servers.pods:
        for name, address in servers.services.items():
            assert servers.run(client, RESOLVE, name) == address
            assert servers.run(client, RESOLVE, f"{name}.{namespace}.svc.cluster.local") == address
        assert servers.run(client, RESOLVE, "machine.fusecache.internal") == cluster.addresses.machine
        assert "not known" in servers.run(client, RESOLVE, "example.com")


def test_a_pod_reaches_the_api_server(servers: Servers) -> None:
    for name in servers.pods:
        version = json.loads(servers.run(name, ASK_API_SERVER, "https://kubernetes.default.svc/version"))
        assert version["gitVersion"].startswith("v1.")


def test_mounts_of_a_pod_reach_the_pods_of_its_node_only(cluster: Cluster, base_image: str, namespace: Kubectl) -> None:
    """As a CSI driver mounts volumes: Bidirectional, below the kubelet's directory."""
    directory = f"/var/lib/kubelet/plugins/{namespace.namespace}"
    volumes = [{"name": "plugins", "hostPath": {"path": directory, "type": "DirectoryOrCreate"}}]
    pods = {}
    for node in cluster.nodes:
        for role, propagation in (("mounts", "Bidirectional"), ("sees", "HostToContainer")):
            mounts = [{"name": "plugins", "mountPath": directory, "mountPropagation": propagation}]
            container = {"volumeMounts": mounts, "securityContext": {"privileged": True}}
            name = f"{role}-{node.name}"
            pods[name] = pod(name, base_image, node.name, ["sleep", "inf"], volumes=volumes, container=container)
    namespace.create(list(pods.values()))
    wait_running(namespace, *pods)

    for node in cluster.nodes:
        mounting, seeing = (["exec", "--stdin", f"{role}-{node.name}", "--"] for role in ("mounts", "sees"))
        namespace(*mounting, "mkdir", f"{directory}/volume")
        namespace(*mounting, "mount", "-t", "tmpfs", "tmpfs", f"{directory}/volume")
        namespace(*mounting, "tee", f"{directory}/volume/file", stdin=f"from {node.name}")
        assert namespace(*seeing, "cat", f"{directory}/volume/file") == f"from {node.name}"
        assert node.run(["cat", f"{directory}/volume/file"]) == f"from {node.name}"
        assert not (node.root / directory.lstrip("/") / "volume" / "file").exists(), "the machine sees the mount"
        namespace(*mounting, "umount", f"{directory}/volume")
        assert namespace(*seeing, "ls", f"{directory}/volume") == ""


def test_programs_of_a_node_are_killed_and_started_again_under_its_pods(cluster: Cluster, servers: Servers) -> None:
    node = cluster.nodes[1]
    for name in ("containerd", "kubelet", "kube-proxy"):
        before = node.program(name)
        node.restart(name)
        after = node.program(name)
        assert before is not None
        assert after is not None
        assert before.process != after.process
        assert not before.process.is_alive
        assert after.process.is_alive
        assert wait_until(partial(nodes.containerd_answers, node), SOON_SECONDS, 0.2)
    assert wait_until(partial(servers.serves, node.name, "node-1", servers.services["to-node-1"]), SOON_SECONDS, 0.5)
    status = servers.kubectl.get("pod", node.name)["status"]
    assert status["containerStatuses"][0]["restartCount"] == 0
    cluster.kubectl.wait_for(["node", node.name], _is_ready)


def test_nothing_of_a_node_is_outside_of_its_directory(cluster: Cluster) -> None:
    for node in cluster.nodes:
        for path in ("/var/lib/kubelet", "/var/lib/containerd", "/var/log/pods", "/var/lib/cni", "/etc/cni/net.d"):
            assert any((node.root / path.lstrip("/")).iterdir()), path
    assert str(cluster.directory) not in Path("/proc/self/mounts").read_text()


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as response:
        content: bytes = response.read()
    return content.decode().strip()


def _is_ready(node: dict[str, dict[str, list[dict[str, str]]]]) -> bool:
    return any(one["type"] == "Ready" and one["status"] == "True" for one in node["status"]["conditions"])
