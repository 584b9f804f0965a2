"""Status: complete when fetch answers, honest and quick when it does not."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

from fusecache.cli.mount_status import status_of, statuses
from fusecache.cli.status_command import COLUMNS, table_row
from fusecache.contract.control import Status
from fusecache.contract.mount_spec import Medium, MountSpec, SourceSpec, TierSpec
from tests.support.scripted_mount import ScriptedMount

_TIER = {"path": "/t", "medium": "SSD", "quota_bytes": 100, "used_bytes": 50, "high": 0.949999, "low": 0.7,
         "errors": 0, "last_error": ""}  # fmt: skip
_ANSWER: dict[str, Any] = {
    "done": True, "mountpoint": "/mnt", "sources": ["s3://bucket"], "state": "ready", "engine": "native", "access": "passthrough",
    "pids": {"supervisor": 0, "fetch": 0, "serve": []}, "tiers": [_TIER], "files": 12, "total_bytes": 3661455360,
    "cached_bytes": 1405958963, "cached_percentage": 38.4, "hit_bytes": 75, "miss_bytes": 25, "remote_bytes": 7,
    "remote_requests": 2,
    "errors": 0, "checksum_failures": 1, "index_errors": 0,
    "restarts": 0, "hidden": 4, "listing_complete": True, "last_error": "", "unknown": 1,
}  # fmt: skip


def _spec() -> str:
    tiers = (TierSpec("/t", Medium.SSD, 100, 0.95, 0.7),)
    return MountSpec("id", "/mnt", (SourceSpec("s3://bucket"),), tiers, "/nowhere", "/nowhere").to_json()


def test_what_fetch_says_and_what_the_supervisor_knows(tmp_path: Path) -> None:
    with ScriptedMount(tmp_path, "/mnt", lambda request: [_ANSWER], spec=_spec()) as mount:
        status = status_of(mount.record, 5)
    assert set(status) == set(Status.__annotations__), "scripts depend on exactly these names"
    assert (status["state"], status["files"], status["restarts"]) == ("ready", 12, 3)
    assert status["pids"]["supervisor"] == mount.record.supervisor.pid
    assert status["tiers"][0]["high"] == 0.95
    json.dumps(status)


def test_units_are_those_of_kubectl_get_dataset(tmp_path: Path) -> None:
    with ScriptedMount(tmp_path, "/mnt", lambda request: [_ANSWER], spec=_spec()) as mount:
        row = dict(zip(COLUMNS, table_row(status_of(mount.record, 5)), strict=True))
    assert (row["TOTAL SIZE"], row["CACHED"], row["CACHED PERCENTAGE"]) == ("3.41GiB", "1.31GiB", "38.4%")
    assert (row["HIT RATIO"], row["FILES"]) == ("75.0%", "12")


def test_a_silent_daemon_is_degraded_and_costs_no_more_than_the_timeout(tmp_path: Path) -> None:
    started = time.monotonic()
    with ScriptedMount(tmp_path, "/a", spec=_spec()) as silent, ScriptedMount(tmp_path, "/b") as other:
        found = statuses([silent.record, other.record], 0.3)
    assert time.monotonic() - started < 10
    assert [status["state"] for status in found] == ["degraded", "degraded"]
    assert set(found[0]) == set(Status.__annotations__)
    assert found[0]["tiers"][0]["quota_bytes"] == 100
    assert "did not answer" in found[0]["last_error"]


def test_a_mount_without_its_supervisor_is_dead_and_not_asked(tmp_path: Path) -> None:
    with ScriptedMount(tmp_path, "/a", lambda request: [_ANSWER], dead=True) as mount:
        status = status_of(mount.record, 5)
        assert mount.requests == []
    assert status["state"] == "dead"
    assert status["pids"] == {"supervisor": 0, "fetch": 0, "serve": []}


def test_what_the_supervisor_calls_degraded_is_degraded(tmp_path: Path) -> None:
    with ScriptedMount(tmp_path, "/a", lambda request: [_ANSWER]) as mount:
        mount.record.state, mount.record.last_error = "degraded", "serve cannot start"
        status = status_of(mount.record, 5)
    assert (status["state"], status["last_error"]) == ("degraded", "serve cannot start")
