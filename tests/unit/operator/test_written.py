"""Objects as they are in the cluster, and what they come to together."""

from __future__ import annotations

import asyncio
from typing import Any

from csi.operator.app.known import Known, own_kind
from csi.operator.app.written import Reader
from csi.operator.render.credentials import collect
from csi.operator.resolve.allowed_roots import NO_ROOTS
from csi.operator.resolved import Resolved
from tests.support.dataset_objects import API_VERSION, dataset


def test_credentials_that_a_profile_has() -> None:
    """They were looked for in the runtime only: the Dataset said for ever that an option had changed while it was read."""
    options = {"access_key": "the-id", "secret_key": "the-secret", "endpoint": "http://store:9000"}
    profile = _object("ThinRuntimeProfile", "shared", {"fileSystemType": "s3", "fuse": {"options": options}})
    runtime = _object("ThinRuntime", "demo", {"profileName": "shared"}, "lab")
    raw = dataset("demo", [{"mountPoint": "s3://bucket/", "name": "data"}])
    raw["metadata"] |= {"namespace": "lab", "uid": "u"}
    known = Known()
    for one in (profile, runtime):
        known.note(own_kind(one["kind"]), "ADDED", one)
    reader = Reader(None, known, None, shares_nodes=True, roots=NO_ROOTS)  # type: ignore[arg-type]
    written = asyncio.run(reader.read(raw))
    assert written is not None
    resolved = reader.resolve(written)
    assert isinstance(resolved, Resolved), resolved
    credentials = collect(resolved, lambda place: None, written.text_at)
    assert isinstance(credentials, dict), credentials
    assert sorted(credentials.values()) == ["the-id", "the-secret"]


def _object(kind: str, name: str, spec: dict[str, Any], namespace: str = "") -> dict[str, Any]:
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}
