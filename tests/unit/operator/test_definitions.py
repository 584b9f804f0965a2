"""Definitions are structural, say what `kubectl get` prints, and refuse at once what a schema can refuse."""

from __future__ import annotations

from typing import Any

import pytest

from csi.operator.crds.definition import definition, is_ours
from csi.operator.model.kinds import KINDS
from csi.operator.names import finalizer
from tests.support.structural_schema import at, faults, refusals

RUNTIMES = ["AlluxioRuntime", "JindoRuntime", "EFCRuntime", "JuiceFSRuntime", "GooseFSRuntime", "ThinRuntime", "CacheRuntime"]


def version(kind: str) -> dict[str, Any]:
    (only,) = definition(KINDS[kind])["spec"]["versions"]
    return dict(only)


def schema(kind: str) -> dict[str, Any]:
    return dict(version(kind)["schema"]["openAPIV3Schema"])


def refused(kind: str, spec: Any) -> list[str]:
    raw = {"apiVersion": "data.fluid.io/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec}
    return refusals(schema(kind), raw)


@pytest.mark.parametrize("kind", KINDS)
def test_schemas_are_structural(kind: str) -> None:
    assert list(faults(schema(kind))) == []


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_users_write_gets_through(kind: str) -> None:
    """Marking spec alone is not enough: an object with properties of its own drops what it does not know again."""

    def closed(node: dict[str, Any], path: str) -> list[str]:
        found = [path] if "properties" in node and not node.get("x-kubernetes-preserve-unknown-fields") else []
        for name, inner in node.get("properties", {}).items():
            found += closed(inner, f"{path}.{name}")
        return found + (closed(node["items"], f"{path}[]") if "items" in node else [])

    root = schema(kind)
    assert closed(root["properties"]["spec"] if KINDS[kind].has_spec else root, "") == []


@pytest.mark.parametrize(
    ("kind", "plural", "short", "scope", "in_category"),
    [
        ("Dataset", "datasets", ["dataset"], "Namespaced", True),
        ("AlluxioRuntime", "alluxioruntimes", ["alluxio"], "Namespaced", True),
        ("JindoRuntime", "jindoruntimes", ["jindo"], "Namespaced", True),
        ("EFCRuntime", "efcruntimes", ["efc"], "Namespaced", True),
        ("JuiceFSRuntime", "juicefsruntimes", ["juicefs"], "Namespaced", True),
        ("GooseFSRuntime", "goosefsruntimes", ["goose"], "Namespaced", True),
        ("ThinRuntime", "thinruntimes", None, "Namespaced", False),
        ("ThinRuntimeProfile", "thinruntimeprofiles", None, "Cluster", False),
        ("CacheRuntime", "cacheruntimes", None, "Namespaced", True),
        ("CacheRuntimeClass", "cacheruntimeclasses", None, "Cluster", True),
        ("DataLoad", "dataloads", ["load"], "Namespaced", True),
        ("DataMigrate", "datamigrates", ["migrate"], "Namespaced", True),
        ("DataBackup", "databackups", ["backup"], "Namespaced", True),
        ("DataProcess", "dataprocesses", None, "Namespaced", False),
    ],
)
def test_names(kind: str, plural: str, short: list[str] | None, scope: str, in_category: bool) -> None:
    whole = definition(KINDS[kind])
    names = whole["spec"]["names"]
    assert whole["metadata"]["name"] == f"{plural}.data.fluid.io"
    assert (names["kind"], names["plural"], names.get("shortNames"), whole["spec"]["scope"]) == (kind, plural, short, scope)
    assert names.get("categories") == (["fluid"] if in_category else None)


@pytest.mark.parametrize(
    ("kind", "columns"),
    [
        (
            "Dataset",
            "Ufs Total Size, Cached, Cache Capacity, Cached Percentage, Phase, HCFS URL*, TOTAL FILES*, CACHE HIT RATIO*, Age",
        ),
        ("AlluxioRuntime", "{masters}, {others}, API Gateway*, Age"),
        ("GooseFSRuntime", "{masters}, {others}, API Gateway*, Age"),
        ("JindoRuntime", "{masters}, {others}, Age"),
        ("EFCRuntime", "{masters}, {others}, Age"),
        ("JuiceFSRuntime", "{others}, Age"),
        ("ThinRuntime", "{others}, Age"),
        ("CacheRuntime", "{others}, Age, Status"),
        ("ThinRuntimeProfile", ""),
        ("CacheRuntimeClass", ""),
        ("DataLoad", "Dataset, Phase, Age, Duration"),
        ("DataProcess", "Dataset, Phase, Age, Duration"),
        ("DataMigrate", "Phase, Age, Duration"),
        ("DataBackup", "Dataset, Phase, Path, NodeName, Duration, Age"),
    ],
)
def test_columns(kind: str, columns: str) -> None:
    printed = [
        f"{column['name']}{'*' if column.get('priority') else ''}" for column in version(kind).get("additionalPrinterColumns", [])
    ]
    masters = "Ready Masters*, Desired Masters*, Master Phase"
    others = "Ready Workers*, Desired Workers*, Worker Phase, Ready Fuses*, Desired Fuses*, Fuse Phase"
    assert ", ".join(printed) == columns.format(masters=masters, others=others)


def test_columns_show_fields_that_there_are() -> None:
    for kind in KINDS:
        for column in version(kind).get("additionalPrinterColumns", []):
            path = column["jsonPath"].removeprefix(".")
            if not path.startswith(("metadata.", "status.cacheStates.", "status.infos.")):
                assert at(schema(kind), path)["type"] == column["type"], (kind, path)


def test_priorities() -> None:
    priorities = {column["name"]: column.get("priority", 0) for column in version("Dataset")["additionalPrinterColumns"]}
    assert (priorities["HCFS URL"], priorities["TOTAL FILES"], priorities["CACHE HIT RATIO"]) == (10, 11, 10)


@pytest.mark.parametrize("kind", KINDS)
def test_subresources(kind: str) -> None:
    subresources = version(kind).get("subresources", {})
    assert ("status" in subresources) == (kind != "CacheRuntimeClass")
    assert ("scale" in subresources) == (kind in RUNTIMES)
    for path in subresources.get("scale", {}).values():
        assert at(schema(kind), path.removeprefix("."))["type"] in ("integer", "string")


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Dataset", {"mounts": [{"mountPoint": "s3:/"}]}),
        ("Dataset", {"mounts": [{"name": "a"}]}),
        ("Dataset", {"mounts": []}),
        ("Dataset", {"placement": "Odd"}),
        ("Dataset", {"owner": {"uid": 1, "gid": 1, "user": "a"}}),
        ("AlluxioRuntime", {"runAs": {"uid": 1}}),
        ("AlluxioRuntime", {"tieredstore": {"levels": [{"quota": "1Gi"}]}}),
        ("AlluxioRuntime", {"tieredstore": {"levels": [{"mediumtype": "TAPE"}]}}),
        ("AlluxioRuntime", {"tieredstore": {"levels": [{"mediumtype": "MEM", "volumeType": "volumeTemplate"}]}}),
        ("AlluxioRuntime", {"tieredstore": {"levels": [{"mediumtype": "MEM", "path": ""}]}}),
        ("AlluxioRuntime", {"tieredstore": {"levels": [{"mediumtype": "MEM", "quota": "15GB"}]}}),
        *((kind, {"worker": {"replicas": 0}}) for kind in RUNTIMES if kind != "CacheRuntime"),
        ("EFCRuntime", {"fuse": {"networkMode": "Bridge"}}),
        ("JindoRuntime", {"networkmode": "Bridge"}),
        ("CacheRuntime", {"runtimeClassName": "a", "worker": {"replicas": -1}}),
        ("CacheRuntime", {}),
        ("ThinRuntimeProfile", {}),
        ("DataLoad", {"policy": "Weekly"}),
        ("DataLoad", {"runAfter": {"kind": "Job", "name": "a"}}),
        ("DataMigrate", {"from": {}}),
        ("DataMigrate", {"from": {}, "to": {}, "parallelism": 0}),
        ("DataProcess", {"dataset": {"name": "a", "mountPath": "/a"}}),
        (
            "DataProcess",
            {"dataset": {"name": "a", "mountPath": "/a"}, "processor": {"script": {"source": "", "restartPolicy": "Always"}}},
        ),
        ("DataProcess", {"processor": {}}),
    ],
)
def test_what_is_refused_at_once(kind: str, spec: dict[str, Any]) -> None:
    assert refused(kind, spec) != []


