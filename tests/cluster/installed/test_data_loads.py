"""DataLoads with everything in its place: cache pods, loaders, operator with the rights of the chart."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fusecache.base.units import format_percentage, format_size
from tests.cluster_harness.cluster import Cluster
from tests.support.dataset_objects import API_VERSION, dataset, runtime
from tests.support.fault_plan import Plan
from tests.support.fault_proxy import FaultProxy
from tests.support.kubectl import Kubectl
from tests.support.nginx import nginx
from tests.support.scenarios import shows
from tests.support.spark_site import LATEST, SITE, make_site

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(600)]

SHARE = 0.02
OLD = "spark-3.1.3"
END_SECONDS = 120.0


@pytest.fixture(scope="module")
def sizes_and_url(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, int], str]]:
    root: Path = tmp_path_factory.mktemp("site")
    sizes = make_site(root, SHARE)
    with nginx(root) as url, FaultProxy(url, Plan(), cluster.addresses.machine) as proxy:
        yield sizes, proxy.url


def load(kubectl: Kubectl, name: str, **spec: Any) -> None:
    given = {"dataset": {"name": "spark"}, **spec}
    kubectl.create([{"apiVersion": API_VERSION, "kind": "DataLoad", "metadata": {"name": name}, "spec": given}])


def ended(kubectl: Kubectl, name: str) -> dict[str, Any]:
    """Return the status of a DataLoad that is over."""
    found = kubectl.wait_for(
        ["dataload", name], lambda found: found.get("status", {}).get("phase") in ("Complete", "Failed"), END_SECONDS
    )
    status: dict[str, Any] = found["status"]
    return status


def test_loads_of_all_kinds(sizes_and_url: tuple[dict[str, int], str], new_namespace: Callable[..., Kubectl]) -> None:
    sizes, url = sizes_and_url
    total, latest = sum(sizes.values()), sizes[LATEST]
    name = f"loads-{os.urandom(3).hex()}"  # what a Dataset of the same name has cached is still on the nodes
    development = new_namespace(name)
    mount = {"mountPoint": f"{url}/", "name": "spark", "path": "/"}
    development.create([dataset("spark", [mount]), runtime("spark")])
    shows(development, "spark", END_SECONDS, PHASE="Bound", UFS_TOTAL_SIZE=format_size(total), CACHED="0.00B")

    load(development, "part", target=[{"path": f"/{LATEST}"}])
    status = ended(development, "part")
    assert status["phase"] == "Complete", status
    assert status["infos"] == {"Progress": f"{format_size(latest)}/{format_size(latest)}", "FilesDone": str(len(SITE[LATEST]))}
    assert "files with" in status["conditions"][0]["message"]
    shows(development, "spark", CACHED=format_size(latest), CACHED_PERCENTAGE=format_percentage(latest, total))

    load(development, "lost", target=[{"path": "/nowhere/at/all"}])
    status = ended(development, "lost")
    assert status["phase"] == "Failed"
    assert "'nowhere/at/all' is not in the dataset" in status["conditions"][0]["message"]
    assert len(development.items("pods", "--selector=job-name=lost-loader-job")) == 1, "to try again is in vain"

    other = new_namespace(f"{name}-elsewhere")
    other.create([dataset("spark", [{"mountPoint": f"dataset://{name}/spark/{OLD}"}])])
    shows(other, "spark", END_SECONDS, PHASE="Bound")
    load(other, "through", target=[{"path": "/part-*.tgz"}])
    status = ended(other, "through")
    assert (status["phase"], status["infos"]["FilesDone"]) == ("Complete", str(len(SITE[OLD]))), status
    both = latest + sizes[OLD]
    shows(development, "spark", CACHED=format_size(both), CACHED_PERCENTAGE=format_percentage(both, total))

    load(development, "often", policy="Cron", schedule="* * * * *")
    status = development.wait_for(
        ["dataload", "often"], lambda found: bool(found.get("status", {}).get("lastSuccessfulTime")), END_SECONDS + 60.0
    )["status"]
    assert status["lastScheduleTime"] <= status["lastSuccessfulTime"]
    shows(development, "spark", CACHED=format_size(total), CACHED_PERCENTAGE="100.0%")


def test_three_nodes_load_a_part_each(sizes_and_url: tuple[dict[str, int], str], new_namespace: Callable[..., Kubectl]) -> None:
    sizes, url = sizes_and_url
    total = sum(sizes.values())
    namespace = new_namespace(f"parts-{os.urandom(3).hex()}")
    namespace.create([dataset("spark", [{"mountPoint": f"{url}/", "name": "spark", "path": "/"}]), runtime("spark", replicas=3)])
    load(namespace, "all")
    status = ended(namespace, "all")
    assert status["phase"] == "Complete", status
    files = sum(map(len, SITE.values()))
    assert status["infos"] == {"Progress": f"{format_size(total)}/{format_size(total)}", "FilesDone": str(files)}
    assert status["conditions"][0]["message"] == f"{files} files with {format_size(total)} are cached"
    shows(namespace, "spark", CACHED=format_size(total), CACHED_PERCENTAGE="100.0%")
    runtimes = namespace.get("alluxioruntime", "spark")["status"]
    assert (runtimes["desiredWorkerNumberScheduled"], runtimes["workerNumberReady"]) == (3, 3)
