"""Statuses of Datasets and runtimes: from what is known to what is written. Pure.

Conditions keep the time of their last change. What is equal to the status that is there is not written again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from csi.operator.figures import Figures, cache_states, file_count, ufs_total
from csi.operator.model.dataset import Dataset
from csi.operator.render.object_names import WORKER, selector
from csi.operator.resolved import Problem, Resolved

BOUND, NOT_BOUND, FAILED, UPDATING = "Bound", "NotBound", "Failed", "Updating"
USABLE = (BOUND, FAILED, UPDATING)  # phases of a Dataset that has been bound
READY, PARTIAL, NOT_READY = "Ready", "PartialReady", "NotReady"
_TYPES = {
    "AlluxioRuntime": "alluxio", "JindoRuntime": "jindo", "EFCRuntime": "efc", "JuiceFSRuntime": "juicefs",
    "GooseFSRuntime": "goosefs", "ThinRuntime": "thin", "CacheRuntime": "cache",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in the cluster for a Dataset.

    Attributes:
        figures: of its daemons.
        workers_chosen, workers_ready: nodes that are to cache; those whose cache pod is ready.
        mounts_wanted, mounts_ready: nodes where pods use the volume; those whose cache pod is ready.
        worker_reason: why there are fewer workers than asked for.
        problems: what keeps it from being usable now: a store that refuses, a Secret that is missing.
        references: Datasets that refer to it.
        is_updating: some cache pods have another configuration than the one that is wanted.
    """

    figures: Figures = field(default_factory=Figures)
    workers_chosen: int = 0
    workers_ready: int = 0
    mounts_wanted: int = 0
    mounts_ready: int = 0
    worker_reason: str = ""
    problems: Sequence[Problem] = ()
    references: Sequence[str] = ()
    is_updating: bool = False

    @property
    def has_answered(self) -> bool:
        return self.figures.answered > 0


def refused_status(dataset: Dataset, problems: Sequence[Problem], now: str) -> dict[str, Any]:
    """Return the status of a Dataset of which nothing can be made: what it had is emptied, as when its runtime goes."""
    first = problems[0]
    return {
        "phase": NOT_BOUND,
        "conditions": _conditions(dataset, is_ready=False, reason=first.reason, message=first.message, now=now),
        "ufsTotal": "",
        "fileNum": "",
        "cacheStates": {},
        "runtimes": [],
        "mounts": [],
    }


def failed_status(dataset: Dataset, problem: Problem, now: str) -> dict[str, Any]:
    """Return what changes in the status of a Dataset that was usable, when what is written of it is no more. Pods go on."""
    return {
        "phase": FAILED,
        "conditions": _conditions(dataset, is_ready=False, reason=problem.reason, message=problem.message, now=now),
    }


def dataset_status(dataset: Dataset, resolved: Resolved, seen: Seen, now: str) -> dict[str, Any]:
    """Return the status of a Dataset that has all it needs. Bound once the store has answered; Failed if it does no more.

    While no daemon answers, as when the only one is replaced, the figures stay what they were."""
    was_bound = dataset.status.phase in USABLE
    if seen.problems:
        phase, reason, message = (FAILED if was_bound else NOT_BOUND), seen.problems[0].reason, seen.problems[0].message
    elif was_bound and seen.is_updating:
        phase, reason, message = UPDATING, "DatasetUpdating", "Cache pods are replaced by those with the new configuration."
    elif seen.has_answered or was_bound:
        phase, reason, message = BOUND, "DatasetReady", "The store has answered, and the volume can be used."
    else:
        phase, reason, message = NOT_BOUND, "WaitingForCache", _waiting(seen)
    status: dict[str, Any] = {
        "phase": phase,
        "conditions": _conditions(dataset, is_ready=phase in (BOUND, UPDATING), reason=reason, message=message, now=now),
        "mounts": [_shown_mount(mount) for mount in _raw_mounts(dataset)],
        "runtimes": [_bound_runtime(resolved)],
        "datasetRef": sorted(seen.references),
    }
    if seen.has_answered or not was_bound:
        lists = resolved.lists_everything
        status |= {
            "ufsTotal": ufs_total(seen.figures, lists_everything=lists),
            "fileNum": file_count(seen.figures, lists_everything=lists),
            "cacheStates": cache_states(seen.figures, resolved.capacity_bytes, lists_everything=lists),
        }
    return status


