"""Datasets that refer to another one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from csi.operator.resolve.references import follow
from csi.operator.resolved import Problem, Reference
from tests.support.resolving import problems, resolved

MOUNT = {"mountPoint": "dataset://other/name/sub//path/"}


@pytest.mark.parametrize("runtime", [None, {}, {"profileName": "x"}])
def test_a_reference(runtime: dict[str, Any] | None) -> None:
    data = resolved({"mounts": [MOUNT]}, runtime, "ThinRuntime")
    assert data.reference == Reference("other", "name", "sub/path")
    assert (data.sources, data.tiers, data.replicas, data.read_write) == ((), (), 0, False)


def test_fields_without_effect() -> None:
    spec = {"mounts": [{**MOUNT, "path": "/x", "options": {"a": "b"}}], "placement": "Shared"}
    of_dataset, of_runtime = resolved(spec, {"profileName": "x"}, "ThinRuntime").remarks
    assert of_dataset.message == "without effect here: spec.mounts[0].options, spec.mounts[0].path, spec.placement"
    assert (of_runtime.message, of_runtime.on_runtime) == ("without effect here: spec.profileName", True)


@pytest.mark.parametrize(
    ("mounts", "words"),
    [
        ([MOUNT, MOUNT], "which only expects 1"),
        ([MOUNT, {"mountPoint": "s3://bucket"}], "also contains other types of mounts"),
        ([{"mountPoint": "dataset://lab/data"}], "refers to itself"),
    ],
)
def test_wrong_mounts(mounts: list[dict[str, Any]], words: str) -> None:
    (problem,) = problems({"mounts": mounts})
    assert words in problem.message
    assert (problem.reason, problem.heals, problem.on_runtime) == ("ErrorCreateDataset", False, False)


@pytest.mark.parametrize(
    "mount_point", ["dataset://", "dataset://name", "dataset://Name/Space", "dataset:///name", "dataset://a/b/../c"]
)
def test_malformed_references(mount_point: str) -> None:
    found = problems({"mounts": [{"mountPoint": mount_point}]}, {}, "ThinRuntime")
    assert found[0].message.startswith("spec.mounts[0].mountPoint ")


def test_only_a_thin_runtime_serves_references() -> None:
    (problem,) = problems({"mounts": [MOUNT]}, {})
    assert "can only use thin runtime" in problem.message
    assert (problem.reason, problem.on_runtime) == ("ErrorProcessRuntime", True)


def test_access_to_a_target() -> None:
    target = resolved({"mounts": [{"mountPoint": "s3://b"}]}, {})
    written = replace(target, read_write=True)
    wish = resolved({"mounts": [MOUNT], "accessModes": ["ReadWriteMany"]})
    assert wish.read_write
    modest = resolved({"mounts": [MOUNT]})
    assert [follow(reference, other) for reference in (wish, modest) for other in (written, target)] == [
        wish,
        replace(wish, read_write=False),
        modest,
        modest,
    ]
    chained = follow(wish, wish)
    assert isinstance(chained, Problem)
    assert (chained.reason, chained.heals) == ("ErrorCreateDataset", True)