@pytest.mark.parametrize(
    ("kind", "spec"),
    [
        ("Dataset", {"accessModes": ["Odd"], "mounts": [{"mountPoint": "dataset:"}, {"mountPoint": "dataset://a/b"}]}),
        ("AlluxioRuntime", {"fuse": {"cleanPolicy": "Never"}, "tieredstore": {"levels": [{"mediumtype": "MEM", "high": "7"}]}}),
        ("AlluxioRuntime", {"tieredstore": {"levels": [{"mediumtype": "MEM", "quota": -1, "quotaList": "100Gi"}]}}),
        ("AlluxioRuntime", {"replicas": 0, "master": {"resources": {"limits": {"cpu": 2, "memory": "1Gi"}}}}),
        ("DataLoad", {"policy": "Cron"}),
        ("DataProcess", {"dataset": {"name": "a", "mountPath": "/a"}, "processor": {}}),
    ],
)
def test_what_an_event_tells_later(kind: str, spec: dict[str, Any]) -> None:
    assert refused(kind, spec) == []


def test_rules() -> None:
    levels = at(schema("CacheRuntime"), "spec.worker.tieredStore")
    assert [rule["message"] for rule in levels["x-kubernetes-validations"]] == ["at most one level can have processMemory"]
    assert at(schema("CacheRuntime"), "spec.client.tieredStore.levels[]")["x-kubernetes-validations"]


