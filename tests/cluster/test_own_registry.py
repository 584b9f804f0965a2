"""A cluster that this harness did not make, as far as can be told: images go to a registry that the user names, and nodes pull
from there. At full length only: the images are built once more, and the chart is installed once more."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster_harness.cluster import SIDECARS, Cluster, sidecar_archive
from tests.cluster_harness.nodes import REGISTRIES
from tests.support.built_images import NAMES
from tests.support.dataset_objects import dataset, keys, reading_pod, runtime, s3_mount
from tests.support.helm import render
from tests.support.image_registry import ImageRegistry, image_registry, missing_registry
from tests.support.installation import NAMESPACE, Installation, installed
from tests.support.kubectl import Kubectl
from tests.support.s3_bucket import S3Bucket
from tests.support.scenarios import in_pod, shows, wait_pod
from tests.support.seaweed import ADMIN, Seaweed

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900)]

HOSTS = """server = "https://{host}"
ca = "{authority}"
"""


@pytest.fixture
def registry(cluster: Cluster, full_length: bool, disk_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ImageRegistry]:
    """As people have it: its certificate is trusted by who pushes and by the nodes, who pulls needs no password."""
    if not full_length:
        pytest.skip("runs with --full-length")
    if missing := missing_registry():
        pytest.skip(missing)
    if "FUSECACHE_TEST_INSTALLED" in os.environ:
        pytest.skip("FUSECACHE_TEST_INSTALLED: the chart that is there is to stay, and this test removes its own")
    with image_registry(disk_path, cluster.addresses.machine) as one:
        known = [node.root / REGISTRIES.lstrip("/") / one.host for node in cluster.nodes]
        for directory in known:
            directory.mkdir()
            shutil.copy(one.authority, directory / "ca.crt")
            authority = f"{REGISTRIES}/{one.host}/ca.crt"
            (directory / "hosts.toml").write_text(HOSTS.format(host=one.host, authority=authority))
        monkeypatch.setenv("SSL_CERT_FILE", str(one.authority))
        monkeypatch.setenv("FUSECACHE_REGISTRY", f"{one.host}/team")
        yield one
        for directory in known:
            shutil.rmtree(directory)


@pytest.fixture
def installation(cluster: Cluster, registry: ImageRegistry, tmp_path: Path) -> Iterator[Installation]:
    """Nodes of such a cluster reach the sidecars' registry; here the cluster's own answers for it."""
    chosen = {
        f"csi-{name}": container["image"]
        for each in render()
        if each["kind"] == "Deployment"
        for container in each["spec"]["template"]["spec"]["containers"]
        if (name := container["name"].removeprefix("csi-")) in ("attacher", "provisioner")
    }
    assert sorted(chosen) == sorted(SIDECARS)
    for name, image in chosen.items():
        cluster.publish_image(sidecar_archive(name)[1], image)
    kubeconfig = tmp_path / "config"
    shutil.copy(cluster.kubeconfig, kubeconfig)
    assert Cluster.of_kubeconfig(kubeconfig) is None
    with installed(kubeconfig) as one:
        yield one


@pytest.fixture
def store(cluster: Cluster) -> Iterator[Seaweed]:
    with Seaweed(host=cluster.addresses.machine) as seaweed:
        with S3Bucket(seaweed.endpoint_url, "bucket", ADMIN.access_key, ADMIN.secret_key) as bucket:
            bucket.create().put(b"file", b"from a registry of the user's\n")
        yield seaweed


def test_images_are_pushed_to_it_and_pods_read(
    installation: Installation, registry: ImageRegistry, store: Seaweed, namespace: Kubectl
) -> None:
    assert all(installation.images[name].startswith(f"{registry.host}/team/{name}:") for name in NAMES)
    namespace.create(
        [
            keys(ADMIN.access_key, ADMIN.secret_key),
            dataset("demo", [s3_mount("s3://bucket/", store.endpoint_url)]),
            runtime("demo"),
        ]
    )
    shows(namespace, "demo", 60.0, PHASE="Bound")
    pod = reading_pod("reader", "demo", script="sleep infinity")
    pod["spec"]["containers"][0]["image"] = installation.images["fusecache-fuse"]
    namespace.create([pod])
    wait_pod(namespace, "reader")
    assert in_pod(namespace, "reader", "cat /data/file") == "from a registry of the user's\n"
    pods = [*installation.kubectl.items("pods", f"--namespace={NAMESPACE}"), *namespace.items("pods")]
    used = {status["image"] for each in pods for status in each["status"]["containerStatuses"]}
    assert set(installation.images.values()) <= used
    namespace("delete", "pod", "reader", "--now", "--wait=true", timeout_seconds=60)
    namespace("delete", "dataset,alluxioruntime", "demo", "--wait=true", timeout_seconds=90)
