"""From what is seen of a Dataset to what its status says."""

from __future__ import annotations

from typing import Any

import pytest

from csi.operator.app.pod_problems import pod_problems
from csi.operator.app.references import ALLOWED_NAMESPACES, mirrored_status, refuse_reference, seen_of_target
from csi.operator.app.statuses import (
    Seen,
    cache_runtime_status,
    dataset_status,
    differs,
    failed_status,
    refused_status,
    status_patch,
)
from csi.operator.figures import Figures
from csi.operator.model.cache_runtime import CacheRuntimeStatus
from csi.operator.model.dataset import Dataset
from csi.operator.model.parsing import parse
from csi.operator.resolved import Problem, Resolved

NOW, LATER = "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"
RESOLVED = Resolved("team", "demo", "AlluxioRuntime")
ANSWERED = Seen(figures=Figures(answered=1, is_listed=True, total_bytes=100, files=3, cached_bytes=50))


def dataset(**status: Any) -> Dataset:
    raw = {
        "apiVersion": "data.fluid.io/v1alpha1", "kind": "Dataset", "metadata": {"name": "demo", "namespace": "team", "uid": "u"},
        "spec": {"mounts": [{"mountPoint": "s3://bucket/", "name": "a"}]}, "status": status,
    }  # fmt: skip
    found = parse(raw)
    assert isinstance(found, Dataset)
    return found


@pytest.mark.parametrize(
    ("before", "seen", "phase", "ready"),
    [
        ("", Seen(), "NotBound", "False"),
        ("", ANSWERED, "Bound", "True"),
        ("Bound", Seen(), "Bound", "True"),  # the only daemon is replaced
        ("", Seen(problems=[Problem("StoreFailed", "no such bucket")]), "NotBound", "False"),
        ("Bound", Seen(problems=[Problem("StoreFailed", "no such bucket")]), "Failed", "False"),
        ("Failed", ANSWERED, "Bound", "True"),
        ("Bound", Seen(is_updating=True, figures=ANSWERED.figures), "Updating", "True"),
        ("Updating", ANSWERED, "Bound", "True"),
        ("", Seen(is_updating=True), "NotBound", "False"),
    ],
)
def test_phases(before: str, seen: Seen, phase: str, ready: str) -> None:
    status = dataset_status(dataset(phase=before), RESOLVED, seen, NOW)
    assert status["phase"] == phase
    assert {one["type"]: one["status"] for one in status["conditions"]}["Ready"] == ready


def test_figures_stay_while_nobody_answers() -> None:
    """They fell to nothing whenever the only cache pod was replaced."""
    assert "ufsTotal" in dataset_status(dataset(phase="Bound"), RESOLVED, ANSWERED, NOW)
    assert "ufsTotal" not in dataset_status(dataset(phase="Bound"), RESOLVED, Seen(), NOW)


def test_a_time_alone_is_no_change() -> None:
    first = dataset_status(dataset(), RESOLVED, ANSWERED, NOW)
    again = dataset_status(dataset(**first), RESOLVED, ANSWERED, LATER)
    assert not differs(first, again)
    assert again["conditions"][0]["lastTransitionTime"] == NOW
    assert differs(first, dataset_status(dataset(**first), RESOLVED, Seen(problems=[Problem("X", "y")]), LATER))


def test_what_a_status_no_longer_says_is_taken_away() -> None:
    """The API server merges maps: figures of a runtime that is gone stayed, and the status was written again for ever."""
    before = dataset_status(dataset(), RESOLVED, ANSWERED, NOW)
    assert before["cacheStates"]
    after = refused_status(dataset(**before), [Problem("RuntimeNotFound", "create one")], NOW)
    patch = status_patch(before, after)
    assert patch["cacheStates"] == dict.fromkeys(before["cacheStates"])
    assert {key: value for key, value in patch.items() if key != "cacheStates"} == {
        key: value for key, value in after.items() if key != "cacheStates"
    }
    assert status_patch({}, before) == before
    assert status_patch({"operationRef": {"DataLoad": "a"}}, {"operationRef": None}) == {"operationRef": None}


def test_what_was_made_is_left_to_a_dataset_that_fails() -> None:
    status = failed_status(dataset(phase="Bound"), Problem("SecretNotFound", "Secret s is missing"), NOW)
    assert status.keys() == {"phase", "conditions"}
    assert status["phase"] == "Failed"


def test_a_cache_runtime_has_a_status_of_each_part() -> None:
    seen = Seen(figures=ANSWERED.figures, workers_chosen=1, workers_ready=1, worker_reason="1 of 2 workers have a node")
    status = cache_runtime_status(Resolved("team", "demo", "CacheRuntime", replicas=2), seen, {}, NOW)
    assert (status["phase"], status["worker"]["phase"], status["master"]["phase"]) == ("PartialReady", "PartialReady", "Ready")
    assert status["worker"]["message"] == "1 of 2 workers have a node"
    CacheRuntimeStatus.model_validate(status)  # nothing in it is unknown to the definition


def test_references_show_what_their_target_shows() -> None:
    target = {"metadata": {"name": "t", "namespace": "n"}, "status": {"phase": "Bound", "ufsTotal": "1.00GiB", "mounts": [1]}}
    status = mirrored_status(dataset_status(dataset(), RESOLVED, seen_of_target(target), NOW), target)
    assert (status["phase"], status["ufsTotal"], status["mounts"], status["datasetRef"]) == ("Bound", "1.00GiB", [1], [])
    target["status"] = {"phase": "Failed", "conditions": [{"type": "Ready", "message": "no such bucket"}]}
    status = dataset_status(dataset(phase="Bound"), RESOLVED, seen_of_target(target), NOW)
    assert status["phase"] == "Failed"
    assert "no such bucket" in status["conditions"][0]["message"]


@pytest.mark.parametrize(("allowed", "may"), [(None, True), ("other, mine", True), ("other", False), ("", False)])
def test_who_may_refer(allowed: str | None, may: bool) -> None:
    annotations = {} if allowed is None else {ALLOWED_NAMESPACES: allowed}
    target = {"metadata": {"name": "t", "namespace": "n", "annotations": annotations}}
    assert (refuse_reference(target, "mine") is None) == may


def test_why_cache_pods_do_not_run() -> None:
    def pod(**status: Any) -> dict[str, Any]:
        return {"metadata": {"name": "demo-fuse-x"}, "status": status}

    waiting = {"reason": "ImagePullBackOff", "message": "not found"}
    ended = {"exitCode": 2, "message": "setting 'x' is not known"}
    pods = [
        pod(containerStatuses=[{"image": "i", "state": {"waiting": waiting}}]),
        pod(containerStatuses=[{"state": {"waiting": {"reason": "CrashLoopBackOff"}}, "lastState": {"terminated": ended}}]),
        pod(conditions=[{"type": "PodScheduled", "status": "False", "message": "0/3 nodes"}]),
        pod(containerStatuses=[{"state": {"running": {}}}]),
    ]
    said = pod_problems([*pods, *pods])
    assert [any(word in one for one in said) for word in ("not found", "setting 'x'", "0/3 nodes")] == [True] * 3
    assert len(said) == 3
