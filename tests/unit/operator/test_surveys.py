"""Datasets without cache pods: what a short Job says of their sources, and what is shown until it has said it."""

from __future__ import annotations

import asyncio
import datetime
import json
from collections.abc import Mapping
from typing import Any

import pytest

from csi.operator.app.known import DATASETS, JOBS, PODS, Known
from csi.operator.app.statuses import Seen
from csi.operator.app.surveys import Surveys
from csi.operator.objects import Kind
from csi.operator.render.survey import survey_job
from csi.operator.resolved import PodOptions, Resolved, ResolvedSource
from tests.support.dataset_objects import dataset
from tests.support.rendered_manifests import IDENTITY, INSTALLATION

DATA = Resolved("lab", "demo", "AlluxioRuntime", sources=(ResolvedSource("s3://b"),), replicas=0)
FAILED = {"type": "Failed", "status": "True", "reason": "DeadlineExceeded", "message": "Job was active longer than specified"}


class Cluster:
    """Stands for the API server and its controller of Jobs."""

    def __init__(self) -> None:
        self.known = Known()
        self.jobs: dict[str, dict[str, Any]] = {}
        self.made = 0
        self.raw = dataset("demo", [{"mountPoint": "s3://b"}])
        self.raw["metadata"]["namespace"] = "lab"
        self.known.note(DATASETS, "ADDED", self.raw)
        self.surveys = Surveys(self, self.known, INSTALLATION)  # type: ignore[arg-type]

    def look(self) -> Seen:
        return asyncio.run(self.surveys.look(self.raw, DATA, {}, Seen(), IDENTITY))

    def said(self) -> list[str]:
        return [problem.message for problem in self.look().problems]

    def pod(self, phase: str, message: str = "", **status: Any) -> None:
        state = {"terminated": {"message": message}} if message else {}
        metadata = {"name": "demo-survey-x", "namespace": "lab", "labels": {"fusecache.io/dataset": "demo"}}
        metadata |= {"ownerReferences": [{"uid": self.job["metadata"]["uid"]}]}
        pod = {"metadata": metadata, "status": {"phase": phase, "containerStatuses": [{"state": state}], **status}}
        self.known.note(PODS, "ADDED", pod)

    def pod_goes(self) -> None:
        self.known.note(PODS, "DELETED", {"metadata": {"name": "demo-survey-x", "namespace": "lab"}})

    @property
    def job(self) -> dict[str, Any]:
        (job,) = self.jobs.values()
        return job

    def time_goes_by(self) -> None:
        self.job["metadata"]["creationTimestamp"] = "2020-01-01T00:00:00Z"

    async def get(self, kind: Kind, name: str, namespace: str) -> dict[str, Any] | None:
        assert kind == JOBS
        return self.jobs.get(name)

    async def apply(self, raw: Mapping[str, Any]) -> None:
        self.made += 1
        stamp = datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        metadata = {**raw["metadata"], "uid": f"job-{self.made}", "creationTimestamp": stamp}
        self.jobs[metadata["name"]] = {**raw, "metadata": metadata, "status": {}}

    async def delete(self, kind: Kind, name: str, namespace: str) -> None:
        del self.jobs[name]
        self.pod_goes()

    async def merge(self, kind: Kind, name: str, patch: Mapping[str, Any], namespace: str) -> None:
        assert kind == DATASETS
        self.raw["metadata"].setdefault("annotations", {}).update(patch["metadata"]["annotations"])


@pytest.fixture
def cluster() -> Cluster:
    made = Cluster()
    assert made.look() == Seen()
    return made


def test_what_it_found_is_kept(cluster: Cluster) -> None:
    cluster.pod("Succeeded", json.dumps({"files": 3, "total_bytes": 3000}))
    for _ in range(2):
        seen = cluster.look()
        assert (seen.figures.files, seen.figures.total_bytes, seen.problems) == (3, 3000, ())
    assert cluster.jobs == {}


def test_what_failed_is_said_until_the_next_one_has_ended(cluster: Cluster) -> None:
    """Meanwhile the Dataset was shown as Bound, and as Failed again after that."""
    cluster.pod("Failed", "NoSuchBucket: the bucket b does not exist")
    assert cluster.said() == ["NoSuchBucket: the bucket b does not exist"]
    cluster.time_goes_by()
    for _ in range(3):  # the Job is deleted, made anew, and waited for
        assert cluster.said() == ["NoSuchBucket: the bucket b does not exist"]
    assert cluster.made == 2
    cluster.pod("Succeeded", json.dumps({"files": 1, "total_bytes": 1}))
    assert cluster.said() == []


def test_a_job_whose_pod_is_gone_is_made_anew(cluster: Cluster) -> None:
    """It had no room for an hour; the Dataset said for ever that it waits for cache pods."""
    cluster.job["status"] = {"conditions": [FAILED]}
    cluster.time_goes_by()
    assert cluster.said() == ["the sources were not asked: DeadlineExceeded: Job was active longer than specified"]
    assert cluster.jobs == {}
    cluster.look()
    assert cluster.made == 2


def test_a_pod_that_finds_no_place_says_so(cluster: Cluster) -> None:
    cluster.pod("Pending", conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}])
    assert cluster.said() == ["survey pod demo-survey-x finds no place: 0/3 nodes are available"]
    cluster.raw["status"] = {"phase": "Bound"}
    assert cluster.said() == [], "it can be used all the same"


def test_where_it_may_run() -> None:
    worker = PodOptions(node_selector={"disk": "fast"}, tolerations=({"key": "gpu", "operator": "Exists"},))
    sources = {"store": ResolvedSource("s3://b"), "node": ResolvedSource("file:///data", host_path="/data")}
    term = {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["a"]}]}
    for name, source in sources.items():
        data = Resolved("lab", "demo", "AlluxioRuntime", sources=(source,), worker=worker, node_affinity=(term,))
        pod = survey_job(data, {}, INSTALLATION, IDENTITY)["spec"]["template"]["spec"]
        assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
        assert pod.get("nodeSelector") == ({"disk": "fast"} if name == "node" else None), name
        assert ("affinity" in pod) == (name == "node")
