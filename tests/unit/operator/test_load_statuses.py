"""What Jobs and pods say of a load, and the statuses that come of it. (tests/cluster/test_loads.py has real ones.)"""

from __future__ import annotations

from typing import Any

from csi.operator.app.known import DATA_LOADS, DATASETS, Known
from csi.operator.app.load_events import event_of, happened
from csi.operator.app.load_statuses import (
    Report,
    Run,
    differs,
    ended_status,
    executing_status,
    failed_status,
    pending_status,
    repeated_status,
    report_of,
    seconds_left,
)
from csi.operator.app.operation_keys import OperationKey, concerned_dataset, concerned_operations, operation_ref
from csi.operator.app.watching import Watcher, make_registry
from csi.operator.objects import Kind
from tests.support.resolving import raw

NOW = "2026-03-01T10:00:00Z"
FIGURES = {"files": 3, "files_total": 9, "bytes": 1 << 30, "bytes_total": 3 << 30, "full": False}


def job(condition: str = "", **status: Any) -> dict[str, Any]:
    conditions = [
        {"type": condition, "status": "True", "reason": "R", "message": "M", "lastTransitionTime": "2026-03-01T09:02:01Z"}
    ]
    metadata = {"name": "load-loader-job", "creationTimestamp": "2026-03-01T08:59:59Z"}
    return {"metadata": metadata, "status": {**status, "conditions": conditions if condition else []}}


def merged(before: Any, patch: Any) -> Any:
    """As the API server merges (RFC 7396)."""
    if not isinstance(patch, dict):
        return patch
    found = dict(before) if isinstance(before, dict) else {}
    for key, value in patch.items():
        if value is None:
            found.pop(key, None)
        else:
            found[key] = merged(found.get(key), value)
    return found


def test_runs() -> None:
    assert Run.of_job(job()).outcome == ""
    assert Run.of_job(job("SuccessCriteriaMet")).outcome == "", "it is about to"
    done = Run.of_job(job("Complete", startTime="2026-03-01T09:00:00Z", completionTime="2026-03-01T09:02:01Z"))
    assert (done.outcome, done.duration) == ("Complete", "2m1s")
    failed = Run.of_job(job("Failed", startTime="2026-03-01T09:01:27Z"))
    assert (failed.outcome, failed.duration, failed.reason, failed.message) == ("Failed", "34s", "R", "M")
    assert Run.of_job(job("Failed")).duration == "0s"


def test_last_words() -> None:
    assert Report.parse('3 files are cached\n{"files": 3}\n') == Report("3 files are cached", {"files": 3})
    assert Report.parse("Traceback:\n  ModuleNotFoundError") == Report("Traceback: ModuleNotFoundError")
    assert Report.parse("") == Report()
    assert Report.parse("a\n[1]") == Report("a [1]")

    def pod(at: str, message: str) -> dict[str, Any]:
        return {"status": {"containerStatuses": [{"state": {"terminated": {"finishedAt": at, "message": message}}}]}}

    running: dict[str, Any] = {"status": {"containerStatuses": [{"state": {"running": {}}}]}}
    assert report_of([pod("2026-03-01T09:00:02Z", "second"), pod("2026-03-01T09:00:01Z", "first"), running]).words == "second"
    assert report_of([running, {}]) == Report()


def test_a_life_writes_only_what_changes() -> None:
    status: dict[str, Any] = {}
    steps = [
        pending_status(status, waits_for_operation=True),
        pending_status(status),
        executing_status(Run("j"), Report(), status),
        executing_status(Run("j"), Report(figures=FIGURES), status),
        ended_status(Run("j", outcome="Complete"), Report("done", {**FIGURES, "full": True}), status, NOW, {"a": 1}),
        repeated_status({"phase": "Complete"}),
    ]
    for step in steps:
        assert differs(status, step), step
        status = merged(status, step)
        assert not differs(status, step), step
        assert not any(value is None for value in status.get("infos", {}).values())


