"""Carries out one DataLoad: from what is written to a Job, from the Job to a status. Keeps nothing in between.

A DataLoad waits for what it runs after and for its Dataset, then its Job is made, then it follows the Job. Everything that has to
be known later is in objects: the Job is its own under a name that is computed, `Executing` means that it was made.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from csi.operator.app.events import Events
from csi.operator.app.known import DATASETS, Key, Known
from csi.operator.app.load_events import event_of, happened
from csi.operator.app.load_jobs import GENERATION, LoadJobs, is_owned
from csi.operator.app.load_statuses import (
    COMPLETE,
    FAILED,
    JOB_COMPLETE,
    JOB_FAILED,
    Report,
    Run,
    ended_status,
    executing_status,
    failed_status,
    pending_status,
    repeated_status,
)
from csi.operator.app.operation_keys import EXECUTING, dataset_of
from csi.operator.app.operation_objects import OperationObjects
from csi.operator.app.predecessors import Predecessors, Turn
from csi.operator.app.statuses import BOUND
from csi.operator.app.times import now
from csi.operator.model.data_load import DataLoad
from csi.operator.model.ignored import ignored_fields, ignored_text
from csi.operator.model.parsing import parse
from csi.operator.objects import Objects
from csi.operator.operation_place import sent_after
from csi.operator.resolve.load import refuse_load, resolve_load
from csi.operator.resolve.mount_point import parse_mount_point
from csi.operator.resolve.reasons import FIELD_IGNORED, OPERATION_NOT_VALID
from csi.operator.resolved import Reference, Resolved
from csi.operator.resolved_load import ResolvedLoad
from fusecache.contract.errors import CacheError

WAIT_SECONDS = 20.0  # for what is missing; most of it wakes us
FOLLOW_SECONDS = 3.0  # while a Job runs: figures in a status are at most so old
LOOK_SECONDS = 1.0  # for something that is about to happen
CRON_SECONDS = 5.0  # between two looks at whether a CronJob has made a Job

JOB_STARTED, SUCCEEDED, HAS_FAILED = "DataLoadJobStarted", "DataOperationSucceed", "DataOperationFailed"
DATASET_NOT_FOUND, RUNTIME_NOT_READY = "TargetDatasetNotFound", "RuntimeNotReady"
NOT_EXECUTED, CACHE_FULL = "DataOperationExecutionFailed", "CacheFull"
TRIGGER = "data.fluid.io/trigger"  # annotation: whenever it changes, an operation with the policy OnEvent runs


class Loads:
    """`look_at`: has a Dataset looked at soon."""

    def __init__(self, objects: Objects, known: Known, events: Events, jobs: LoadJobs, look_at: Callable[[Key], None]) -> None:
        self._objects = objects
        self._known = known
        self._events = events
        self._jobs = jobs
        self._look_at = look_at
        self._own = OperationObjects(objects)
        self._predecessors = Predecessors(objects, events)

    async def look(self, raw: dict[str, Any]) -> float | None:
        """Return after how many seconds to look again. Raises: ApiError, OSError."""
        if raw["metadata"].get("deletionTimestamp"):
            return await self._go(raw)
        try:
            parsed = parse(raw)
        except CacheError as error:
            return await self._fail(raw, OPERATION_NOT_VALID, str(error))
        assert isinstance(parsed, DataLoad)
        if parsed.spec.policy != "Cron" and await self._stop_repeating(raw):
            return LOOK_SECONDS
        ttl = parsed.spec.ttl_seconds_after_finished if parsed.spec.policy == "Once" else None
        if parsed.spec.policy == "Once" and _phase(raw) in (COMPLETE, FAILED):
            await self._say_changes(raw)
            return await self._own.expire(raw, ttl)
        if problems := refuse_load(parsed):
            await self._fail(raw, problems[0].reason, "; ".join(problem.message for problem in problems))
            return await self._own.expire(raw, ttl)
        load = await self._resolve(raw, parsed)
        if load is None:
            return WAIT_SECONDS
        if isinstance(load, str):
            return await self._fail(raw, OPERATION_NOT_VALID, load)
        await self._say_remarks(raw, load)
        await self._own.adopt(raw, dataset_of(raw))
        return await (self._repeat(raw, load) if load.policy == "Cron" else self._run(raw, load))

    # -- what is written

    async def _resolve(self, raw: dict[str, Any], parsed: DataLoad) -> ResolvedLoad | str | None:
        """Return what the DataLoad comes to, why it is none, or None while its Dataset is not there."""
        key = dataset_of(raw)
        dataset = await self._objects.get(DATASETS, key[1], key[0])
        if dataset is None:
            await self._events.say(raw, DATASET_NOT_FOUND, f"there is no Dataset {key[1]}: create it, or name another one")
            return None
        reference = _reference(dataset)
        if reference is None and not self._known.runtimes(key):
            await self._events.say(raw, RUNTIME_NOT_READY, f"Dataset {key[1]} has no runtime: create one of its name")
            return None
        found = resolve_load(parsed, Resolved(*key, runtime_kind="", reference=reference))
        if isinstance(found, list):
            return "; ".join(problem.message for problem in found)
        return replace(found, pod=replace(found.pod, image_pull_secrets=self._pull_secrets(key)))

    def _pull_secrets(self, key: Key) -> tuple[Mapping[str, Any], ...]:
        """Return those of the Dataset's runtime: whoever may pull the image of cache pods may pull that of loaders."""
        runtime = next(iter(self._known.runtimes(key)), None) or {}
        return tuple(one for one in runtime.get("spec", {}).get("imagePullSecrets") or () if isinstance(one, Mapping))

    async def _is_bound(self, raw: Mapping[str, Any], load: ResolvedLoad) -> bool:
        """Whether there is a cache to load into: of a reference, the target's, and its own right to it."""
        for name in dict.fromkeys((dataset_of(raw), (load.dataset_namespace, load.dataset))):
            found = await self._objects.get(DATASETS, name[1], name[0])
            if found is None or _phase(found) != BOUND:
                said = f"Dataset {name[0]}/{name[1]} is not bound yet: its condition Ready says why; this one waits"
                await self._events.say(raw, RUNTIME_NOT_READY, said, is_warning=False)
                return False
        runtime = next(iter(self._known.runtimes((load.dataset_namespace, load.dataset))), None)
        if runtime is not None and runtime.get("status", {}).get("desiredWorkerNumberScheduled") == 0:
            said = f"{runtime['kind']} {load.dataset} has no workers, which are what is loaded into: raise its replicas"
            await self._events.say(raw, RUNTIME_NOT_READY, said)
            return False
        return True

    async def _say_remarks(self, raw: Mapping[str, Any], load: ResolvedLoad) -> None:
        if ignored := ignored_fields("DataLoad", raw):
            await self._events.say(raw, FIELD_IGNORED, f"without effect here: {ignored_text(ignored)}")
        for remark in load.remarks:
            await self._events.say(raw, remark.reason, remark.message, is_warning=remark.is_warning)

    async def _say_changes(self, raw: Mapping[str, Any]) -> None:
        """A load that is over does not begin anew because somebody edits it."""
        generation = raw["metadata"].get("generation", 1)
        job = await self._jobs.find(raw) if generation > 1 else None
        made_for = (job or {}).get("metadata", {}).get("annotations", {}).get(GENERATION, "")
        if made_for and made_for != str(generation):
            message = "spec has changed after the load began, which has no effect: create another DataLoad"
            await self._events.say(raw, FIELD_IGNORED, message)

    async def _stop_repeating(self, raw: dict[str, Any]) -> bool:
        """Take away the CronJob of a load that has another policy now, with a run that it has under way. Return whether there was
        one."""
        if raw["metadata"].get("generation", 1) == 1 or not await self._jobs.delete(raw, is_repeated=True):
            return False
        if _phase(raw) == EXECUTING:
            await self._own.write_status(raw, repeated_status(raw["status"]))
        return True

    # -- what is done

    async def _run(self, raw: dict[str, Any], load: ResolvedLoad) -> float | None:
        """Once, or whenever something happened."""
        phase, event = _phase(raw), ""
        if load.policy == "OnEvent":
            event = await self._event(raw)
            if phase in (COMPLETE, FAILED):
                known = raw["status"].get("infos", {}).get("Event", "")
                if not happened(known, event):
                    await self._own.write_status(raw, {"infos": {"Event": event}})
                    return None
                await self._jobs.delete(raw)
                await self._own.write_status(raw, repeated_status(raw["status"]))
                return LOOK_SECONDS
        job = await self._jobs.find(raw)
        if job is not None:
            if not is_owned(job, raw["metadata"]["uid"]):
                return await self._make_room(raw, job)
            return LOOK_SECONDS if job["metadata"].get("deletionTimestamp") else await self._follow(raw, load, job)
        if phase == EXECUTING:
            return await self._fail(raw, JOB_FAILED, "the Job is gone, somebody deleted it: create the DataLoad again")
        ready = await self._prepare(raw, load, event)
        if ready is None:
            return WAIT_SECONDS
        await self._jobs.make(raw, ready)
        await self._events.say(raw, JOB_STARTED, f"the Job of DataLoad {load.name} has started", is_warning=False)
        status = executing_status(Run(""), Report(), raw.get("status", {}))
        await self._own.write_status(raw, {**status, "infos": {**status["infos"], "Event": event or None}})
        return LOOK_SECONDS

    async def _repeat(self, raw: dict[str, Any], load: ResolvedLoad) -> float | None:
        """Whenever the CronJob says."""
        before = raw.get("status", {})
        cron = await self._jobs.find(raw, is_repeated=True)
        if cron is not None and not is_owned(cron, raw["metadata"]["uid"]):
            return await self._make_room(raw, cron)
        ready = await self._prepare(raw, load) if cron is None else _as_before(load, cron)
        if ready is None:
            return WAIT_SECONDS
        await self._jobs.make(raw, ready)
        job = await self._jobs.latest_of(cron, load) if cron else None
        if job is None:
            await self._own.write_status(raw, pending_status(before))
            return CRON_SECONDS
        run = Run.of_job(job)
        if _phase(raw) in (COMPLETE, FAILED):
            if before.get("lastScheduleTime") == run.scheduled:
                return CRON_SECONDS
            await self._own.write_status(raw, pending_status(before, again=run))
            return LOOK_SECONDS
        return await self._follow(raw, load, job)

    async def _prepare(self, raw: dict[str, Any], load: ResolvedLoad, event: str = "") -> ResolvedLoad | None:
        """Return the load as it may start now, None while it has to wait. `event`: for which it starts."""
        turn = Turn(True)
        if load.run_after is not None:
            turn = await self._predecessors.turn_of(raw, load.run_after)
            if turn.circle:
                await self._fail(raw, OPERATION_NOT_VALID, turn.circle, event)
                return None
        if not turn.has_come or not await self._is_bound(raw, load):
            status = pending_status(raw.get("status", {}), waits_for_operation=not turn.has_come)
            await self._own.write_status(raw, status)
            return None
        if load.run_after is None:
            return load
        return replace(load, affinity=sent_after(load.affinity, load.run_after, turn.place))

    async def _follow(self, raw: dict[str, Any], load: ResolvedLoad, job: Mapping[str, Any]) -> float | None:
        """Write what a Job has come to."""
        run, before, is_repeated = Run.of_job(job), raw.get("status", {}), load.policy == "Cron"
        report, place = await self._jobs.report(run, load, raw["metadata"].get("annotations", {}))
        if not run.outcome:
            await self._own.write_status(raw, executing_status(run, report, before, is_repeated=is_repeated))
            return FOLLOW_SECONDS
        status = ended_status(run, report, before, now(), place, is_repeated=is_repeated)
        message = status["conditions"][0]["message"] or f"Job {run.name} is complete"
        if run.outcome == COMPLETE:
            if report.is_full:
                await self._events.say(raw, CACHE_FULL, message)
            for reason in (JOB_COMPLETE, SUCCEEDED):
                await self._events.say(raw, reason, message, is_warning=False)
        else:
            for reason in (JOB_FAILED, HAS_FAILED):
                await self._events.say(raw, reason, message)
        await self._own.write_status(raw, status)
        for key in {dataset_of(raw), (load.dataset_namespace, load.dataset)}:
            self._look_at(key)
        return LOOK_SECONDS  # for what comes now: its end, or the next run

    async def _make_room(self, raw: Mapping[str, Any], job: Mapping[str, Any]) -> float:
        """A Job of the name is there: of a DataLoad that was deleted it is going, of somebody else it is said."""
        if not any(owner.get("kind") == "DataLoad" for owner in job["metadata"].get("ownerReferences", ())):
            name = job["metadata"]["name"]
            await self._events.say(
                raw, NOT_EXECUTED, f"there is a Job {name} that is not ours: delete it, or name the load otherwise"
            )
            return WAIT_SECONDS
        return LOOK_SECONDS

    async def _event(self, raw: Mapping[str, Any]) -> str:
        """Return what tells one event from another (see `happened`)."""
        key = dataset_of(raw)
        dataset = await self._objects.get(DATASETS, key[1], key[0]) or {}
        return event_of(dataset, raw["metadata"].get("annotations", {}).get(TRIGGER, ""))

    async def _fail(self, raw: Mapping[str, Any], reason: str, message: str, event: str = "") -> float | None:
        before = raw.get("status", {})
        await self._events.say(raw, reason, message)
        status = failed_status(before, reason, message, now())
        if event:  # it is not begun anew for the same
            status["infos"] = {**status["infos"], "Event": event}
        known = (before.get("conditions") or [{}])[0]
        if _phase(raw) != FAILED or (known.get("reason"), known.get("message")) != (reason, message[:1024]):
            await self._own.write_status(raw, status)
        return None

    async def _go(self, raw: dict[str, Any]) -> float | None:
        """The work stops, and the object may go."""
        for is_repeated in (False, True):
            await self._jobs.delete(raw, is_repeated=is_repeated)
        await self._own.let_go(raw)
        return None


def _as_before(load: ResolvedLoad, cron: Mapping[str, Any]) -> ResolvedLoad:
    """Return a load that runs after another one with the place where its CronJob sends it, which was found out at the start."""
    if load.run_after is None:
        return load
    pod = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    return replace(load, affinity=pod.get("affinity", load.affinity))


def _phase(raw: Mapping[str, Any]) -> str:
    return str(raw.get("status", {}).get("phase", ""))


def _reference(dataset: Mapping[str, Any]) -> Reference | None:
    """Return what a Dataset refers to; what is wrong with its mounts keeps it from being bound."""
    for mount in dataset.get("spec", {}).get("mounts") or ():
        try:
            reference = parse_mount_point(str(mount.get("mountPoint", ""))).reference
        except ValueError:
            continue
        if reference is not None:
            return reference
    return None
