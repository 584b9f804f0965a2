"""What the operator keeps in memory of the cluster's objects, between a write of its own and the watch that tells of it."""

from __future__ import annotations

from typing import Any

import pytest

from csi.operator.app.known import DATASETS, NODES, Known


def dataset(version: str, uid: str = "one", phase: str = "") -> dict[str, Any]:
    metadata = {"namespace": "here", "name": "demo", "uid": uid, "resourceVersion": version}
    return {"kind": "Dataset", "metadata": metadata, "status": {"phase": phase}}


@pytest.fixture
def known() -> Known:
    known = Known()
    known.note(DATASETS, "ADDED", dataset("9"))
    return known


def test_the_next_look_sees_what_the_last_one_wrote(known: Known) -> None:
    """It wrote with the version of before, and was refused, at each Dataset that was created together with its runtime."""
    known.note_merged(DATASETS, dataset("10", phase="NotBound"))
    assert known.get(DATASETS, "demo", "here") == dataset("10", phase="NotBound")


def test_a_watch_that_was_faster_is_right(known: Known) -> None:
    known.note(DATASETS, "MODIFIED", later := dataset("11", phase="Bound"))
    known.note_merged(DATASETS, dataset("10", phase="NotBound"))
    assert known.get(DATASETS, "demo", "here") is later


def test_what_is_gone_does_not_come_back(known: Known) -> None:
    known.note(DATASETS, "DELETED", dataset("12"))
    known.note_merged(DATASETS, dataset("11"))
    assert known.get(DATASETS, "demo", "here") is None
    known.note(DATASETS, "ADDED", anew := dataset("13", uid="two"))
    known.note_merged(DATASETS, dataset("14"))
    assert known.get(DATASETS, "demo", "here") is anew


def test_of_nodes_a_watch_tells_what_was_before(known: Known) -> None:
    node = {"kind": "Node", "metadata": {"name": "demo", "uid": "n", "resourceVersion": "1"}}
    known.note(NODES, "ADDED", node)
    known.note_merged(NODES, {**node, "metadata": {**node["metadata"], "resourceVersion": "2"}})
    assert known.get(NODES, "demo") is node
