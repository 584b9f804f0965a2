"""Statuses of operations, and what Jobs and their pods say of a run. Pure.

A status is written as a merge patch: None takes a key away. `infos`: Progress (`1.31GiB/3.41GiB`), FilesDone, CacheFull (`true`)
where the cache was too small, and with the policy OnEvent what tells one event from another. A time is written where something
changed, and never again.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from csi.operator.app.operation_keys import EXECUTING
from csi.operator.formats import UNFINISHED, WAITING, format_duration, format_size

PENDING, COMPLETE, FAILED = "Pending", "Complete", "Failed"
JOB_COMPLETE, JOB_FAILED = "DataLoadJobComplete", "DataLoadJobFailed"
_INFOS = ("Progress", "FilesDone", "CacheFull", "Event")
_SCHEDULED = "batch.kubernetes.io/cronjob-scheduled-timestamp"
_DEADLINE = "DeadlineExceeded"


@dataclass(frozen=True, slots=True)
class Report:
    """What a loader has said: its last words, and figures (fusecache/pod/load_progress.py)."""

    words: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_full(self) -> bool:
        return self.figures.get("full") is True

    @classmethod
    def parse(cls, message: str) -> Report:
        """Read a termination message: words, and in the last line figures. Without figures, all of it is words."""
        *words, last = message.strip().splitlines() or [""]
        try:
            figures = json.loads(last)
        except ValueError:
            figures = None
        if not isinstance(figures, dict):
            return cls(" ".join(message.split()))
        return cls(" ".join(words).strip(), figures)


@dataclass(frozen=True, slots=True)
class Run:
    """A Job. `outcome`: "" while it runs. Times as the cluster writes them, "" for none yet; `scheduled`: of a CronJob's Job."""

    name: str
    started: str = ""
    ended: str = ""
    outcome: str = ""
    reason: str = ""
    message: str = ""
    scheduled: str = ""

    @classmethod
    def of_job(cls, job: Mapping[str, Any]) -> Run:
        status, metadata = job.get("status", {}), job["metadata"]
        end: Mapping[str, Any] = next(
            (one for one in status.get("conditions", ()) if one["type"] in (COMPLETE, FAILED) and one["status"] == "True"), {}
        )
        return cls(
            name=metadata["name"],
            started=status.get("startTime", ""),
            ended=status.get("completionTime") or end.get("lastTransitionTime", ""),
            outcome=end.get("type", ""),
            reason=end.get("reason", ""),
            message=end.get("message", ""),
            scheduled=metadata.get("annotations", {}).get(_SCHEDULED) or metadata.get("creationTimestamp", ""),
        )

    @property
    def duration(self) -> str:
        if not self.started or not self.ended:
            return format_duration(0)
        return format_duration((_time(self.ended) - _time(self.started)).total_seconds())


def report_of(pods: Iterable[Mapping[str, Any]]) -> Report:
    """Return what the pod of a Job that ended last has said."""
    ended = [
        (state["finishedAt"], state.get("message", ""))
        for pod in pods
        for one in pod.get("status", {}).get("containerStatuses", ())
        if (state := one.get("state", {}).get("terminated")) and state.get("finishedAt")
    ]
    return Report.parse(max(ended)[1]) if ended else Report()


def pending_status(before: Mapping[str, Any], *, waits_for_operation: bool = False, again: Run | None = None) -> dict[str, Any]:
    """Return the status of an operation that is valid and waits. `again`: a run of a Cron operation that begins."""
    status: dict[str, Any] = {
        "phase": PENDING,
        "duration": before.get("duration") if before.get("phase") == PENDING and before.get("duration") else UNFINISHED,
        "conditions": [],
        "infos": _infos({}, before),
        "waitingFor": {"operationComplete": waits_for_operation},
    }
    return status if again is None else {**status, "duration": WAITING, "lastScheduleTime": again.scheduled}


