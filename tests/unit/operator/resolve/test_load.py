"""DataLoads: what is loaded, when, with which options."""

from __future__ import annotations

from typing import Any

import pytest

from csi.operator.model.data_load import DataLoad
from csi.operator.model.parsing import parse
from csi.operator.resolve.load import resolve_load
from csi.operator.resolve.schedule import normal_schedule
from csi.operator.resolved import Problem, Resolved
from csi.operator.resolved_load import LoadTarget, Predecessor, ResolvedLoad
from tests.support.resolving import raw, resolved

DATA = resolved({"mounts": [{"mountPoint": "s3://b"}]}, {})


def outcome(data: Resolved = DATA, **spec: Any) -> ResolvedLoad | list[Problem]:
    load = parse(raw("DataLoad", {"dataset": {"name": "data"}, **spec}, "load"))
    assert isinstance(load, DataLoad)
    return resolve_load(load, data)


def loaded(data: Resolved = DATA, **spec: Any) -> ResolvedLoad:
    found = outcome(data, **spec)
    assert isinstance(found, ResolvedLoad), found
    return found


def test_everything() -> None:
    load = loaded()
    assert load == ResolvedLoad("lab", "load", "lab", "data", (LoadTarget(""),))


def test_targets() -> None:
    load = loaded(target=[{"path": "/a//b/"}, {"path": "/c/*.bin"}, {"path": "/**/x?"}, {"path": "/a/b"}])
    assert load.targets == (LoadTarget("a/b"), LoadTarget("c/*.bin", True), LoadTarget("**/x?", True))


def test_copies() -> None:
    assert [loaded(target=[{"path": "/a", "replicas": count}]).copies for count in (0, 1, 3)] == [1, 1, 3]
    load = loaded(target=[{"path": "/a", "replicas": 2}, {"path": "/b"}])
    assert load.copies == 2
    assert [remark.message for remark in load.remarks] == ["spec.target[].replicas differ: all targets are loaded with 2 copies"]


def test_targets_of_a_reference_lie_below_its_directory() -> None:
    reference = resolved({"mounts": [{"mountPoint": "dataset://far/away/sub"}]})
    load = loaded(reference, target=[{"path": "/a"}])
    assert (load.dataset_namespace, load.dataset, load.targets) == ("far", "away", (LoadTarget("sub/a"),))
    assert loaded(reference).targets == (LoadTarget("sub"),)
    odd = resolved({"mounts": [{"mountPoint": "dataset://far/away/s*b"}]})
    assert isinstance(outcome(odd, target=[{"path": "/*"}]), list)
    assert loaded(odd, target=[{"path": "/a"}]).targets == (LoadTarget("s*b/a"),)


def test_options() -> None:
    load = loaded(
        loadMetadata=True,
        options={
            "threads": "9", "timeout": "30m", "filter": "*.bin", "cacheListLocation": "/list", "dryrun": "true",
            "loadMetadataOnly": "true", "atomicCache": "true", "odd": "hush",
        },
    )  # fmt: skip
    assert (load.parallel, load.timeout_seconds, load.name_filter, load.file_list) == (9, 1800.0, "*.bin", "list")
    assert (load.refresh, load.dry_run, load.metadata_only) == (True, True, True)
    assert [remark.message for remark in load.remarks] == ["without effect here: spec.options.atomicCache, spec.options.odd"]
    assert loaded(options={"forceLoad": "true"}).refresh


def test_when_and_where() -> None:
    load = loaded(
        policy="Cron",
        schedule="@hourly",
        ttlSecondsAfterFinished=5,
        runAfter={"kind": "DataLoad", "name": "first", "affinityStrategy": {"policy": "Require"}},
        nodeSelector={"a": "b"},
        tolerations=[{"key": "k"}],
        podMetadata={"labels": {"l": "m"}},
        affinity={"nodeAffinity": {}},
        schedulerName="s",
        resources={"requests": {"cpu": "1"}},
    )
    assert (load.policy, load.schedule, load.ttl_seconds) == ("Cron", "0 * * * *", None)
    assert load.run_after == Predecessor("DataLoad", "lab", "first", "Require")
    assert (load.pod.node_selector, load.pod.tolerations, load.pod.labels) == ({"a": "b"}, ({"key": "k"},), {"l": "m"})
    assert (load.affinity, load.scheduler_name, load.pod.resources) == ({"nodeAffinity": {}}, "s", {"requests": {"cpu": "1"}})
    assert loaded(ttlSecondsAfterFinished=0).ttl_seconds == 0


@pytest.mark.parametrize(
    ("spec", "reason"),
    [
        ({"dataset": {"name": "data", "namespace": "other"}}, "TargetDatasetNamespaceNotSame"),
        ({"dataset": None}, "DataOperationNotValid"),
        ({"target": [{"path": "/a/../b"}]}, "DataOperationNotValid"),
        ({"target": [{"path": "a"}]}, "DataOperationNotValid"),
        ({"options": {"threads": "hush"}}, "DataOperationNotValid"),
        ({"options": {"fileList": "../hush"}}, "DataOperationNotValid"),
        ({"policy": "Cron"}, "ScheduleNotSpecified"),
        ({"policy": "Cron", "schedule": "hush * * * *"}, "ScheduleInvalid"),
        ({"runAfter": {"kind": "DataLoad", "name": "a", "affinityStrategy": {"policy": "odd"}}}, "DataOperationNotValid"),
        ({"podMetadata": {"labels": {"fusecache.io/dataset": "a"}}}, "DataOperationNotValid"),
    ],
)
def test_refusals(spec: dict[str, Any], reason: str) -> None:
    found = outcome(**spec)
    assert isinstance(found, list)
    assert [problem.reason for problem in found] == [reason]
    assert "hush" not in str(found)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0 2 * * *", "0 2 * * *"),
        (" */5  1-3,7 1 jan-mar MON ", "*/5 1-3,7 1 jan-mar mon"),
        ("@daily", "0 0 * * *"),
        ("0/15 * ? * *", "0/15 * ? * *"),
    ],
)
def test_schedules(text: str, expected: str) -> None:
    assert normal_schedule(text) == expected


@pytest.mark.parametrize(
    "text", ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *",
             "*/0 * * * *", "*/00 * * * *", "a * * * *", "@reboot", "*-3 * * * *", "1, * * * *"]
)  # fmt: skip
def test_unreadable_schedules(text: str) -> None:
    with pytest.raises(ValueError):
        normal_schedule(text)