def runtime_status(resolved: Resolved, seen: Seen, before: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return the status of a runtime of any kind but CacheRuntime. `before`: what it has."""
    master = READY if seen.has_answered else NOT_READY
    workers = _phase(seen.workers_ready, resolved.replicas)
    fuses = _phase(seen.mounts_ready, seen.mounts_wanted)
    conditions = [
        _condition(before, "MasterReady", master == READY, "StoreAnswered", "StoreNotAsked", now),
        _condition(before, "WorkersReady", workers == READY, "WorkersReady", "WorkersNotReady", now, seen.worker_reason),
        _condition(before, "FusesReady", fuses == READY, "MountsReady", "MountsNotReady", now),
    ]
    return {
        "valueFile": f"{resolved.name}-fuse",
        "masterPhase": master,
        "workerPhase": workers,
        "workerReason": seen.worker_reason,
        "fusePhase": fuses,
        "desiredMasterNumberScheduled": 1,
        "currentMasterNumberScheduled": 1,
        "masterNumberReady": int(master == READY),
        "desiredWorkerNumberScheduled": resolved.replicas,
        "currentWorkerNumberScheduled": seen.workers_chosen,
        "workerNumberReady": seen.workers_ready,
        "workerNumberAvailable": seen.workers_ready,
        "workerNumberUnavailable": max(0, resolved.replicas - seen.workers_ready),
        "desiredFuseNumberScheduled": seen.mounts_wanted,
        "currentFuseNumberScheduled": seen.mounts_wanted,
        "fuseNumberReady": seen.mounts_ready,
        "fuseNumberAvailable": seen.mounts_ready,
        "fuseNumberUnavailable": max(0, seen.mounts_wanted - seen.mounts_ready),
        "conditions": conditions,
        "cacheStates": cache_states(seen.figures, resolved.capacity_bytes, lists_everything=resolved.lists_everything),
        "selector": ",".join(f"{key}={value}" for key, value in selector(resolved.name, WORKER).items()),
    }


def cache_runtime_status(resolved: Resolved, seen: Seen, before: Mapping[str, Any], now: str) -> dict[str, Any]:
    """Return the status of a CacheRuntime, whose parts have a status each. `before`: what it has."""
    other = runtime_status(resolved, seen, before, now)
    parts = {
        "master": _part(int(seen.has_answered), 1, 1, "StoreNotAsked", _waiting(seen)),
        "worker": _part(seen.workers_ready, seen.workers_chosen, resolved.replicas, "WorkersNotReady", seen.worker_reason),
        "client": _part(seen.mounts_ready, seen.mounts_wanted, seen.mounts_wanted, "MountsNotReady", ""),
    }
    phases = {part["phase"] for part in parts.values()}
    return {
        "phase": READY if phases == {READY} else PARTIAL if READY in phases else NOT_READY,
        "valueFile": other["valueFile"],
        "conditions": other["conditions"],
        "cacheStates": other["cacheStates"],
        "selector": other["selector"],
        **parts,
    }


def _part(ready: int, current: int, desired: int, reason: str, message: str) -> dict[str, Any]:
    phase = _phase(ready, desired)
    return {
        "phase": phase,
        "reason": "" if phase == READY else reason,
        "message": "" if phase == READY else message,
        "readyReplicas": ready,
        "currentReplicas": current,
        "desiredReplicas": desired,
        "unavailableReplicas": max(0, desired - ready),
        "availableReplicas": ready,
    }


def differs(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether there is something to write: a time alone is no change."""
    return any(_timeless(before.get(key)) != _timeless(value) for key, value in after.items())


def status_patch(before: Mapping[str, Any], after: Mapping[str, Any]) -> dict[str, Any]:
    """Return the merge patch that makes a status say `after`: a map in it says what is not in it any more, too, as it would be
    merged, and differ for ever."""
    return {key: _replaced(before.get(key), value) for key, value in after.items()}


def _replaced(before: Any, after: Any) -> Any:
    if not isinstance(before, Mapping) or not isinstance(after, Mapping):
        return after
    return {**dict.fromkeys(before.keys() - after.keys()), **status_patch(before, after)}


def _waiting(seen: Seen) -> str:
    return seen.worker_reason or "The cache pods are starting, and have not asked the store yet."


def _phase(ready: int, wanted: int) -> str:
    if ready >= wanted:
        return READY
    return PARTIAL if ready else NOT_READY


def _conditions(dataset: Dataset, *, is_ready: bool, reason: str, message: str, now: str) -> list[dict[str, Any]]:
    """`Ready` is always there; `NotReady` mirrors it for old clients."""
    before = {one.type: one for one in dataset.status.conditions}
    found = []
    for name, holds in (("Ready", is_ready), ("NotReady", not is_ready)):
        status = "True" if holds else "False"
        old = before.get(name)
        changed = now if old is None or old.status != status else old.last_transition_time
        found.append(
            {
                "type": name,
                "status": status,
                "reason": reason,
                "message": message,
                "lastUpdateTime": now,
                "lastTransitionTime": changed or now,
            }
        )
    return found


def _condition(
    before: Mapping[str, Any], name: str, holds: bool, reason: str, other_reason: str, now: str, message: str = ""
) -> dict[str, Any]:
    status = "True" if holds else "False"
    old: Mapping[str, Any] = next((one for one in before.get("conditions", ()) if one.get("type") == name), {})
    return {
        "type": name,
        "status": status,
        "reason": reason if holds else other_reason,
        "message": "" if holds else message,
        "lastProbeTime": now,
        "lastTransitionTime": old.get("lastTransitionTime", now) if old.get("status") == status else now,
    }


def _bound_runtime(resolved: Resolved) -> dict[str, Any]:
    return {
        "name": resolved.name,
        "namespace": resolved.namespace,
        "category": "Accelerate",
        "type": _TYPES[resolved.runtime_kind],
    }


def _raw_mounts(dataset: Dataset) -> list[dict[str, Any]]:
    return [mount.to_raw() for mount in dataset.spec.mounts]


def _shown_mount(mount: Mapping[str, Any]) -> dict[str, Any]:
    """A mount in effect, without the names of Secrets, and without options: a credential in clear text may be among them."""
    return {key: value for key, value in mount.items() if key in ("mountPoint", "name", "path", "readOnly", "shared")}


def _timeless(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _timeless(one) for key, one in value.items() if not key.endswith("Time")}
    if isinstance(value, list):
        return [_timeless(one) for one in value]
    return value
