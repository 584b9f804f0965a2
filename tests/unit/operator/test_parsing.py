"""Manifests become objects; what cannot be is refused in a sentence that says where, why, and what to write."""

from __future__ import annotations

from typing import Any

import pytest

from csi.operator.model.alluxio_runtime import AlluxioRuntime
from csi.operator.model.cache_runtime import CacheRuntime
from csi.operator.model.conditions import UpdatedCondition
from csi.operator.model.data_migrate import DataMigrate
from csi.operator.model.dataset import Dataset, DatasetStatus
from csi.operator.model.kinds import KINDS
from csi.operator.model.mount import Mount
from csi.operator.model.parsing import check_name, parse
from csi.operator.model.runtime_status import RuntimeStatus
from fusecache.contract.errors import CacheError


def manifest(kind: str, spec: Any = None, name: str = "data", **more: Any) -> dict[str, Any]:
    spec = {} if spec is None else {"spec": spec}
    return {"apiVersion": "data.fluid.io/v1alpha1", "kind": kind, "metadata": {"name": name}, **spec, **more}


def refusal(raw: dict[str, Any]) -> str:
    with pytest.raises(CacheError) as caught:
        parse(raw)
    return str(caught.value)


def test_a_dataset() -> None:
    secret = {"name": "key", "valueFrom": {"secretKeyRef": {"name": "access", "key": "id"}}}
    mount = {
        "mountPoint": "s3://bucket",
        "name": "images",
        "options": {"region": "eu"},
        "encryptOptions": [secret],
        "readOnly": True,
    }
    dataset = parse(manifest("Dataset", {"mounts": [mount], "accessModes": ["ReadWriteMany"]}))
    assert isinstance(dataset, Dataset)
    (parsed,) = dataset.spec.mounts
    assert (parsed.mount_point, parsed.place, parsed.options, parsed.read_only) == (
        "s3://bucket",
        "/images",
        {"region": "eu"},
        True,
    )
    assert (parsed.encrypt_options[0].value_from.secret_key_ref.name, parsed.encrypt_options[0].key) == ("access", "id")
    assert dataset.spec.access_modes == ["ReadWriteMany"]
    assert dataset.spec.owner is None


@pytest.mark.parametrize(
    ("name", "path", "place"),
    [
        ("spark", "", "/spark"),
        ("/", "", "/"),
        ("", "", "/"),
        ("a", "/b/c", "/b/c"),
        ("a", "b", "/a"),
        ("//a", "", "/a"),
        ("a", "/", "/"),
    ],
)
def test_the_place_of_a_mount(name: str, path: str, place: str) -> None:
    assert Mount(mount_point="s3://bucket", name=name, path=path).place == place


def test_what_is_left_out() -> None:
    runtime = parse(manifest("AlluxioRuntime"))
    assert isinstance(runtime, AlluxioRuntime)
    assert runtime.spec.replicas is None
    assert runtime.spec.tiered_store.levels == []
    assert runtime.spec.management.clean_cache_policy.grace_period_seconds == 60
    assert runtime.spec.management.metadata_sync_policy.auto_sync


def test_quotas_are_bytes() -> None:
    levels = [
        {"mediumtype": "MEM", "quota": "0.5Gi"},
        {"mediumtype": "SSD", "quota": 4096},
        {"mediumtype": "HDD", "quotaList": "1Gi, 2Gi"},
    ]
    runtime = parse(manifest("AlluxioRuntime", {"tieredstore": {"levels": levels}}))
    assert isinstance(runtime, AlluxioRuntime)
    assert [level.quota_bytes for level in runtime.spec.tiered_store.levels] == [512 << 20, 4096, None]


def test_names_that_python_keeps_for_itself() -> None:
    ends = {"from": {"dataset": {"name": "a", "namespace": "b"}}, "to": {"externalStorage": {"uri": "s3://c"}}}
    migration = parse(manifest("DataMigrate", ends))
    assert isinstance(migration, DataMigrate)
    assert migration.spec.source.dataset is not None
    assert migration.spec.destination.external_storage is not None
    assert migration.spec.parallelism == 1


