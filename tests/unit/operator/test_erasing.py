"""What is cached on nodes goes before the Dataset does, and whoever waits for that is told for what."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from csi.operator.app.daemons import Erased
from csi.operator.app.erasing import ERASE_SECONDS, Erasing
from csi.operator.app.known import PODS, Known
from csi.operator.render.credentials import OWN_KEY
from csi.operator.render.object_names import selector
from tests.support.dataset_objects import dataset


class Pods:
    """Stands for everything around: the cache pods, their Secret, the events, and the time."""

    def __init__(self) -> None:
        self.known, self.now = Known(), 0.0
        self.unfinished: list[str] = []
        self.refusals: list[str] = []
        self.said: list[str] = []
        self.erasing = Erasing(self.known, self, self, self, lambda: self.now)  # type: ignore[arg-type]

    def run(self, name: str, address: str) -> None:
        pod = {
            "metadata": {"name": name, "namespace": "lab", "uid": name, "resourceVersion": "1", "labels": dict(selector("demo"))},
            "spec": {"nodeName": "node-1"},
            "status": {"phase": "Running", "podIP": address},
        }
        self.known.note(PODS, "ADDED", pod)

    async def get(self, namespace: str, name: str, *, is_fresh: bool) -> dict[str, str]:
        assert is_fresh
        return {OWN_KEY: "token"}

    async def erase(self, addresses: Iterable[str], token: str, *, discards: bool) -> Erased:
        assert (list(addresses), token, discards) == (["10.0.0.1", "10.0.0.2"], "token", False)
        return Erased(self.unfinished, self.refusals)

    async def say(self, about: Mapping[str, Any], reason: str, message: str) -> None:
        assert reason == "ErrorDeleteDataset"
        self.said.append(message)

    def is_over(self) -> bool:
        raw = dataset("demo", [])
        raw["metadata"]["namespace"] = "lab"
        return asyncio.run(self.erasing.is_over(raw))


@pytest.fixture
def pods() -> Pods:
    made = Pods()
    made.run("demo-a", "10.0.0.1")
    made.run("demo-b", "10.0.0.2")
    return made


def test_pods_that_answer(pods: Pods) -> None:
    pods.unfinished = ["10.0.0.1"]
    assert not pods.is_over()
    pods.unfinished = []
    assert pods.is_over()
    assert pods.said == []


def test_a_pod_whose_container_does_not_start(pods: Pods) -> None:
    pods.unfinished = ["10.0.0.2"]
    assert not pods.is_over()
    pods.now = 11.0
    assert not pods.is_over()
    (message,) = pods.said
    assert message.startswith("waits 120 s at most until cache pod demo-b on node-1 has removed what it has cached"), message
    pods.now = ERASE_SECONDS
    assert pods.is_over()
    assert pods.said[1:] == ["cache pod demo-b on node-1 did not remove what it has cached: it stays on its node"]


def test_a_pod_that_would_lose_files_is_waited_for_without_end(pods: Pods) -> None:
    pods.refusals = ["3 files are not in the store"]
    for pods.now in (0.0, ERASE_SECONDS, 10 * ERASE_SECONDS):
        assert not pods.is_over()
    assert set(pods.said) == {"3 files are not in the store"}


def test_a_second_dataset_of_the_name_has_its_own_time(pods: Pods) -> None:
    pods.unfinished = ["10.0.0.1", "10.0.0.2"]
    assert not pods.is_over()
    pods.now = ERASE_SECONDS
    assert pods.is_over()
    pods.now += 1
    assert not pods.is_over()
