"""The cluster that $KUBECONFIG names: any, or one of the harness, whose nodes can be entered and given images."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.cluster_harness import needs
from tests.cluster_harness.cluster import Cluster
from tests.support.kubectl import Kubectl, find_kubectl

INSTALLED = Path(__file__).parent / "installed"
NAMESPACE_SECONDS = 60.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the installed chart come last: it stays until the end, and others bring definitions and operators of their own."""
    items.sort(key=lambda item: item.path.is_relative_to(INSTALLED))


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    if find_kubectl() is None:
        pytest.skip("kubectl is not installed (make test-cluster installs it)")
    if path := os.environ.get("KUBECONFIG"):
        return Path(path.split(os.pathsep)[0])
    pytest.skip(needs.missing() or "KUBECONFIG names no cluster (make test-cluster boots one)")


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Cluster:
    """A cluster of the harness."""
    if (found := Cluster.of_kubeconfig(kubeconfig)) is None:
        pytest.skip(f"{kubeconfig} is of a cluster that the harness did not make")
    return found


@pytest.fixture
def namespace(kubeconfig: Path) -> Iterator[Kubectl]:
    """A namespace of the test's own, as a kubectl for it."""
    with _new_namespace(kubeconfig) as kubectl:
        yield kubectl


@pytest.fixture(scope="module")
def module_namespace(kubeconfig: Path) -> Iterator[Kubectl]:
    """The same for all tests of a file: to remove pods takes seconds."""
    with _new_namespace(kubeconfig) as kubectl:
        yield kubectl


@contextlib.contextmanager
def _new_namespace(kubeconfig: Path) -> Iterator[Kubectl]:
    name = f"test-{os.urandom(4).hex()}"
    cluster = Cluster.of_kubeconfig(kubeconfig)
    kubectl = replace(cluster.kubectl if cluster else Kubectl(kubeconfig), namespace=name)
    kubectl("create", "namespace", name)
    kubectl.wait_for(["serviceaccount", "default"], lambda account: True)
    yield kubectl
    kubectl("delete", "namespace", name, "--wait=true", timeout_seconds=NAMESPACE_SECONDS)
