"""What is marked as honoured has an effect, what is marked as ignored has none and is named: each field, one at a time.

An object is resolved and rendered with a field in two values, or with and without it. `EXAMPLES` has values that mean something.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from csi.operator.model.fields import Items, Leaf, Member, members, members_by_key, walk
from csi.operator.model.kinds import KINDS
from csi.operator.model.marks import Mark
from csi.operator.model.structure import Structure
from csi.operator.render.everything import render
from csi.operator.resolve.engine_options import OWN_PREFIX
from csi.operator.resolved import PodOptions, Resolved, ResolvedSource, ResolvedTier
from tests.support.rendered_manifests import IDENTITY, INSTALLATION
from tests.support.resolving import outcome

ABSENT = object()
STORE = {"fs.oss.endpoint": "e.com"}
KEYS = [{"name": name, "valueFrom": {"secretKeyRef": {"name": "keys"}}} for name in ("access_key", "secret_key")]
BASES: dict[str, dict[str, Any]] = {
    "Dataset": {"mounts": [{"mountPoint": "oss://bucket", "options": STORE, "encryptOptions": KEYS}]},
    "CacheRuntime": {"runtimeClassName": "default"},
    "ThinRuntime": {"replicas": 1, "profileName": "profile"},
    "ThinRuntimeProfile": {"fileSystemType": "x"},
    "CacheRuntimeClass": {"fileSystemType": "x"},
}
LEVELS = {"tieredstore": {"levels": [{"mediumtype": "SSD", "path": "/ssd", "quota": "10Gi"}]}}
CACHE_LEVELS = [{"hostPath": {"paths": ["/ssd"], "quotas": ["1Gi"]}}]
# By the end of a path; the longest counts. Two values, of which the second may be ABSENT.
EXAMPLES: dict[str, tuple[Any, Any]] = {
    "mountPoint": ("oss://bucket", "oss://other"),
    "mounts[].path": ("/a", "/b"),
    "mounts[].name": ("a", "b"),
    "encryptOptions[].name": ("access_key", "fs.oss.accessKeyId"),
    "secretKeyRef.name": ("keys", "other"),
    "secretKeyRef.key": ("one", "two"),
    "sharedEncryptOptions[].name": ("session_token", "fs.oss.securityToken"),
    "options": ({f"{OWN_PREFIX}ttl": "7s"}, ABSENT),
    "mounts[].options": ({**STORE, "signature": "v4", "region": "r"}, STORE),
    "sharedOptions": ({"region": "r"}, ABSENT),
    "properties": ({f"{OWN_PREFIX}ttl": "7s"}, ABSENT),
    "nodeAffinity.required": ({"nodeSelectorTerms": [{"matchFields": []}]}, ABSENT),
    "accessModes": (["ReadWriteMany"], ABSENT),
    "placement": ("Exclusive", "Shared"),
    "cleanPolicy": ("OnDemand", ABSENT),
    "networkMode": ("HostNetwork", ABSENT),
    "networkmode": ("HostNetwork", ABSENT),
    "imagePullPolicy": ("Always", ABSENT),
    "fuse.args": (["fuse", "--fuse-opts=attr_timeout=7"], ABSENT),
    "dataOperationSpecs[].name": ("DataLoad", "DataBackup"),
    "maxRetryAttempts": (5, ABSENT),
    "resources": ({"requests": {"cpu": "1"}}, ABSENT),
    "metrics.enabled": (True, ABSENT),
    "metrics.scrapeTarget": ("MountPod", "None"),
    "autoSync": (False, True),
    "mediumtype": ("SSD", "HDD"),
    "volumeType": ("emptyDir", "hostPath"),
    "volumeSource": ({"emptyDir": {}}, ABSENT),
    "levels[].path": ("/ssd", "/other"),
    "quota": ("10Gi", "20Gi"),
    "quotaList": ("30Gi", ABSENT),
    "high": ("0.8", ABSENT),
    "low": ("0.2", ABSENT),
    "emptyDir.medium": ("Memory", ABSENT),
    "hostPath.paths": (["/ssd"], ["/other"]),
    "hostPath.quotas": (["1Gi"], ["2Gi"]),
    "hostPath.type": ("Directory", ABSENT),
    "nodePublishSecretPolicy": ("NotMountNodePublishSecret", ABSENT),
    "volumeMounts": ([{"name": "v", "mountPath": "/v"}], ABSENT),
    "volumes": ([{"name": "v", "emptyDir": {}}], ABSENT),
    "env": ([{"name": "A", "value": "b"}], ABSENT),
    "replicas": (3, ABSENT),
    "worker.replicas": (3, ABSENT),
    "configs": (["trash-days=1"], ABSENT),
}

# What has to be there besides, by the beginning or the end of a path: parts of the spec of the kind, or of the Dataset.
CONTEXTS: dict[str, dict[str, Any]] = {
    "tieredstore.": LEVELS,
    "worker.tieredStore.levels[].high": {"worker": {"tieredStore": {"levels": CACHE_LEVELS}}},
    "worker.tieredStore.levels[].low": {"worker": {"tieredStore": {"levels": CACHE_LEVELS}}},
    "client.tieredStore.levels[].high": {"client": {"tieredStore": {"levels": CACHE_LEVELS}}},
    "client.tieredStore.levels[].low": {"client": {"tieredStore": {"levels": CACHE_LEVELS}}},
    "metrics.scrapeTarget": {"fuse": {"metrics": {"enabled": True}}},
    "metrics.enabled": {"fuse": {"metrics": {"scrapeTarget": "All"}}},
}
DATASETS: dict[str, dict[str, Any]] = {
    "secret": {"mounts": [{"mountPoint": "oss://bucket", "options": STORE}]},
    "disablePrometheus": BASES["Dataset"],
}
KINDS_TO_RESOLVE = ["Dataset", *(kind for kind in KINDS if "Runtime" in kind)]
NAMES_OF_OTHERS = (
    "profileName",
    "runtimeClassName",
)  # without the object that they name nothing is made (resolve/test_runtimes.py)


def fields_of(kind: str) -> Iterator[tuple[str, Member, Mark]]:
    model = KINDS[kind].model
    root = members_by_key(model)["spec"].nested if KINDS[kind].has_spec else model
    assert root is not None
    for path, member, mark in walk(root):
        if member.nested is None and path.split(".")[0] not in ("apiVersion", "kind", "metadata"):
            yield path, member, mark


CASES = [
    pytest.param(kind, path, member, mark, id=f"{kind}-{path}")
    for kind in KINDS_TO_RESOLVE
    for path, member, mark in fields_of(kind)
    if path not in NAMES_OF_OTHERS
]


def matching(table: dict[str, Any], path: str) -> Any:
    found = [end for end in table if path == end or path.endswith(f".{end}") or (end.endswith(".") and path.startswith(end))]
    return table[max(found, key=len)] if found else None


def examples(path: str, member: Member) -> tuple[Any, Any]:
    known = matching(EXAMPLES, path)
    schema = schema_of(member)
    if known is not None and isinstance(known[0], list) == (schema.get("type") == "array"):
        return known
    values: dict[str, tuple[Any, Any]] = {
        "string": ("one", "two"), "integer": (3, 4), "boolean": (True, False), "array": (["one"], []), "object": ({"k": "v"}, {}),
    }  # fmt: skip
    first, second = values[schema.get("type", "string")]
    if schema.get("additionalProperties") == {"type": "integer"}:
        first = {"k": 1}
    if schema.get("type") == "object" and "properties" in schema:
        first = {key: values[each.get("type", "string")][0] for key, each in schema["properties"].items()}
    if isinstance(member.shape, Items):
        inner = member.shape.each
        if isinstance(inner, Leaf) and inner.schema.fragment.get("type") == "object":
            first = [{"name": "one"}]
    return first, second if member.notes.required or member.default == () else ABSENT


def schema_of(member: Member) -> dict[str, Any]:
    if isinstance(member.shape, Items):
        return {"type": "array"}
    assert isinstance(member.shape, Leaf)
    return dict(member.shape.schema.fragment)


def fill(structure: type[Structure], into: dict[str, Any], before: str) -> None:
    """Write what is required and not there."""
    for needed in members(structure):
        if needed.notes.required and needed.key not in into:
            if needed.nested is None:
                into[needed.key] = examples(f"{before}{needed.key}", needed)[0]
            else:
                fill(needed.nested, into.setdefault(needed.key, {}), f"{before}{needed.key}.")


def put(structure: type[Structure], into: dict[str, Any], path: str, value: Any, before: str = "") -> None:
    """Write a value at a path, and whatever is required around it."""
    head, _, rest = path.partition(".")
    is_list = head.endswith("[]")
    key = head.removesuffix("[]")
    if not rest:
        if value is ABSENT:
            into.pop(key, None)
        else:
            into[key] = value
        return
    member = members_by_key(structure)[key]
    assert member.nested is not None
    inner = into.setdefault(key, [{}] if is_list else {})
    inner = inner[0] if is_list else inner
    fill(member.nested, inner, f"{before}{head}.")
    put(member.nested, inner, rest, value, f"{before}{head}.")


def comes_to(kind: str, path: str, value: Any) -> tuple[Resolved, list[Any], list[str]]:
    """Return what is resolved without remarks, what is rendered, and the paths that a FieldIgnored names."""
    specs = {name: deepcopy(BASES.get(name, {})) for name in ("Dataset", "ThinRuntimeProfile", "CacheRuntimeClass")}
    runtime = (
        kind
        if kind.endswith("Runtime")
        else {"ThinRuntimeProfile": "ThinRuntime", "CacheRuntimeClass": "CacheRuntime"}.get(kind, "AlluxioRuntime")
    )
    specs[runtime] = deepcopy(BASES.get(runtime, {}))
    if kind == "ThinRuntimeProfile":
        specs[runtime] = {"profileName": "profile", **LEVELS}
    if other := DATASETS.get(path):
        specs["Dataset"] = deepcopy(other)
    specs[kind] |= deepcopy(matching(CONTEXTS, path) or {})
    model = KINDS[kind].model
    root = members_by_key(model)["spec"].nested if KINDS[kind].has_spec else model
    assert root is not None
    put(root, specs[kind], path, value)
    found = outcome(
        specs["Dataset"],
        specs[runtime],
        runtime,
        specs["ThinRuntimeProfile"] if runtime == "ThinRuntime" else None,
        specs["CacheRuntimeClass"] if runtime == "CacheRuntime" else None,
    )
    assert isinstance(found, Resolved), f"an example for {path} is wanted: {found}"
    named = [remark.message for remark in found.remarks if remark.reason == "FieldIgnored"]
    values = {field.name: getattr(found, field.name) for field in fields(Resolved) if field.name != "remarks"}
    return Resolved(**values), render(found, {}, INSTALLATION, IDENTITY), named


@pytest.mark.parametrize(("kind", "path", "member", "mark"), CASES)
def test_a_field_does_what_its_mark_says(kind: str, path: str, member: Member, mark: Mark) -> None:
    first, second = examples(path, member)
    (one, objects, named), (other, other_objects, _) = (comes_to(kind, path, value) for value in (first, second))
    differs = one != other or objects != other_objects
    key = path.rpartition(".")[2]
    is_named = any(key in message for message in named) or any(
        path.partition(".")[0].removesuffix("[]") in message for message in named
    )
    if mark & Mark.IGNORED:
        assert not differs, "it has an effect"
        assert is_named or mark & Mark.SILENT, named
    elif mark & Mark.SILENT:
        assert not differs, "it has an effect"
        assert not is_named or member.notes.ignored_when, named
    else:
        assert differs or (is_named and member.notes.ignored_when), "it has no effect"


def test_what_is_resolved_is_looked_at() -> None:
    """A field that is resolved, and that nobody reads then, has no effect either."""
    root = Path(__file__).parents[3] / "csi" / "operator"
    read = set()
    for path in root.rglob("*.py"):
        if "resolve" not in path.parts and "model" not in path.parts:
            read |= {node.attr for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Attribute)}
    names = {field.name for kind in (Resolved, ResolvedSource, ResolvedTier, PodOptions) for field in fields(kind)}
    assert names <= read
