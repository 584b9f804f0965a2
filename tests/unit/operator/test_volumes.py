"""The volume and the claim of a Dataset, and the cluster's controller that binds them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from csi.operator.app.known import VOLUMES, Known
from csi.operator.app.volumes import LOOKED_AT, Volumes
from csi.operator.objects import Kind
from csi.operator.render.object_names import volume_name

KEY = ("lab", "demo")


class Claims:
    """Stands for the API server: one claim, and how often it was read and changed."""

    def __init__(self) -> None:
        self.phase: str | None = "Pending"
        self.gets = self.changes = 0

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> dict[str, Any] | None:
        self.gets += 1
        return None if self.phase is None else {"status": {"phase": self.phase}}

    async def merge(self, kind: Kind, name: str, patch: Mapping[str, Any], namespace: str | None = None) -> None:
        assert LOOKED_AT in patch["metadata"]["annotations"]
        self.changes += 1


class Dataset:
    def __init__(self) -> None:
        self.claims, self._known = Claims(), Known()
        self.volumes = Volumes(self.claims, self._known)  # type: ignore[arg-type]
        self._version = 1

    def volume_is(self, phase: str, uid: str = "one") -> None:
        self._version += 1
        metadata = {"name": volume_name(*KEY), "uid": uid, "resourceVersion": str(self._version)}
        self._known.note(VOLUMES, "MODIFIED", {"metadata": metadata, "status": {"phase": phase}})

    def look(self) -> bool:
        asyncio.run(self.volumes.hasten(KEY))
        return self.volumes.is_bound(KEY)


@pytest.fixture
def dataset() -> Dataset:
    return Dataset()


def test_a_claim_that_was_seen_before_its_volume(dataset: Dataset) -> None:
    assert not dataset.look()
    dataset.volume_is("Available")
    assert not dataset.look()
    assert (dataset.claims.gets, dataset.claims.changes) == (0, 1)


def test_a_claim_that_could_not_be_written(dataset: Dataset) -> None:
    """The volume was bound and the claim Pending for more than ten seconds: our own look at it had come between."""
    dataset.volume_is("Bound")
    assert not dataset.look()
    assert dataset.claims.changes == 0, "the controller may be about to write it"
    assert not dataset.look()
    assert dataset.claims.changes == 1
    dataset.claims.phase = "Bound"
    assert dataset.look()
    assert dataset.claims.changes == 1


def test_what_is_bound_costs_one_call(dataset: Dataset) -> None:
    dataset.claims.phase = "Bound"
    dataset.volume_is("Bound")
    assert [dataset.look() for _ in range(3)] == [True] * 3
    assert (dataset.claims.gets, dataset.claims.changes) == (1, 0)
    dataset.volume_is("Bound", uid="two")
    assert not dataset.volumes.is_bound(KEY), "it is another volume"
    dataset.volume_is("Released", uid="one")
    assert not dataset.look()


def test_a_volume_whose_claim_is_gone_is_not_bound(dataset: Dataset) -> None:
    dataset.claims.phase = None
    dataset.volume_is("Bound")
    assert not dataset.look()
    assert not dataset.look()
    assert dataset.claims.changes == 0
