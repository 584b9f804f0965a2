"""The chart in the cluster, with images of this checkout: what users have. One for all tests of this directory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cluster_harness.cluster import Cluster
from tests.support.built_images import ImagesMissingError
from tests.support.installation import Installation, installed
from tests.support.kubectl import Kubectl

KEEP_CACHES_SECONDS = 45
KINDS = "datasets,dataloads,alluxioruntimes,jindoruntimes,efcruntimes,thinruntimes"


@pytest.fixture(scope="session")  # a directory that is no package of Python is no scope
def installation(kubeconfig: Path) -> Iterator[Installation]:
    if Cluster.of_kubeconfig(kubeconfig) is None and "FUSECACHE_REGISTRY" not in os.environ:
        pytest.skip("FUSECACHE_REGISTRY names no registry that the nodes pull from")
    try:
        with installed(kubeconfig, node={"keepCaches": KEEP_CACHES_SECONDS}) as one:
            yield one
    except ImagesMissingError as missing:
        pytest.skip(str(missing))


@pytest.fixture
def new_namespace(installation: Installation, leave_namespace: Callable[[Kubectl], None]) -> Iterator[Callable[..., Kubectl]]:
    """`new_namespace(NAME, **labels)` makes a namespace, which goes with all Datasets in it, and is a kubectl for it."""
    made: list[Kubectl] = []

    def make(name: str, **labels: str) -> Kubectl:
        kubectl = installation.in_namespace(name)
        kubectl("wait", "--for=delete", f"namespace/{name}", "--timeout=60s", timeout_seconds=70)  # that of the test before
        kubectl("create", "namespace", name)
        made.append(kubectl)
        for key, value in labels.items():
            kubectl("label", "namespace", name, f"{key}={value}")
        kubectl.wait_for(["serviceaccount", "default"], lambda account: True)
        return kubectl

    yield make
    for kubectl in reversed(made):
        if not kubectl.items("namespaces", f"--field-selector=metadata.name={kubectl.namespace}"):
            continue
        kubectl("delete", "pods,deployments,statefulsets,jobs", "--all", "--now", "--wait=true", timeout_seconds=90)
        kubectl("delete", KINDS, "--all", "--wait=true", timeout_seconds=90)
        leave_namespace(kubectl)
