"""The project in a cluster, as users install it: both images built, put where nodes pull from, and the chart.

`python -m tests.support.installation KUBECONFIG` installs it there, and leaves it (`make cluster-install`).

Owns the release for the length of a `with`. On a cluster that the harness did not make, images go to $FUSECACHE_REGISTRY
(`registry.example/team`), and the sidecars are those that the chart names.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.cluster_harness import builds, image_archive
from tests.cluster_harness.cluster import SIDECARS, Cluster, sidecar_archive
from tests.support.built_images import NAMES, built_images, push
from tests.support.definitions import remove_unused_definitions
from tests.support.helm import Release
from tests.support.kubectl import Kubectl

NAMESPACE = "fusecache-system"
READY_SECONDS = "240s"
APPLICATION_IMAGES = ("nginx", "fluidcloudnative/serving")  # what manifests of the articles name
_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Installation:
    """`images`: name of an image of ours without its registry → what nodes pull."""

    kubectl: Kubectl
    release: Release
    images: Mapping[str, str] = field(default_factory=dict)

    def in_namespace(self, name: str) -> Kubectl:
        return Kubectl(self.kubectl.kubeconfig, name, self.kubectl.cache)


@contextlib.contextmanager
def installed(kubeconfig: Path, **values: Any) -> Iterator[Installation]:
    """Install the chart, and remove it with its definitions, Datasets and all; with FUSECACHE_TEST_INSTALLED, the one that is
    there is used and stays. Raises: ImagesMissingError, HelmError."""
    if os.environ.get("FUSECACHE_TEST_INSTALLED"):
        yield Installation(_kubectl(kubeconfig), Release(kubeconfig, NAMESPACE))
        return
    remove_unused_definitions(_kubectl(kubeconfig))  # of kubectl's, from other tests: the chart would refuse to touch them
    try:
        yield install(kubeconfig, **values)
    finally:
        kubectl = _kubectl(kubeconfig)
        Release(kubeconfig, NAMESPACE).uninstall()
        kubectl("delete", "crd", "--selector=fusecache.io/definition=true", timeout_seconds=60)
        kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--wait=true", timeout_seconds=60)


def install(kubeconfig: Path, **values: Any) -> Installation:
    """Build the images, put them where the nodes get them, and install the chart, or bring it up to date. Raises:
    ImagesMissingError, HelmError."""
    cluster = Cluster.of_kubeconfig(kubeconfig)
    with built_images() as directory:
        images = _publish(cluster, directory)
    own = {"csi": images["fusecache-csi"], "fuse": images["fusecache-fuse"], "pullPolicy": "IfNotPresent"}
    if cluster is not None:
        for name in SIDECARS:
            reference, archive = sidecar_archive(name)
            cluster.publish_image(archive)
            own[name.removeprefix("csi-")] = reference
        _publish_applications(cluster)
    release = Release(kubeconfig, NAMESPACE, images=own, values=values)
    release.bring_up("--wait", f"--timeout={READY_SECONDS}")
    return Installation(_kubectl(kubeconfig), release, images)


def _kubectl(kubeconfig: Path) -> Kubectl:
    cluster = Cluster.of_kubeconfig(kubeconfig)
    return cluster.kubectl if cluster else Kubectl(kubeconfig)


def _publish(cluster: Cluster | None, directory: Path) -> dict[str, str]:
    """Put both images where the nodes get them."""
    images, tag = {}, f"test-{os.urandom(4).hex()}"  # nodes keep what they have under a tag
    for name in NAMES:
        if cluster is None:
            images[name] = f"{os.environ['FUSECACHE_REGISTRY']}/{name}:{tag}"
            push(directory, name, f"docker://{images[name]}")
            continue
        images[name] = f"localhost/{name}:{tag}"
        with tempfile.TemporaryDirectory(prefix="fusecache-image-", dir="/var/tmp") as scratch:
            archive = Path(scratch) / "image.tar"
            push(directory, name, f"docker-archive:{archive}:{images[name]}")
            cluster.publish_image(archive)
    return images


def _publish_applications(cluster: Cluster) -> None:
    """What applications run: a shell and its tools, and nothing to do."""
    with tempfile.TemporaryDirectory(prefix="fusecache-image-", dir="/var/tmp") as scratch:
        archive = Path(scratch) / "image.tar"
        image_archive.write(archive, APPLICATION_IMAGES[0], builds.base_layer(), ["/bin/sleep", "infinity"], [_PATH])
        cluster.publish_image(archive, *APPLICATION_IMAGES)


if __name__ == "__main__":
    install(Path(sys.argv[1]))
