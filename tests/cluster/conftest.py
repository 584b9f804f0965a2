"""The cluster that $KUBECONFIG names: any, or one of the harness, whose nodes can be entered and given images. Where pytest runs
several processes, the first gets the first cluster that it names, and so on."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.cluster_harness import needs
from tests.cluster_harness.cluster import Cluster
from tests.support.kubectl import Kubectl, find_kubectl
from tests.support.mounted import ROOT

INSTALLED = Path(__file__).parent / "installed"
NAMESPACE_SECONDS = 60.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of the installed chart come last: it stays until the end, and others bring definitions and operators of their own."""
    items.sort(key=lambda item: item.path.is_relative_to(INSTALLED))


class TwoClusters(LoadScopeScheduling):
    """Two processes divide the tests there, and nowhere else: neither part ever shares its cluster with the other."""

    def _split_scope(self, nodeid: str) -> str:
        return str((ROOT / nodeid.partition("::")[0]).is_relative_to(INSTALLED))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    return TwoClusters(config, log) if config.getoption("dist") == "loadscope" else None


@pytest.fixture(scope="session")
def kubeconfig() -> Path:
    if find_kubectl() is None:
        pytest.skip("kubectl is not installed (make test-cluster installs it)")
    if named := os.environ.get("KUBECONFIG"):
        paths = named.split(os.pathsep)
        mine = paths[_process_number() % len(paths)]
        os.environ["KUBECONFIG"] = mine  # for programs that tests start
        return Path(mine)
    pytest.skip(needs.missing() or "KUBECONFIG names no cluster (make test-cluster boots one)")


def _process_number() -> int:
    return int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))


@pytest.fixture(scope="session")
def cluster(kubeconfig: Path) -> Cluster:
    """A cluster of the harness."""
    if (found := Cluster.of_kubeconfig(kubeconfig)) is None:
        pytest.skip(f"{kubeconfig} is of a cluster that the harness did not make")
    return found


@pytest.fixture(scope="session")
def leave_namespace(kubeconfig: Path) -> Iterator[Callable[[Kubectl], None]]:
    """Has a namespace deleted. That takes seconds, which no test waits for; that it came to an end is seen when all have run."""
    left: list[str] = []

    def leave(kubectl: Kubectl) -> None:
        kubectl("delete", "namespace", kubectl.namespace, "--wait=false")
        left.append(f"namespace/{kubectl.namespace}")

    yield leave
    if left:
        seconds = NAMESPACE_SECONDS
        Kubectl(kubeconfig)("wait", "--for=delete", *left, f"--timeout={seconds:.0f}s", timeout_seconds=2 * seconds)


@pytest.fixture
def namespace(kubeconfig: Path, leave_namespace: Callable[[Kubectl], None]) -> Iterator[Kubectl]:
    """A namespace of the test's own, as a kubectl for it."""
    yield (kubectl := _new_namespace(kubeconfig))
    leave_namespace(kubectl)


@pytest.fixture(scope="module")
def module_namespace(kubeconfig: Path, leave_namespace: Callable[[Kubectl], None]) -> Iterator[Kubectl]:
    """The same for all tests of a file."""
    yield (kubectl := _new_namespace(kubeconfig))
    leave_namespace(kubectl)


def _new_namespace(kubeconfig: Path) -> Kubectl:
    name = f"test-{os.urandom(4).hex()}"
    cluster = Cluster.of_kubeconfig(kubeconfig)
    kubectl = replace(cluster.kubectl if cluster else Kubectl(kubeconfig), namespace=name)
    kubectl("create", "namespace", name)
    kubectl.wait_for(["serviceaccount", "default"], lambda account: True)
    return kubectl