def test_unknown_keys_and_nulls_are_let_through() -> None:
    raw = manifest(
        "Dataset", {"mounts": [{"mountPoint": "s3://bucket", "path": None, "odd": 1}], "owner": None, "x": {"y": None}}, z=1
    )
    dataset = parse(raw)
    assert isinstance(dataset, Dataset)
    assert dataset.spec.mounts[0].path == ""


def test_names_of_python_are_no_keys() -> None:
    dataset = parse(manifest("Dataset", {"access_modes": ["ReadWriteMany"]}))
    assert isinstance(dataset, Dataset)
    assert dataset.spec.access_modes == []


@pytest.mark.parametrize(
    ("kind", "spec", "sentence"),
    [
        ("Dataset", {"mounts": [{"mountPoint": "s3"}]}, "spec.mounts[0].mountPoint is 's3': it should be at least 5 chars long"),
        ("Dataset", {"mounts": []}, "spec.mounts has 0 entries: write at least 1"),
        ("Dataset", {"mounts": {}}, "spec.mounts is a mapping where a list is needed: begin each entry with a dash"),
        ("Dataset", {"placement": "Odd"}, "spec.placement is 'Odd': write 'Exclusive', 'Shared' or ''"),
        (
            "Dataset",
            {"sharedOptions": {"fs.oss.secret": 12345}},
            "spec.sharedOptions['fs.oss.secret'] is a number where text is needed: put it into quotes",
        ),
        ("Dataset", {"owner": {"uid": 1, "gid": 1, "user": "a"}}, "spec.owner.group is missing: add it"),
        ("Dataset", ["mounts"], "spec is a list where a mapping is needed: write key: value below it"),
        ("AlluxioRuntime", {"replicas": "3"}, "spec.replicas is text where a whole number is needed: write it without quotes"),
        (
            "AlluxioRuntime",
            {"replicas": True},
            "spec.replicas is true or false where a whole number is needed: write it without quotes",
        ),
        ("AlluxioRuntime", {"replicas": -1}, "spec.replicas is -1: write 0 or more"),
        ("AlluxioRuntime", {"replicas": 1 << 31}, "spec.replicas is 2147483648: write 2147483647 or less"),
        ("AlluxioRuntime", {"worker": {"replicas": 0}}, "spec.worker.replicas is 0: write 1 or more"),
        (
            "JindoRuntime",
            {"fuse": {"disabled": "no"}},
            "spec.fuse.disabled is text where true or false is needed: write it without quotes",
        ),
        (
            "EFCRuntime",
            {"tieredstore": {"levels": [{"mediumtype": "MEM", "quota": "15GB"}]}},
            "spec.tieredstore.levels[0].quota: '15GB' is no quantity: write a number with a unit, such as 10Gi or 500M",
        ),
        ("ThinRuntimeProfile", {}, "spec.fileSystemType is missing: add it"),
        (
            "CacheRuntime",
            {"runtimeClassName": "default", "worker": {"tieredStore": {"levels": [{}]}}},
            "spec.worker.tieredStore.levels[0]: a level has exactly one of processMemory, emptyDir and hostPath",
        ),
        (
            "CacheRuntime",
            {
                "runtimeClassName": "default",
                "worker": {"tieredStore": {"levels": [{"hostPath": {"paths": ["/a"], "quotas": [1, 2]}}]}},
            },
            "spec.worker.tieredStore.levels[0].hostPath: paths and quotas must have the same number of entries",
        ),
        (
            "CacheRuntime",
            {"runtimeClassName": "default", "worker": {"tieredStore": {"levels": [{"processMemory": {"quota": 1}}] * 2}}},
            "spec.worker.tieredStore: at most one level can have processMemory",
        ),
        ("DataLoad", {"policy": "Weekly"}, "spec.policy is 'Weekly': write 'Once', 'Cron' or 'OnEvent'"),
        ("DataLoad", {"ttlSecondsAfterFinished": -1}, "spec.ttlSecondsAfterFinished is -1: write 0 or more"),
        ("DataMigrate", None, "spec is missing: add it"),
        ("DataProcess", {}, "spec.dataset is missing: add it; spec.processor is missing: add it"),
    ],
)
def test_refusals(kind: str, spec: Any, sentence: str) -> None:
    assert refusal(manifest(kind, spec)) == sentence


