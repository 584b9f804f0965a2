"""Cache pods that run request a share of the processors: once, and where nobody has said how much."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from lightkube import ApiError
from lightkube.models.meta_v1 import Status

from csi.operator.app.known import PODS, Known
from csi.operator.app.processor_shares import ProcessorShares
from csi.operator.objects import Kind
from csi.operator.resolved import PodOptions, Resolved, ResolvedSource
from tests.support.rendered_manifests import INSTALLATION

DATA = Resolved("lab", "demo", "AlluxioRuntime", sources=(ResolvedSource("s3://b"),), replicas=1)


class Cluster:
    """Stands for the API server. `answer`: True, False where there is no such call, or the code of a refusal."""

    def __init__(self) -> None:
        self.known = Known()
        self.asked: list[tuple[str, str]] = []
        self.answer: bool | int = True
        self.shares = ProcessorShares(self, self.known, INSTALLATION)  # type: ignore[arg-type]

    def pod(self, name: str, role: str, phase: str = "Running", *, what: str = "ADDED", **resources: Mapping[str, str]) -> None:
        labels = {
            "app.kubernetes.io/managed-by": "fusecache",
            "app.kubernetes.io/component": "cache",
            "fusecache.io/dataset": "demo",
            "fusecache.io/role": role,
        }
        containers = [{"name": "mesh"}, {"name": "fuse", "resources": resources}]
        metadata = {"name": name, "namespace": "lab", "uid": f"uid-{name}", "labels": labels}
        self.known.note(PODS, what, {"metadata": metadata, "spec": {"containers": containers}, "status": {"phase": phase}})

    def give(self, data: Resolved = DATA) -> list[tuple[str, str]]:
        """Return what was asked for since the last time: (pod, share)."""
        self.asked.clear()
        asyncio.run(self.shares.give(data))
        return sorted(self.asked)

    async def resize(self, pods: Kind, name: str, namespace: str, requests: Mapping[str, Mapping[str, str]]) -> bool:
        assert (pods, namespace) == (PODS, "lab")
        ((container, wanted),) = requests.items()
        assert container == "fuse"
        self.asked.append((name, wanted["cpu"]))
        if type(self.answer) is int:
            raise ApiError(status=Status(code=self.answer, message="exceeded quota: compute"))
        return bool(self.answer)


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_each_role_has_its_share(cluster: Cluster) -> None:
    cluster.pod("caches", "worker", requests={"memory": "512Mi"})
    cluster.pod("mounts", "consumer")
    assert cluster.give() == [("caches", "100m"), ("mounts", "50m")]


def test_pods_that_do_not_run_have_to_wait(cluster: Cluster) -> None:
    """Asked for before, it would be the scheduler's to find: by removing others from a full node."""
    cluster.pod("new", "worker", "Pending")
    cluster.pod("done", "worker", "Failed")
    assert cluster.give() == []
    cluster.pod("new", "worker")
    assert cluster.give() == [("new", "100m")]


@pytest.mark.parametrize("resources", [{"requests": {"cpu": "100m"}}, {"requests": {"cpu": "0"}}, {"limits": {"cpu": "1"}}])
def test_pods_that_have_one_are_left_alone(cluster: Cluster, resources: dict[str, Any]) -> None:
    cluster.pod("caches", "worker", **resources)
    assert cluster.give() == []


@pytest.mark.parametrize(
    ("worker", "fuse", "asked"),
    [
        ({"requests": {"cpu": "2"}}, {}, [("mounts", "50m")]),
        ({}, {"limits": {"cpu": "2"}}, []),
        ({}, {"requests": "odd"}, []),
        ({"limits": {"memory": "1Gi"}}, {"requests": {"memory": "1Gi"}}, [("caches", "100m"), ("mounts", "50m")]),
    ],
)
def test_what_users_say_counts(
    cluster: Cluster, worker: dict[str, Any], fuse: dict[str, Any], asked: list[tuple[str, str]]
) -> None:
    """Also while pods of before they said it are there."""
    cluster.pod("caches", "worker")
    cluster.pod("mounts", "consumer")
    assert cluster.give(replace(DATA, worker=PodOptions(resources=worker), fuse=PodOptions(resources=fuse))) == asked


@pytest.mark.parametrize(
    ("answer", "said"),
    [(403, "exceeded quota"), (405, "exceeded quota"), (422, "exceeded quota"), (False, "older than 1.33")],
)
def test_who_cannot_have_one_is_asked_for_once(
    cluster: Cluster, answer: bool | int, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "csi.operator.app.processor_shares")
    cluster.answer = answer
    cluster.pod("caches", "worker")
    assert cluster.give() == [("caches", "100m")]
    assert said in caplog.text
    assert "lab/caches" in caplog.text
    cluster.answer = True
    assert cluster.give() == []
    cluster.pod("caches", "worker", what="DELETED")
    cluster.pod("next", "worker")
    assert cluster.give() == [("next", "100m")], "another pod may have one"


@pytest.mark.parametrize("code", [409, 429, 500, 503])
def test_a_server_in_trouble_is_asked_again(cluster: Cluster, code: int) -> None:
    """And the Dataset is not held up."""
    cluster.pod("caches", "worker")
    cluster.answer = code
    assert cluster.give() == [("caches", "100m")]
    cluster.answer = True
    assert cluster.give() == [("caches", "100m")]


def test_pods_that_are_gone_are_forgotten(cluster: Cluster) -> None:
    cluster.answer = 403
    for number in range(5):
        cluster.pod(f"caches-{number}", "worker")
        cluster.give()
        cluster.pod(f"caches-{number}", "worker", what="DELETED")
    cluster.pod("last", "worker")
    cluster.give()
    assert cluster.shares._refused == {"uid-last"}