def test_defaults_that_the_api_server_writes() -> None:
    assert at(schema("DataLoad"), "spec.policy")["default"] == "Once"
    assert at(schema("AlluxioRuntime"), "spec.tieredstore.levels[].volumeType")["default"] == "hostPath"
    assert at(schema("CacheRuntime"), "spec.worker")["default"] == {}
    assert at(schema("CacheRuntime"), "spec.worker.replicas")["default"] == 1
    assert "default" not in at(schema("AlluxioRuntime"), "spec.replicas")  # worker.replicas counts when it is left out
    assert "default" not in at(schema("Dataset"), "spec.placement")  # the installation decides


def test_definitions_are_marked_as_ours() -> None:
    ours = definition(KINDS["Dataset"])
    assert is_ours(ours)
    assert not is_ours({"metadata": {"name": "datasets.data.fluid.io"}})
    assert not is_ours({"metadata": {"labels": None}})
    digests = {definition(kind)["metadata"]["annotations"]["fusecache.io/definition-digest"] for kind in KINDS.values()}
    assert len(digests) == len(KINDS)


def test_finalizers() -> None:
    assert finalizer("AlluxioRuntime") == "fusecache.io/alluxioruntime"
    former = {kind.name: kind.former_finalizer for kind in KINDS.values()}
    assert former["Dataset"] == "fluid-dataset-controller-finalizer"
    assert former["JuiceFSRuntime"] == "juicefs-runtime-controller-finalizer"
    assert former["DataProcess"] == "fluid-dataprocess-controller-finalizer"
    assert former["CacheRuntimeClass"] == ""
