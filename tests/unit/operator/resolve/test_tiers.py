"""Levels become tiers, and wrong ones are refused as section by section of the reference says."""

from __future__ import annotations

from typing import Any

import pytest

from csi.operator.resolved import ResolvedTier
from fusecache.base.units import GIB, MIB
from fusecache.contract.mount_spec import Medium
from tests.support.resolving import problems, resolved

MOUNTS = {"mounts": [{"mountPoint": "s3://bucket"}]}


def tiers(*levels: dict[str, Any], kind: str = "AlluxioRuntime") -> tuple[ResolvedTier, ...]:
    return resolved(MOUNTS, {"tieredstore": {"levels": list(levels)}}, kind).tiers


def level(**fields: Any) -> dict[str, Any]:
    return {"mediumtype": "SSD", "path": "/a", "quota": "10Gi", **fields}


def test_order_of_media() -> None:
    media = [tier.medium for tier in tiers(level(mediumtype="HDD"), level(path="/b"), level(mediumtype="MEM", path="/dev/shm"))]
    assert media == [Medium.MEM, Medium.SSD, Medium.HDD]


def test_a_quota_is_divided_among_the_paths() -> None:
    found = tiers(level(path="/a,/b, /c/", quota="10"))
    assert [(tier.quota_bytes, tier.host_path) for tier in found] == [(4, "/a"), (3, "/b"), (3, "/c")]


def test_a_list_of_quotas() -> None:
    found = tiers(level(path="/a,/b", quota=None, quotaList="2Gi, 1Gi"), level(path="/c", quotaList="3Gi"))
    assert [tier.quota_bytes for tier in found] == [2 * GIB, GIB, 3 * GIB]


def test_capacity_counts_all_workers() -> None:
    assert resolved(MOUNTS, {"replicas": 3, "tieredstore": {"levels": [level()]}}).capacity_bytes == 30 * GIB
    assert resolved(MOUNTS, {"replicas": 0, "tieredstore": {"levels": [level()]}}).capacity_bytes == 0


def test_a_directory_keeps_its_name_when_others_come() -> None:
    (alone,) = tiers(level(path="/b"))
    first, second = tiers(level(path="/a,/b"))
    assert alone.directory == second.directory != first.directory


def test_colons_part_paths_of_juicefs_only() -> None:
    assert [tier.host_path for tier in tiers(level(path="/a:/b,/c", low="0.1"), kind="JuiceFSRuntime")] == [
        "/a", "/b", "/c",
    ]  # fmt: skip
    assert [tier.host_path for tier in tiers(level(path="/a:/b"))] == ["/a:/b"]


@pytest.mark.parametrize(
    ("written", "high", "low"),
    [
        ({}, 0.95, 0.7),
        ({"high": "0.99"}, 0.99, 0.7),
        ({"high": "0.5"}, 0.5, 0.5),
        ({"low": ".25"}, 0.95, 0.25),
        ({"high": "1", "low": "1.0"}, 1.0, 1.0),
    ],
)
def test_watermarks(written: dict[str, str], high: float, low: float) -> None:
    (tier,) = tiers(level(**written))
    assert (tier.high, tier.low) == (high, low)


def test_low_of_juicefs_is_about_the_disk() -> None:
    data = resolved(MOUNTS, {"tieredstore": {"levels": [level(high="0.9", low="0.1")]}}, "JuiceFSRuntime")
    assert (data.tiers[0].high, data.tiers[0].low) == (0.9, 0.7)
    assert [remark.message for remark in data.remarks] == ["without effect here: spec.tieredstore.levels[0].low"]


def test_what_lives_as_long_as_the_pod() -> None:
    disk, memory = tiers(
        level(volumeType="emptyDir", path="/cache"), level(mediumtype="MEM", path="/dev/shm", volumeType="hostPath")
    )[::-1]
    assert (disk.is_empty_dir, disk.host_path, memory.is_empty_dir, memory.host_path) == (True, "", True, "")


def test_without_levels_memory_is_used_and_said() -> None:
    data = resolved(MOUNTS, {})
    assert data.tiers == (ResolvedTier("mem", Medium.MEM, 256 * MIB, 0.95, 0.7, is_empty_dir=True),)
    (remark,) = data.remarks
    assert (remark.reason, remark.is_warning, remark.on_runtime) == ("MemoryTierAdded", False, True)
    assert resolved(MOUNTS, {"replicas": 0}).remarks == ()


