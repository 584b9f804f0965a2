"""Fields without effect are named, each in the one place where it stands; all others are not."""

from __future__ import annotations

from typing import Any

import pytest

from csi.operator.model.ignored import ignored_fields, ignored_text


def ignored(kind: str, spec: dict[str, Any], schemes: tuple[str, ...] = ()) -> list[str]:
    return ignored_fields(
        kind, {"apiVersion": "data.fluid.io/v1alpha1", "kind": kind, "metadata": {"name": "a"}, "spec": spec}, schemes
    )


def test_fields_of_other_engines() -> None:
    spec = {
        "replicas": 2,
        "alluxioVersion": {"image": "alluxio", "imageTag": "2.9", "imagePullPolicy": "Always"},
        "jvmOptions": ["-Xmx1G"],
        "jobMaster": {"replicas": 1, "properties": {"a": "b"}},
        "initUsers": {},
        "master": {
            "jvmOptions": ["-Xms20G"], "properties": {"alluxio.master.mount.table.root.readonly": "true"},
            "nodeSelector": {"a": "b"}, "networkMode": "ContainerNetwork",
        },
        "fuse": {"image": "fuse", "args": ["fuse", "--fuse-opts=ro"], "cleanPolicy": "OnDemand"},
    }  # fmt: skip
    assert ignored("AlluxioRuntime", spec) == [
        "spec.alluxioVersion.image",
        "spec.alluxioVersion.imageTag",
        "spec.fuse.image",
        "spec.jobMaster",
        "spec.jvmOptions",
        "spec.master.jvmOptions",
        "spec.master.nodeSelector",
    ]


def test_unknown_keys_at_every_depth() -> None:
    spec = {
        "odd": {"a": 1},
        "mounts": [{"mountPoint": "s3://bucket"}, {"mountPoint": "s3://other", "sharedOptions": {"a": "b"}, "shared": True}],
        "owner": {"uid": 1, "gid": 1, "user": "a", "group": "a", "a.b/c": 1},
        "nodeAffinity": {"required": {"nodeSelectorTerms": []}, "preferred": []},
        "tolerations": [{"key": "a", "newer": True}],
        "gone": None,
    }
    assert ignored("Dataset", spec) == [
        "spec.mounts[1].shared",
        "spec.mounts[1].sharedOptions",
        "spec.nodeAffinity.preferred",
        "spec.odd",
        "spec.owner['a.b/c']",
    ]


def test_keys_beside_spec() -> None:
    raw = {"apiVersion": "x", "kind": "Dataset", "metadata": {"odd": 1}, "status": {"odd": 1}, "spec": {}, "data": {"a": "b"}}
    assert ignored_fields("Dataset", raw) == ["data"]


def test_defaults_and_empty_values_are_not_worth_a_word() -> None:
    spec = {"mounts": [{"mountPoint": "s3://bucket", "shared": False, "path": ""}], "runtimes": []}
    assert ignored("Dataset", spec) == []
    assert ignored("AlluxioRuntime", {"apiGateway": {}, "jvmOptions": [], "worker": {"enabled": False}}) == []
    assert ignored("AlluxioRuntime", {"worker": {"enabled": True}}) == ["spec.worker.enabled"]


def test_a_relative_path_of_a_mount() -> None:
    mounts = [{"mountPoint": "s3://bucket", "path": "a/b"}, {"mountPoint": "s3://other", "path": "/a/b"}]
    assert ignored("Dataset", {"mounts": mounts}) == ["spec.mounts[0].path"]


def test_a_reference_counts_only_its_target_and_access() -> None:
    mount = {"mountPoint": "dataset://a/b", "name": "b", "path": "/b", "options": {"a": "b"}, "readOnly": True}
    spec = {"mounts": [mount], "accessModes": ["ReadWriteMany"], "placement": "Shared", "tolerations": [{"key": "a"}]}
    assert ignored("Dataset", spec) == [
        "spec.mounts[0].name",
        "spec.mounts[0].options",
        "spec.mounts[0].path",
        "spec.placement",
        "spec.tolerations",
    ]


@pytest.mark.parametrize(("kind", "where"), [("AlluxioRuntime", "worker"), ("JuiceFSRuntime", "worker")])
def test_replicas_of_workers(kind: str, where: str) -> None:
    assert ignored(kind, {"replicas": 2, where: {"replicas": 3}}) == [f"spec.{where}.replicas"]
    assert ignored(kind, {"replicas": 3, where: {"replicas": 3}}) == []
    assert ignored(kind, {where: {"replicas": 3}}) == []


def test_details_of_volumes_that_are_no_empty_directories() -> None:
    source = {"mediumtype": "MEM", "volumeSource": {"emptyDir": {"medium": "Memory"}}}
    levels = [{**source, "volumeType": "emptyDir"}, {**source, "volumeType": "hostPath"}, source]
    assert ignored("JindoRuntime", {"tieredstore": {"levels": levels}}) == [
        "spec.tieredstore.levels[1].volumeSource",
        "spec.tieredstore.levels[2].volumeSource",
    ]


def test_hadoop_settings_count_with_hdfs() -> None:
    spec = {"hadoopConfig": "conf", "user": "hdfs"}
    assert ignored("JindoRuntime", spec, ("oss",)) == ["spec.hadoopConfig", "spec.user"]
    assert ignored("JindoRuntime", spec, ("oss", "hdfs")) == []


@pytest.mark.parametrize("policy", ["Once", "Cron", "OnEvent", None])
def test_the_end_of_operations_that_repeat(policy: str | None) -> None:
    spec = {"ttlSecondsAfterFinished": 5, "policy": policy, "schedule": "@hourly"}
    expected = ["spec.ttlSecondsAfterFinished"] if policy in ("Cron", "OnEvent") else []
    assert ignored("DataLoad", spec) == expected


def test_a_class_has_no_spec() -> None:
    container = {"name": "a", "image": "b", "resources": {"limits": {"cpu": "1"}}, "command": ["c"]}
    spec = {"containers": [container], "nodeSelector": {"a": "b"}, "hostPID": True}
    worker = {
        "workloadType": {"kind": "StatefulSet"},
        "options": {"a": "b"},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": spec},
        "service": {"headless": {}},
    }
    raw = {
        "apiVersion": "data.fluid.io/v1alpha1",
        "kind": "CacheRuntimeClass",
        "metadata": {"name": "a"},
        "fileSystemType": "fuse.a",
        "topology": {"worker": worker, "master": {"options": {"a": "b"}, "template": {"spec": {"a": 1}}}},
        "extraResources": {"configMaps": [{"name": "a"}]},
    }
    assert ignored_fields("CacheRuntimeClass", raw) == [
        "extraResources",
        "topology.master.template",
        "topology.worker.service",
        "topology.worker.template.spec.containers[0].command",
        "topology.worker.template.spec.containers[0].image",
        "topology.worker.template.spec.hostPID",
        "topology.worker.workloadType",
    ]


@pytest.mark.parametrize("spec", [None, 3, "text", [], {"mounts": "x"}, {"mounts": ["x", 3]}, {"owner": []}])
def test_objects_that_no_schema_has_seen(spec: Any) -> None:
    assert ignored("Dataset", spec) == []


def test_the_list_of_an_event_is_short() -> None:
    assert ignored_text(["spec.a", "spec.b"]) == "spec.a, spec.b"
    text = ignored_text([f"spec.field{number}" for number in range(200)])
    assert len(text) <= 900
    assert text.endswith(" ...")
    assert len(ignored_text(["x" * 2000])) <= 900