def repeated_status(before: Mapping[str, Any]) -> dict[str, Any]:
    """Return the status of an operation that is over, and begins anew because something happened."""
    return {**pending_status(before), "duration": WAITING}


def executing_status(run: Run, report: Report, before: Mapping[str, Any], *, is_repeated: bool = False) -> dict[str, Any]:
    status = {
        "phase": EXECUTING,
        "duration": UNFINISHED,
        "conditions": [],
        "infos": _infos(report.figures, before),
        "waitingFor": {"operationComplete": False},
    }
    return {**status, "lastScheduleTime": run.scheduled} if is_repeated else status


def ended_status(
    run: Run, report: Report, before: Mapping[str, Any], now: str, place: Mapping[str, Any] | None, *, is_repeated: bool = False
) -> dict[str, Any]:
    """`place`: node affinity of where it ran."""
    is_complete = run.outcome == COMPLETE
    message = report.words if is_complete else _why(run, report)
    status: dict[str, Any] = {
        "phase": run.outcome,
        "duration": run.duration,
        "conditions": [_condition(run.outcome, JOB_COMPLETE if is_complete else JOB_FAILED, message, now)],
        "infos": _infos(report.figures, before, is_full=is_complete and report.is_full),
        "waitingFor": {"operationComplete": False},
    }
    if place:
        status["nodeAffinity"] = dict(place)
    if is_repeated:
        status["lastScheduleTime"] = run.scheduled
        if is_complete:
            status["lastSuccessfulTime"] = run.ended
    return status


def failed_status(before: Mapping[str, Any], reason: str, message: str, now: str) -> dict[str, Any]:
    """Return the status of an operation that cannot be, or whose Job is gone."""
    return {
        "phase": FAILED,
        "duration": format_duration(0),
        "conditions": [_condition(FAILED, reason, message, now)],
        "infos": _infos({}, before),
        "waitingFor": {"operationComplete": False},
    }


def differs(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether a merge patch would change something."""
    return any(_merged(before.get(key), value) != before.get(key) for key, value in after.items())


def _merged(before: Any, patch: Any) -> Any:
    if not isinstance(patch, Mapping):
        return patch
    kept = before if isinstance(before, Mapping) else {}
    merged = {**kept, **{key: _merged(kept.get(key), value) for key, value in patch.items()}}
    found = {key: value for key, value in merged.items() if value is not None}
    return found if found or before is not None else None


def _why(run: Run, report: Report) -> str:
    if run.reason == _DEADLINE:
        return "the load was not complete within its timeout: raise options.timeout, or load less"
    return report.words or run.message or f"Job {run.name} failed: kubectl describe job/{run.name} says why"


def _infos(figures: Mapping[str, Any], before: Mapping[str, Any], *, is_full: bool = False) -> dict[str, Any]:
    """Keys that say nothing now are taken away; what a run was made for stays."""
    found = dict.fromkeys(_INFOS)
    if "bytes_total" in figures:
        found["Progress"] = f"{format_size(int(figures['bytes']))}/{format_size(int(figures['bytes_total']))}"
        found["FilesDone"] = str(int(figures["files"]))
        found["CacheFull"] = "true" if is_full else None
    kept = before.get("infos", {})
    return {**found, "Event": kept.get("Event")}


def _condition(kind: str, reason: str, message: str, now: str) -> dict[str, Any]:
    return {
        "type": kind,
        "status": "True",
        "reason": reason,
        "message": message[:1024],
        "lastProbeTime": now,
        "lastTransitionTime": now,
    }


def seconds_left(status: Mapping[str, Any], ttl_seconds: int, now: str) -> float:
    """Return after how many seconds an operation that has ended goes."""
    conditions = status.get("conditions") or [{}]
    ended = conditions[0].get("lastTransitionTime") or now
    return ttl_seconds - (_time(now) - _time(ended)).total_seconds()


def _time(text: str) -> datetime.datetime:
    return datetime.datetime.fromisoformat(text)
