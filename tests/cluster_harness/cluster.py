"""A cluster that is there: its boxes, its kubeconfig, its images. What tests and the command line hold in their hands.

Owns no state beside what is on disk (record.py, boxes.py); any number of processes may hold the same cluster.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from tests.cluster_harness import builds, image_archive, nodes, registry
from tests.cluster_harness.addresses import Addresses
from tests.cluster_harness.boxes import Box
from tests.cluster_harness.record import CONTROL_PLANE, ClusterRecord
from tests.support.kubectl import Kubectl

IMPORT_SECONDS = 300.0
KUBECONFIG_FILE = "kubeconfig"
BOOTED_FILE = "booted"  # empty; boot.py makes it when all is well
PAUSE_IMAGE = nodes.PAUSE_IMAGE
BASE_IMAGE = "localhost/fusecache-base:bookworm"
SIDECARS = ("csi-attacher", "csi-provisioner")


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster below `directory`."""

    directory: Path
    record: ClusterRecord

    @classmethod
    def load(cls, directory: Path) -> Self | None:
        record = ClusterRecord.load(directory)
        return cls(directory, record) if record else None

    @classmethod
    def of_kubeconfig(cls, kubeconfig: Path) -> Self | None:
        """Return the cluster that a kubeconfig belongs to; None if this harness did not make it."""
        return cls.load(kubeconfig.resolve().parent) if kubeconfig.name == KUBECONFIG_FILE else None

    @property
    def kubeconfig(self) -> Path:
        return self.directory / KUBECONFIG_FILE

    @property
    def kubectl(self) -> Kubectl:
        return Kubectl(self.kubeconfig, cache=self.directory / "kubectl-cache")

    @property
    def addresses(self) -> Addresses:
        return self.record.addresses

    def box(self, name: str) -> Box:
        return Box(self.directory, self.record.cgroup, name)

    @property
    def control_plane(self) -> Box:
        return self.box(CONTROL_PLANE)

    @property
    def nodes(self) -> list[Box]:
        return [self.box(name) for name in self.record.nodes]

    def import_image(self, archive: Path) -> None:
        """Put the images of an archive (`docker save`, `buildah push NAME docker-archive:FILE`, OCI) on every node.

        Raises: BoxError.
        """
        with ThreadPoolExecutor(len(self.nodes)) as threads:
            list(threads.map(lambda node: import_into(node, archive), self.nodes))

    def publish_image(self, archive: Path, *names: str) -> list[str]:
        """Put the images of an archive into the registry that all nodes pull from, under other names if any are given."""
        return registry.publish(self.control_plane, archive, list(names) or None)

    def problems(self) -> list[str]:
        """Return why the cluster is not well: what has ended, or that it was never complete."""
        found = [] if (self.directory / BOOTED_FILE).exists() else ["it was not booted to the end"]
        for box in (self.control_plane, *self.nodes):
            if not box.is_alive:
                found.append(f"{box.name} is not running")
            else:
                ended = (name for name, program in box.programs().items() if not program.process.is_alive)
                found += [f"{name} of {box.name} has ended" for name in ended]
        return found


def import_into(node: Box, archive: Path) -> None:
    """Put the images of an archive on one node. Raises: BoxError."""
    with archive.open("rb") as file:
        node.run(["ctr", "--namespace=k8s.io", "images", "import", "-"], stdin=file, timeout_seconds=IMPORT_SECONDS)


def pause_archive() -> Path:
    """Return the archive of PAUSE_IMAGE, the smallest of all: one program that waits. Raises: BuildError."""
    return _program_archive("pause", builds.build("pause")["pause"], PAUSE_IMAGE)


def sidecar_archive(name: str) -> tuple[str, Path]:
    """Return name and archive of the image of one of SIDECARS: nothing but the program. Raises: BuildError."""
    directory = builds.build(name)[name]
    reference = f"localhost/fusecache/{name}:{directory.name.removeprefix(f'{name}-')}"
    return reference, _program_archive(name, directory, reference)


def base_archive() -> Path:
    """Return the archive of BASE_IMAGE: Debian with Python, which images of the project are built on. Raises: BuildError."""
    layer = builds.base_layer()
    archive = layer.with_suffix(".image")
    if not archive.exists():
        path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
        image_archive.write(archive, BASE_IMAGE, layer, environment=[path])
    return archive


def _program_archive(name: str, directory: Path, reference: str) -> Path:
    """Several processes may come here at a time: each makes its own, and the last one stays."""
    archive = directory / "image.tar"
    if not archive.exists():
        with tempfile.TemporaryDirectory(dir=directory) as scratch:
            layer, made = Path(scratch) / "layer.tar", Path(scratch) / archive.name
            image_archive.write_layer(layer, {f"/{name}": directory / name})
            image_archive.write(made, reference, layer, entrypoint=[f"/{name}"])
            made.rename(archive)
    return archive