def test_what_a_status_shows() -> None:
    shown = executing_status(Run("j"), Report(figures=FIGURES), {})
    assert (shown["phase"], shown["duration"], shown["infos"]["Progress"]) == ("Executing", "Unfinished", "1.00GiB/3.00GiB")
    assert shown["infos"]["FilesDone"] == "3"
    full = ended_status(Run("j", outcome="Complete"), Report("words", {**FIGURES, "full": True}), {}, NOW, None)
    assert full["infos"]["CacheFull"] == "true"
    assert full["conditions"][0]["message"] == "words"
    assert "nodeAffinity" not in full
    late = ended_status(Run("j", outcome="Failed", reason="DeadlineExceeded"), Report("told to end"), {}, NOW, None)
    assert "options.timeout" in late["conditions"][0]["message"]
    assert failed_status({}, "R", "m" * 2000, NOW)["conditions"][0]["message"] == "m" * 1024
    repeated = ended_status(Run("j", ended="e", outcome="Complete", scheduled="s"), Report(), {}, NOW, None, is_repeated=True)
    assert (repeated["lastScheduleTime"], repeated["lastSuccessfulTime"]) == ("s", "e")
    assert pending_status({}, again=Run("j", scheduled="s"))["duration"] == "-"
    kept = {"infos": {"Event": "abc", "Progress": "1/2"}}
    assert merged(kept, executing_status(Run("j"), Report(), kept))["infos"] == {"Event": "abc"}


def test_how_long_an_object_stays() -> None:
    status = {"conditions": [{"lastTransitionTime": "2026-03-01T09:59:50Z"}]}
    assert seconds_left(status, 15, NOW) == 5.0
    assert seconds_left(status, 5, NOW) < 0


def test_what_is_an_event() -> None:
    dataset: dict[str, Any] = {"spec": {"mounts": [{"mountPoint": "s3://b"}]}, "status": {"ufsTotal": "[Calculating]"}}
    listed = {**dataset, "status": {"ufsTotal": "1.00GiB", "fileNum": "9"}}
    grown = {**dataset, "status": {"ufsTotal": "1.00GiB", "fileNum": "10"}}
    moved = {**listed, "spec": {"mounts": [{"mountPoint": "s3://c"}]}}
    before, now = event_of(dataset, ""), event_of(listed, "")
    assert before != now
    assert not happened(before, now), "it has become known"
    assert not happened(now, before), "it is listed again"
    assert not happened(now, event_of(listed, ""))
    assert happened(now, event_of(grown, ""))
    assert happened(now, event_of(moved, ""))
    assert happened(now, event_of(listed, "1"))
    assert happened("", now)


def test_who_is_looked_at() -> None:
    known = Known()
    first = raw("DataLoad", {"dataset": {"name": "data"}}, "first")
    second = raw("DataLoad", {"dataset": {"name": "view"}, "runAfter": {"kind": "DataLoad", "name": "first"}}, "second")
    data, view = raw("Dataset", {}), raw("Dataset", {"mounts": [{"mountPoint": "dataset://lab/data"}]}, "view")
    for kind, one in ((DATA_LOADS, first), (DATA_LOADS, second), (DATASETS, data), (DATASETS, view)):
        known.note(kind, None, one)
    both = {OperationKey("DataLoad", "lab", "first"), OperationKey("DataLoad", "lab", "second")}

    def concerned(kind: Kind, one: dict[str, Any], before: dict[str, Any] | None = None) -> set[OperationKey]:
        return set(concerned_operations(kind, known, before, one, "MODIFIED"))

    assert concerned(DATA_LOADS, first) == both
    assert concerned(DATA_LOADS, second) == {OperationKey("DataLoad", "lab", "second")}
    assert concerned(DATASETS, data) == both, "a view of it is loaded through it"
    assert concerned(DATASETS, view) == {OperationKey("DataLoad", "lab", "second")}
    loads, further, over = (
        {**first, "status": {"phase": phase, "infos": {"Progress": progress}}}
        for phase, progress in (("Executing", "1/9"), ("Executing", "2/9"), ("Complete", "2/9"))
    )
    assert concerned(DATA_LOADS, further, loads) == set(), "its own figures had it looked at without a pause"
    assert concerned(DATA_LOADS, over, further) == both
    assert concerned(DATA_LOADS, {**first, "spec": {}}, first) == both
    for what in ("DELETED", None):  # None: it was there when the operator started
        assert set(concerned_operations(DATA_LOADS, known, first, first, what)) == both
    assert operation_ref(known, ("lab", "data")) == {"operationRef": None}
    runs = {**first, "status": {"phase": "Executing"}}
    known.note(DATA_LOADS, "MODIFIED", runs)
    assert operation_ref(known, ("lab", "data")) == {"operationRef": {"DataLoad": "first"}}
    assert list(concerned_dataset(DATA_LOADS, first, runs, "MODIFIED")) == [("lab", "data")]
    assert list(concerned_dataset(DATA_LOADS, runs, runs, "MODIFIED")) == []
    assert list(concerned_dataset(DATA_LOADS, runs, runs, "DELETED")) == [("lab", "data")]
    assert make_registry(Watcher(known, lambda key: None, lambda key: None)) is not None