def test_a_small_quota_is_worth_a_warning() -> None:
    (remark,) = resolved(MOUNTS, {"tieredstore": {"levels": [level(quota="63Mi")]}}).remarks
    assert (remark.reason, remark.is_warning, remark.on_runtime) == ("SmallQuota", True, True)


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ({"quota": None}, "levels[0]: either quota or quotaList must be set"),
        ({"quota": None, "quotaList": "1Gi,1Gi"}, "length of quotaList must be consistent with length of paths"),
        ({"quotaList": "1Gi,,"}, "quotaList must be sizes"),
        ({"quota": "0"}, "quota must be positive"),
        ({"quota": "-1Gi"}, "quota must be positive"),
        ({"path": "/a,/b", "quotaList": "-1Gi,2Gi"}, "quota must be positive"),
        ({"quota": "9E"}, "quota must be positive and a size that disks have"),
        ({"high": "0"}, "high and low must be shares"),
        ({"high": "95%"}, "high and low must be shares"),
        ({"low": "1.1"}, "high and low must be shares"),
        ({"high": "0.5", "low": "0.6"}, "low is above high"),
        ({"path": "ssd"}, "path must be absolute"),
        ({"path": "/a/../b"}, "path contains .."),
        ({"path": "/a,/a"}, "a path is written twice"),
    ],
)
def test_refusals(written: dict[str, Any], message: str) -> None:
    found = problems(MOUNTS, {"tieredstore": {"levels": [level(**written)]}})
    assert any(message in problem.message for problem in found), found
    assert all(
        (problem.reason, problem.on_runtime, problem.heals) == ("ErrorValidateSpecFields", True, False) for problem in found
    )


def test_two_levels_with_one_path() -> None:
    (problem,) = problems(MOUNTS, {"tieredstore": {"levels": [level(), level(mediumtype="HDD")]}})
    assert problem.message == "tieredstore.levels[0] and levels[1] have the same path"


def cache_levels(*levels: dict[str, Any], **worker: Any) -> dict[str, Any]:
    return {"runtimeClassName": "default", "worker": {"tieredStore": {"levels": list(levels)}, **worker}}


def test_tiers_of_a_cache_runtime_stay_in_their_order() -> None:
    spec = cache_levels(
        {"hostPath": {"paths": ["/a", "/b"], "quotas": ["2Gi", "1Gi"]}, "high": "0.9"},
        {"processMemory": {"quota": "1Gi"}},
        {"emptyDir": {"quota": "3Gi"}},
        replicas=2,
    )
    data = resolved(MOUNTS, spec, "CacheRuntime", runtime_class={"fileSystemType": "x"})
    assert [(tier.medium, tier.quota_bytes, tier.host_path, tier.is_empty_dir) for tier in data.tiers] == [
        (Medium.SSD, 2 * GIB, "/a", False),
        (Medium.SSD, GIB, "/b", False),
        (Medium.MEM, GIB, "", True),
        (Medium.SSD, 3 * GIB, "", True),
    ]
    assert (data.replicas, data.capacity_bytes, data.tiers[0].high) == (2, 14 * GIB, 0.9)
    assert len({tier.directory for tier in data.tiers}) == 4


@pytest.mark.parametrize(
    ("levels", "message"),
    [
        ([{"processMemory": {"quota": "0"}}], "quota must be positive"),
        ([{"hostPath": {"paths": ["a"], "quotas": ["1Gi"]}}], "path must be absolute"),
        ([{"hostPath": {"paths": ["/a", "/a"], "quotas": ["1Gi", "1Gi"]}}], "path is used by levels[0] already"),
        ([{"emptyDir": {"quota": "1Gi"}, "high": "2"}], "high and low must be shares"),
    ],
)
def test_refused_levels_of_a_cache_runtime(levels: list[dict[str, Any]], message: str) -> None:
    (problem,) = problems(MOUNTS, cache_levels(*levels), "CacheRuntime", runtime_class={"fileSystemType": "x"})
    assert message in problem.message
