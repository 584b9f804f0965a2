"""A volume that is there, and a Dataset that wants it otherwise: what the API server refuses is not asked of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from csi.operator.app.known import CLAIMS, VOLUMES, Known
from csi.operator.app.volumes import OTHER_VOLUME, Fitted, Volumes
from csi.operator.objects import Kind
from csi.operator.render.everything import render
from csi.operator.resolved import Problem, Reference, Resolved, ResolvedSource, ResolvedTier
from fusecache.base.units import GIB
from fusecache.contract.mount_spec import Medium
from tests.support.rendered_manifests import IDENTITY, INSTALLATION

TIER = ResolvedTier("ssd-1", Medium.SSD, GIB, 0.95, 0.7, host_path="/ssd")
DATA = Resolved("lab", "data", "AlluxioRuntime", sources=(ResolvedSource("s3://b"),), tiers=(TIER,))
WRITABLE = replace(DATA, access_modes=("ReadWriteMany",), read_write=True)


class Server:
    """Stands for the API server, with the objects that a Dataset had before."""

    def __init__(self, before: Resolved | None) -> None:
        raws = render(before, {}, INSTALLATION, IDENTITY) if before else []
        self.there = {raw["kind"]: raw for raw in raws}

    async def get(self, kind: Kind, name: str, namespace: str | None = None) -> Mapping[str, Any] | None:
        return self.there.get(kind.kind)

    def fit(self, after: Resolved) -> Fitted | Problem:
        volumes = Volumes(self, Known())  # type: ignore[arg-type]
        raws = render(after, {}, INSTALLATION, IDENTITY)
        return asyncio.run(volumes.fit(("lab", "data"), IDENTITY.uid, raws))


def fitted(server: Server, after: Resolved) -> tuple[dict[str, Any], str]:
    found = server.fit(after)
    assert isinstance(found, Fitted)
    return {raw["kind"]: raw["spec"] for raw in found.raws if raw["kind"] in (CLAIMS.kind, VOLUMES.kind)}, found.kept


@pytest.mark.parametrize("before", [None, WRITABLE])
def test_a_volume_as_it_is_wanted(before: Resolved | None) -> None:
    specs, kept = fitted(Server(before), WRITABLE)
    assert kept == ""
    assert specs[VOLUMES.kind]["accessModes"] == specs[CLAIMS.kind]["accessModes"] == ["ReadWriteMany"]
    assert specs[VOLUMES.kind]["csi"]["readOnly"] is False


def test_quantities_are_compared_as_numbers() -> None:
    specs, kept = fitted(Server(replace(DATA, storage_size="1Ti")), replace(DATA, storage_size="1024Gi"))
    assert kept == ""
    assert specs[CLAIMS.kind]["resources"]["requests"]["storage"] == "1024Gi"


def test_modes_and_size_stay() -> None:
    specs, kept = fitted(Server(DATA), replace(WRITABLE, storage_size="1Ti"))
    for kind in (VOLUMES.kind, CLAIMS.kind):
        assert specs[kind]["accessModes"] == ["ReadOnlyMany"]
    assert specs[VOLUMES.kind]["capacity"] == specs[CLAIMS.kind]["resources"]["requests"] == {"storage": "100Gi"}
    assert specs[VOLUMES.kind]["csi"]["readOnly"] is True
    assert "accessModes of the PersistentVolumeClaim stays ReadOnlyMany instead of ReadWriteMany" in kept
    assert "resources.requests.storage of the PersistentVolumeClaim stays 100Gi instead of 1Ti" in kept
    assert kept.endswith("delete the Dataset and create it again to have it so")


def test_a_claim_that_was_deleted_alone_comes_as_it_is_wanted() -> None:
    server = Server(DATA)
    del server.there[CLAIMS.kind]
    specs, kept = fitted(server, WRITABLE)
    assert specs[VOLUMES.kind]["accessModes"] == specs[CLAIMS.kind]["accessModes"] == ["ReadWriteMany"]
    assert kept.startswith("csi.readOnly of the PersistentVolume stays True instead of False")


def test_nodes_that_mount_are_set_once() -> None:
    here, there = (replace(DATA, mount_node_selector={"zone": zone}) for zone in ("a", "b"))
    specs, kept = fitted(Server(DATA), here)
    assert (kept, "nodeAffinity" in specs[VOLUMES.kind]) == ("", True)
    for after, asked in ((there, "zone=b"), (DATA, "any")):
        _, kept = fitted(Server(here), after)
        assert kept.startswith(f"nodeAffinity of the PersistentVolume stays zone=a instead of {asked}")


def test_a_volume_never_shows_something_else_than_asked_for() -> None:
    before = replace(DATA, reference=Reference("other", "first"))
    found = Server(before).fit(replace(DATA, reference=Reference("other", "second", "sub")))
    assert isinstance(found, Problem)
    assert found.reason == OTHER_VOLUME
    assert "shows Dataset other/first: " in found.message
