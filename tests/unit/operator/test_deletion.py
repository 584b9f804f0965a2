"""Whom the deletion of a Dataset waits for, and whom not: who only names it holds nothing up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from csi.operator.app.deletion import Deletion
from csi.operator.app.known import CLAIMS, DATASETS, PODS, VOLUMES, Key, Known
from csi.operator.app.references import ALLOWED_NAMESPACES
from csi.operator.app.volumes import Volumes
from csi.operator.names import finalizer
from csi.operator.objects import Kind
from csi.operator.render.object_names import volume_name
from tests.support.dataset_objects import dataset, reading_pod

KEY = ("lab", "demo")


class Cluster:
    """Stands for the API server and for the cache pods, which have nothing to remove."""

    def __init__(self) -> None:
        self.known = Known()
        self.claims: dict[Key, dict[str, Any]] = {}
        self.pods: list[dict[str, Any]] = []
        self.said: list[str] = []
        self.patches: list[Mapping[str, Any]] = []
        volumes = Volumes(self, self.known)  # type: ignore[arg-type]
        self.deletion = Deletion(self, self.known, self, self, volumes)  # type: ignore[arg-type]

    def add(self, key: Key, point: str, *, goes: bool = False, has_volume: bool = False, **annotations: str) -> dict[str, Any]:
        raw = dataset(key[1], [{"mountPoint": point}])
        raw["metadata"] |= {"namespace": key[0], "uid": "/".join(key), "resourceVersion": "1", "annotations": annotations}
        raw["metadata"] |= {"finalizers": [finalizer("Dataset")]} | ({"deletionTimestamp": "now"} if goes else {})
        self.known.note(DATASETS, "ADDED", raw)
        if has_volume:
            self.known.note(VOLUMES, "ADDED", {"metadata": {"name": volume_name(*key), "uid": "v"}})
        return raw

    def use(self, key: Key, pod: str) -> None:
        raw = reading_pod(pod, key[1])
        raw["metadata"]["namespace"] = key[0]
        self.pods.append(raw)

    def go_on(self, raw: dict[str, Any]) -> str:
        """Return what it waits for; "" if the Dataset may go."""
        self.said, self.patches = [], []
        asyncio.run(self.deletion.go_on(raw))
        assert bool(self.said) != bool(self.patches)
        return self.said[0].removeprefix("the Dataset is still used by ").removesuffix(": delete them first") if self.said else ""

    async def get(self, kind: Kind, name: str, namespace: str = "") -> dict[str, Any] | None:
        return self.claims.get((namespace, name)) if kind == CLAIMS else None

    async def list(self, kind: Kind, namespace: str) -> AsyncIterator[dict[str, Any]]:
        assert kind == PODS
        for pod in self.pods:
            if pod["metadata"]["namespace"] == namespace:
                yield pod

    async def merge(self, kind: Kind, name: str, patch: Mapping[str, Any], namespace: str = "") -> None:
        self.patches.append(patch)

    async def say(self, about: Mapping[str, Any], reason: str, message: str) -> None:
        self.said.append(message)

    async def is_over(self, raw: Mapping[str, Any]) -> bool:
        return True


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def test_pods_of_its_own_claim(cluster: Cluster) -> None:
    raw = cluster.add(KEY, "s3://b", goes=True)
    cluster.claims[KEY] = {"metadata": {"ownerReferences": [{"uid": raw["metadata"]["uid"]}]}}
    cluster.use(KEY, "reader")
    assert cluster.go_on(raw) == "Pod reader"
    del cluster.claims[KEY]
    assert cluster.go_on(raw) == "Pod reader", "the claim was removed by force"


def test_pods_of_a_claim_that_only_has_its_name(cluster: Cluster) -> None:
    """The event said: delete the claim, or rename the Dataset. Deleting the Dataset waited for pods that never used it."""
    raw = cluster.add(KEY, "s3://b", goes=True)
    cluster.claims[KEY] = {"metadata": {"ownerReferences": []}}
    cluster.use(KEY, "reader")
    assert cluster.go_on(raw) == ""


def test_a_reference_that_is_not_allowed(cluster: Cluster) -> None:
    """Anybody could keep a Dataset, and its namespace, from being deleted by naming it."""
    allowed = {ALLOWED_NAMESPACES: "friends"}
    raw = cluster.add(KEY, "s3://b", goes=True, **allowed)
    cluster.add(("strangers", "copy"), "dataset://lab/demo")
    assert cluster.go_on(raw) == ""
    cluster.add(("strangers", "earlier"), "dataset://lab/demo", has_volume=True)
    assert cluster.go_on(raw) == "Dataset strangers/earlier", "it was allowed, and pods use it"
    cluster.add(("friends", "copy"), "dataset://lab/demo/sub")
    assert cluster.go_on(raw) == "Dataset strangers/earlier, Dataset friends/copy"


def test_a_reference_to_itself(cluster: Cluster) -> None:
    assert cluster.go_on(cluster.add(KEY, "dataset://lab/demo", goes=True)) == ""


def test_two_that_refer_to_each_other(cluster: Cluster) -> None:
    other = ("other", "copy")
    raw = cluster.add(KEY, "dataset://other/copy", goes=True)
    cluster.add(other, "dataset://lab/demo")
    assert cluster.go_on(raw) == "Dataset other/copy", "which stays"
    cluster.add(other, "dataset://lab/demo", goes=True)
    cluster.use(other, "reader")
    assert cluster.go_on(raw) == "Pod reader"
    cluster.pods.clear()
    assert cluster.go_on(raw) == ""