def test_more_than_three_errors_are_counted() -> None:
    assert refusal(manifest("Dataset", {"owner": {}})).endswith("spec.owner.user is missing: add it; and 1 more")


def test_no_value_of_an_option_is_told() -> None:
    told = refusal(
        manifest("Dataset", {"sharedOptions": {"a": 424242}, "mounts": [{"mountPoint": "s3://b", "options": {"b": ["canary"]}}]})
    )
    assert "424242" not in told
    assert "canary" not in told


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS.values() if kind.strict_name])
@pytest.mark.parametrize("name", ["20-hbase", "Spark", "a.b", "a_b", "a-", "a" * 64, "-a"])
def test_names_of_datasets_and_runtimes(kind: str, name: str) -> None:
    with pytest.raises(CacheError, match="at most 63 lower case letters, digits and dashes that begins with a letter"):
        check_name(kind, name)


def test_good_names() -> None:
    for name in ("a", "a" * 63, "spark-3", "a1"):
        check_name("Dataset", name)
    check_name("DataLoad", "20.load")  # nothing is named after an operation but its job
    check_name("CacheRuntimeClass", "my.class")


def test_other_groups_and_kinds() -> None:
    assert refusal({"apiVersion": "v1", "kind": "Pod"}) == "apiVersion is 'v1': only data.fluid.io/v1alpha1 is served here"
    assert "kind is 'VineyardRuntime': data.fluid.io/v1alpha1 has AlluxioRuntime," in refusal(manifest("VineyardRuntime"))
    assert refusal(manifest("Dataset", name="")) == "metadata.name is '': it should be at least 1 chars long"
    assert refusal({"apiVersion": "data.fluid.io/v1alpha1", "kind": "Dataset"}) == "metadata is missing: add it"


def test_a_status_that_cannot_be_read_counts_as_empty() -> None:
    good = parse(manifest("Dataset", status={"phase": "Bound", "conditions": [], "odd": 1}))
    odd = parse(manifest("Dataset", {"accessModes": ["ReadWriteMany"]}, status={"phase": 3, "conditions": []}))
    assert isinstance(good, Dataset)
    assert isinstance(odd, Dataset)
    assert good.status.phase == "Bound"
    assert odd.status == DatasetStatus()
    assert odd.spec.access_modes == ["ReadWriteMany"]


def test_what_is_written_into_a_status() -> None:
    ready = UpdatedCondition(type="Ready", status="True", reason="DatasetReady")
    status = DatasetStatus(phase="Bound", conditions=[ready], cache_states={"cached": "0.00B"})
    assert status.to_raw() == {
        "phase": "Bound",
        "conditions": [{"type": "Ready", "status": "True", "reason": "DatasetReady"}],
        "cacheStates": {"cached": "0.00B"},
    }
    assert DatasetStatus().to_raw() == {"conditions": []}
    assert RuntimeStatus().to_raw() == {
        "valueFile": "",
        **{f"{part}Phase": "" for part in ("master", "worker", "fuse")},
        **{f"{part}NumberReady": 0 for part in ("master", "worker", "fuse")},
        **{f"{state}{part}NumberScheduled": 0 for part in ("Master", "Worker", "Fuse") for state in ("current", "desired")},
    }


def test_what_is_read_again_is_the_same() -> None:
    level = {"hostPath": {"paths": ["/a"], "quotas": ["1Gi"]}, "high": "0.9"}
    raw = manifest("CacheRuntime", {"runtimeClassName": "default", "worker": {"replicas": 3, "tieredStore": {"levels": [level]}}})
    runtime = parse(raw)
    assert isinstance(runtime, CacheRuntime)
    assert parse(runtime.to_raw()) == runtime
