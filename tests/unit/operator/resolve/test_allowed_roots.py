"""Directories of nodes that users name, where the administrator allows some of them, or none."""

from __future__ import annotations

import pytest

from csi.operator.resolve.allowed_roots import AllowedRoots
from tests.support.resolving import LEVEL, problems, resolved

MOUNTS = {"mounts": [{"mountPoint": "s3://bucket"}]}
LOCAL = {"mounts": [{"mountPoint": "local:///data/sets"}]}


@pytest.mark.parametrize(
    ("path", "roots", "found"),
    [
        ("/ssd", ("/ssd",), "/ssd"),
        ("/ssd/a/", ("/ssd/",), "/ssd/a"),
        ("/ssd/a", ("/hdd", "/"), "/ssd/a"),
        ("/ssd-2", ("/ssd",), ""),
        ("/ssd", ("/ssd/a",), ""),
        ("/ssd", (), ""),
    ],
)
def test_tiers(path: str, roots: tuple[str, ...], found: str) -> None:
    data = resolved(MOUNTS, {"tieredstore": {"levels": [{**LEVEL, "path": path}]}}, roots=AllowedRoots(cache=roots))
    (tier,) = data.tiers
    assert tier.host_path == found
    assert not tier.is_empty_dir
    said = [remark for remark in data.remarks if remark.reason == "CachePathNotAllowed"]
    assert len(said) == (not found)
    assert all(path in remark.message and remark.on_runtime and not remark.is_warning for remark in said)


def test_memory_is_not_asked_about() -> None:
    data = resolved(
        MOUNTS, {"tieredstore": {"levels": [{**LEVEL, "mediumtype": "MEM", "path": "/dev/shm"}]}}, roots=AllowedRoots()
    )
    assert data.remarks == ()


def test_local_directories() -> None:
    assert resolved(LOCAL, {}, roots=AllowedRoots(local=("/data",))).sources[0].host_path == "/data/sets"
    (problem,) = problems(LOCAL, {}, roots=AllowedRoots(cache=("/data",), local=("/data/set",)))
    assert (problem.reason, problem.on_runtime) == ("ErrorValidateSpecFields", False)
    assert "allowed are /data/set;" in problem.message
    assert "none is allowed" in problems(LOCAL, {}, roots=AllowedRoots())[0].message


def test_a_node_has_so_many_directories_and_no_more() -> None:
    levels = [{**LEVEL, "path": ",".join(f"/ssd/{number}" for number in range(count))} for count in (16, 17)]
    assert len(resolved(MOUNTS, {"tieredstore": {"levels": levels[:1]}}).tiers) == 16
    assert "16 directories at most" in problems(MOUNTS, {"tieredstore": {"levels": levels[1:]}})[0].message
