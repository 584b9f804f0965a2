"""Objects for tests of what a Dataset and its runtime come to, written as shortly as tests can be read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from csi.operator.model.cache_runtime_class import CacheRuntimeClass
from csi.operator.model.dataset import Dataset
from csi.operator.model.object import Object
from csi.operator.model.parsing import parse
from csi.operator.model.thin_runtime_profile import ThinRuntimeProfile
from csi.operator.resolve.allowed_roots import AllowedRoots
from csi.operator.resolve.resolution import Surroundings, resolve
from csi.operator.resolved import Problem, Resolved

MANIFESTS = Path(__file__).parents[1] / "manifests"
EVERYWHERE = AllowedRoots(("/",), ("/",))
LEVEL = {"mediumtype": "SSD", "path": "/ssd", "quota": "10Gi"}


def raw(kind: str, spec: dict[str, Any] | None = None, name: str = "data", namespace: str = "lab", **more: Any) -> dict[str, Any]:
    metadata = {"name": name, "namespace": namespace, **more.pop("metadata", {})}
    found = {"apiVersion": "data.fluid.io/v1alpha1", "kind": kind, "metadata": metadata, **more}
    return found if spec is None else {**found, "spec": spec}


def encrypted(name: str, secret: str = "keys", key: str = "") -> dict[str, Any]:
    reference = {"name": secret, "key": key} if key else {"name": secret}
    return {"name": name, "valueFrom": {"secretKeyRef": reference}}


def outcome(
    dataset: dict[str, Any],
    runtime: dict[str, Any] | None = None,
    kind: str = "AlluxioRuntime",
    profile: dict[str, Any] | None = None,
    runtime_class: dict[str, Any] | None = None,
    *,
    shares_nodes: bool = True,
    roots: AllowedRoots = EVERYWHERE,
    metadata: dict[str, Any] | None = None,
) -> Resolved | list[Problem]:
    """Resolve a Dataset and a runtime, of which the specs are given."""
    given = parse(raw("Dataset", dataset, metadata=metadata or {}))
    assert isinstance(given, Dataset)
    raw_runtime = raw(kind, runtime) if runtime is not None else None
    parsed_profile = parse(raw("ThinRuntimeProfile", profile, "profile")) if profile is not None else None
    parsed_class = parse(raw("CacheRuntimeClass", None, "default", **runtime_class)) if runtime_class is not None else None
    assert parsed_profile is None or isinstance(parsed_profile, ThinRuntimeProfile)
    assert parsed_class is None or isinstance(parsed_class, CacheRuntimeClass)
    surroundings = Surroundings(parsed_profile, parsed_class, raw_runtime=raw_runtime, shares_nodes=shares_nodes, roots=roots)
    return resolve(given, parse(raw_runtime) if raw_runtime else None, surroundings)


def resolved(*arguments: Any, **more: Any) -> Resolved:
    found = outcome(*arguments, **more)
    assert isinstance(found, Resolved), found
    return found


def problems(*arguments: Any, **more: Any) -> list[Problem]:
    found = outcome(*arguments, **more)
    assert isinstance(found, list), found
    assert found
    return found


def mounted(mount_point: str, runtime: dict[str, Any] | None = None, kind: str = "AlluxioRuntime", **mount: Any) -> Resolved:
    """Resolve a Dataset with one mount, at the root."""
    return resolved({"mounts": [{"mountPoint": mount_point, "path": "/", **mount}]}, runtime or {}, kind)


def refusal(mount_point: str, runtime: dict[str, Any] | None = None, kind: str = "AlluxioRuntime", **mount: Any) -> str:
    """Return the only problem of a Dataset with one mount."""
    (problem,) = problems({"mounts": [{"mountPoint": mount_point, "path": "/", **mount}]}, runtime or {}, kind)
    return problem.message


def published(name: str, namespace: str = "default") -> list[Object]:
    """Return the objects of a published manifest as they are after `kubectl apply` into a namespace."""
    found = []
    for each in yaml.safe_load_all((MANIFESTS / name).read_text()):
        each["metadata"].setdefault("namespace", namespace)
        found.append(parse(each))
    return found
