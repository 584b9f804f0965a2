"""The first article, from a web site to a second namespace: what users type, and what they see (figures K1)."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from csi.operator.formats import format_percentage, format_size
from tests.cluster_harness.cluster import Cluster
from tests.support.fault_proxy import FaultProxy, Plan
from tests.support.kubectl import Kubectl
from tests.support.mounted import wait_until
from tests.support.nginx import nginx
from tests.support.scenarios import copy_seconds, create, digests, digests_of, node_of, printed, shows
from tests.support.spark_site import LATEST, SITE, make_site

pytestmark = [pytest.mark.cluster, pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.requires("nginx")]

PRINTED_ADDRESS = "https://mirrors.bit.edu.cn/apache/spark/"
LINK_BYTES_PER_SECOND = int(6.8 * (1 << 20))
SHARE, FULL_SHARE = 1 / 16, 1.0


@dataclass(frozen=True, slots=True)
class Site:
    """`sizes`: bytes of each directory. `proxy`: counts what is asked for, and is as fast as the link of the article."""

    root: Path
    sizes: dict[str, int]
    proxy: FaultProxy

    @property
    def total(self) -> int:
        return sum(self.sizes.values())


@pytest.fixture
def site(cluster: Cluster, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Site]:
    share = FULL_SHARE if request.config.getoption("--full-length") else SHARE
    sizes = make_site(tmp_path / "site", share)
    os.sync()  # the cluster is on the same disk: the start of a cache pod took 17 s beside gigabytes on their way there
    with (
        nginx(tmp_path / "site") as url,
        FaultProxy(url, Plan(bandwidth_bytes_per_second=LINK_BYTES_PER_SECOND), cluster.addresses.machine) as proxy,
    ):
        yield Site(tmp_path / "site", sizes, proxy)


def test_a_web_site_from_dataset_to_second_namespace(
    site: Site, new_namespace: Callable[..., Kubectl], promise: Callable[[str, str, str, str], None]
) -> None:
    total, cached = format_size(site.total), format_size(site.sizes[LATEST])
    share = format_percentage(site.sizes[LATEST], site.total)
    assert share == "38.4%"
    development = new_namespace("development")

    create(development, "spark-webufs-alluxio.yaml", **{PRINTED_ADDRESS: f"{site.proxy.url}/"})
    began = time.monotonic()
    development.wait_for(["pvc", "spark"], lambda claim: claim["status"].get("phase") == "Bound", 10.0)
    shows(development, "spark", 10.0 + 5.0, PHASE="Bound", CACHE_CAPACITY="4.00GiB")
    bound_seconds = time.monotonic() - began
    line = shows(development, "spark", UFS_TOTAL_SIZE=total, CACHED="0.00B", CACHED_PERCENTAGE="0.0%")
    assert list(line) == ["NAME", "UFS TOTAL SIZE", "CACHED", "CACHE CAPACITY", "CACHED PERCENTAGE", "PHASE", "AGE"]

    create(development, "spark-app-development.yaml")
    development("wait", "--for=condition=Ready", "pod/nginx", "--timeout=60s", timeout_seconds=70)
    listed = development("exec", "nginx", "--", "ls", "-ltr", "/data").splitlines()[1:]
    assert sorted(row.split()[-1] for row in listed) == sorted(SITE)
    assert all(row.startswith("dr-xr-xr-x") for row in listed)

    cold = copy_seconds(development, "nginx", f"/data/{LATEST}")
    assert cold > 0.9 * site.sizes[LATEST] / LINK_BYTES_PER_SECOND, "it was not read from the site"

    create(development, "spark-dataload-subdir.yaml")
    development("wait", "--for=condition=Complete", "dataload/spark", "--timeout=120s", timeout_seconds=130)
    load = printed(development, "dataload", "spark")[0]
    assert list(load) == ["NAME", "DATASET", "PHASE", "AGE", "DURATION"]
    assert (load["DATASET"], load["PHASE"]) == ("spark", "Complete")
    shows(development, "spark", UFS_TOTAL_SIZE=total, CACHED=cached, CACHED_PERCENTAGE=share, PHASE="Bound")

    warm = min(copy_seconds(development, "nginx", f"/data/{LATEST}") for _ in range(5))
    assert cold / warm >= 100, f"cold {cold:.2f} s, warm {warm:.3f} s"

    site.proxy.reset()
    production = new_namespace("production")
    create(production, "cross-namespace-reference.yaml")
    shows(
        production, "spark", UFS_TOTAL_SIZE=total, CACHED=cached, CACHE_CAPACITY="4.00GiB", CACHED_PERCENTAGE=share, PHASE="Bound"
    )
    create(production, "cross-namespace-app-production.yaml")
    production("wait", "--for=condition=Ready", "pod/nginx", "--timeout=60s", timeout_seconds=70)
    other = min(copy_seconds(production, "nginx", f"/data/{LATEST}") for _ in range(3))
    fetched = sum(count for what, count in site.proxy.counts().bytes.items() if LATEST in what and "tgz" in what)
    assert fetched == 0, "the site was asked for what is cached"
    assert cold / other >= 100, f"cold {cold:.2f} s, from the other namespace {other:.3f} s"
    site.proxy.set_plan(Plan())
    assert digests(production, "nginx") == digests_of(site.root)
    promise(
        "K1",
        "the first article in a cluster: web site, pod, cold copy, DataLoad, warm copy, a second namespace",
        f"Bound after {bound_seconds:.1f} s; {total}, {cached} of it copied cold in {cold:.1f} s behind 6.8 MiB/s, warm in"
        f" {warm:.2f} s ({cold / warm:.0f} times faster), from the other namespace in {other:.2f} s with 0 bytes from the site;"
        f" pods on {node_of(development, 'nginx')} and {node_of(production, 'nginx')}",
        "printed columns as in the article, warm at least 100 times faster, no second download, every byte compared",
    )


def refused(kubectl: Kubectl, name: str, mounts: list[dict[str, Any]], words: str) -> None:
    dataset = {"apiVersion": "data.fluid.io/v1alpha1", "kind": "Dataset", "metadata": {"name": name}, "spec": {"mounts": mounts}}
    kubectl("create", "--filename=-", stdin=yaml.safe_dump(dataset))
    assert wait_until(lambda: words in kubectl("describe", "dataset", name), 30.0, 0.5), kubectl("describe", "dataset", name)
    assert printed(kubectl, "dataset", name)[0]["PHASE"] == "NotBound"


def test_references_that_cannot_be(new_namespace: Callable[..., Kubectl]) -> None:
    here = new_namespace("references")
    refused(
        here,
        "mixed",
        [{"mountPoint": "dataset://references/other"}, {"mountPoint": "https://a.example/b/"}],
        "other types of mounts",
    )
    refused(here, "itself", [{"mountPoint": "dataset://references/itself"}], "itself")
    refused(here, "nothing", [{"mountPoint": "dataset://nowhere/none"}], "no dataset nowhere/none")
