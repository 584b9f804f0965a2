"""The kubelets of a cluster take a CSI driver that registers itself, and run pods with its volumes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster_harness.cluster import BASE_IMAGE, Cluster, base_archive
from tests.support.fake_node_plugin import FakeNodePlugin
from tests.support.kubectl import Kubectl
from tests.support.mounted import wait_until
from tests.support.pods import pod, wait_running

pytestmark = [pytest.mark.cluster, pytest.mark.root, pytest.mark.slow, pytest.mark.timeout(300)]

DRIVER = "harness.fusecache.io"
REGISTER_SECONDS = 30.0


def test_a_driver_that_registers_itself_serves_an_inline_volume(cluster: Cluster, namespace: Kubectl) -> None:
    cluster.import_image(base_archive())
    driver = {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": DRIVER}}
    namespace.create(
        [{**driver, "spec": {"attachRequired": False, "podInfoOnMount": True, "volumeLifecycleModes": ["Ephemeral"]}}]
    )
    try:
        for node in cluster.nodes:
            first = node.first
            assert first is not None
            # Through /proc the socket's path is short enough; the plugin sees the node's files, mounts included.
            with FakeNodePlugin(DRIVER, node.name, Path(f"/proc/{first.pid}/root")) as plugin:
                assert plugin.registered.wait(REGISTER_SECONDS), plugin.registration_error
                namespace.wait_for(["csinode", node.name], lambda found: _drivers(found) == [DRIVER])
                volumes = [{"name": "volume", "csi": {"driver": DRIVER, "volumeAttributes": {"color": "blue"}}}]
                container = {"volumeMounts": [{"name": "volume", "mountPath": "/volume"}]}
                namespace.create([pod(node.name, BASE_IMAGE, node.name, ["sleep", "inf"], volumes=volumes, container=container)])
                wait_running(namespace, node.name)
                content = namespace("exec", node.name, "--", "cat", "/volume/published")
                assert "('color', 'blue')" in content
                assert f"('csi.storage.k8s.io/pod.name', '{node.name}')" in content
                namespace("delete", "pod", node.name, "--wait=true")
                assert wait_until(lambda plugin=plugin: plugin.unpublished == plugin.published, REGISTER_SECONDS)
            namespace.wait_for(["csinode", node.name], lambda found: _drivers(found) == [])
    finally:
        namespace("delete", "csidriver", DRIVER)


def _drivers(csinode: dict[str, dict[str, list[dict[str, str]] | None]]) -> list[str]:
    return [driver["name"] for driver in csinode["spec"].get("drivers") or []]
