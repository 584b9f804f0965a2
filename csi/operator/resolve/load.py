"""From a DataLoad to what is loaded, when and where."""

from __future__ import annotations

from csi.operator.model.data_load import DataLoad
from csi.operator.model.operation import RunAfter
from csi.operator.resolve.engine_options import EngineOptions
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.mount_point import path_components
from csi.operator.resolve.option_layers import Reading, layer
from csi.operator.resolve.option_row import Table, decision, ignored
from csi.operator.resolve.option_values import absolute_path, boolean, timeout, whole
from csi.operator.resolve.pods import check_labels
from csi.operator.resolve.reasons import (
    FIELD_IGNORED,
    OPERATION_NOT_VALID,
    OTHER_NAMESPACE,
    SCHEDULE_INVALID,
    SCHEDULE_MISSING,
)
from csi.operator.resolve.schedule import normal_schedule
from csi.operator.resolved import PodOptions, Problem, Resolved
from csi.operator.resolved_load import LoadTarget, Predecessor, ResolvedLoad

_MAX_FILTER = 4096
_AFFINITIES = ("", "Require", "Prefer")


def _pattern(text: str) -> str:
    if not text or len(text) > _MAX_FILTER or "\0" in text:
        raise ValueError("a pattern such as *.parquet")
    return text


OPTIONS = Table(
    "options of DataLoad",
    (
        decision("name_filter", "filter", convert=_pattern, note="only files whose names match the pattern are loaded"),
        decision("file_list", "cacheListLocation", "fileList", convert=absolute_path, note="a file of the Dataset with paths"),
        decision("dry_run", "dryrun", "dryRun", convert=boolean, note="only tells what would be loaded"),
        decision("metadata_only", "loadMetadataOnly", convert=boolean, note="names and versions alone"),
        decision("refresh", "forceLoad", convert=boolean, note="as `loadMetadata`: what has changed is loaded anew"),
        decision("parallel", "threadNum", "threads", convert=whole(1, 1024), note="files at a time"),
        decision("timeout", "timeout", convert=timeout(), note="none by default; at most a day"),
        ignored("background", note="a Job loads; the load is complete when everything is cached"),
        ignored("loadMemorydata", "atomicCache", "hdfsConfig"),
    ),
)  # fmt: skip


def resolve_load(data_load: DataLoad, resolved: Resolved) -> ResolvedLoad | list[Problem]:
    """Return what a DataLoad comes to on a Dataset, or why it is none."""
    spec, findings = data_load.spec, Findings()
    reading, engine = Reading(findings), EngineOptions()
    namespace = data_load.metadata.namespace
    _check_dataset(data_load, findings)
    engine.read([layer(spec.options, "options")], [OPTIONS], reading)
    reading.ignore_the_rest()
    schedule = _schedule(data_load, findings)
    targets = _targets(data_load, resolved, findings)
    copies = [max(1, target.replicas) for target in spec.target] or [1]
    if len(set(copies)) > 1:
        findings.remark(FIELD_IGNORED, f"spec.target[].replicas differ: all targets are loaded with {max(copies)} copies")
    decided = engine.decisions
    after = spec.run_after
    if after is not None and after.affinity_strategy.policy not in _AFFINITIES:
        _refuse(findings, "spec.runAfter.affinityStrategy.policy must be Require, Prefer or empty")
    pod = PodOptions(
        labels=spec.pod_metadata.labels,
        annotations=spec.pod_metadata.annotations,
        resources=spec.resources,
        node_selector=spec.node_selector,
        tolerations=tuple(spec.tolerations),
    )
    check_labels((pod,), findings)
    if findings.problems:
        return [_of_operation(problem) for problem in findings.problems]
    source = resolved.reference
    return ResolvedLoad(
        namespace=namespace,
        name=data_load.metadata.name,
        dataset_namespace=source.namespace if source else resolved.namespace,
        dataset=source.name if source else resolved.name,
        targets=targets,
        refresh=spec.load_metadata or decided.get("refresh") == "true",
        metadata_only=decided.get("metadata_only") == "true",
        dry_run=decided.get("dry_run") == "true",
        name_filter=decided.get("name_filter", ""),
        file_list=_file_list(decided.get("file_list", ""), resolved),
        list_root=resolved.reference.path if resolved.reference and "file_list" in decided else "",
        copies=max(copies),
        parallel=int(decided.get("parallel", "0")),
        timeout_seconds=float(decided.get("timeout", "0")),
        policy=spec.policy,
        schedule=schedule,
        ttl_seconds=spec.ttl_seconds_after_finished if spec.policy == "Once" else None,
        run_after=_predecessor(after, namespace) if after else None,
        pod=pod,
        affinity=spec.affinity,
        scheduler_name=spec.scheduler_name,
        remarks=findings.remarks(),
    )


def refuse_load(data_load: DataLoad) -> list[Problem]:
    """Return what is wrong with a DataLoad whatever its Dataset is: that need not be there."""
    target = data_load.spec.dataset
    found = resolve_load(data_load, Resolved(data_load.metadata.namespace, target.name if target else "", runtime_kind=""))
    return found if isinstance(found, list) else []


def _file_list(path: str, resolved: Resolved) -> str:
    """Of a reference, it lies below the directory that the reference shows, as everything does."""
    below = resolved.reference.path if resolved.reference else ""
    return "/".join(filter(None, (below, *path_components(path)))) if path else ""


def _predecessor(after: RunAfter, namespace: str) -> Predecessor:
    strategy = after.affinity_strategy
    other = strategy.depend_on
    return Predecessor(
        kind=after.kind,
        namespace=after.namespace or namespace,
        name=after.name,
        affinity=strategy.policy,
        place=(other.kind, other.namespace or namespace, other.name) if other else None,
        requires=tuple(one.name for one in strategy.requires),
        prefers=tuple((one.name, one.weight) for one in strategy.prefers),
    )


def _refuse(findings: Findings, message: str, reason: str = OPERATION_NOT_VALID) -> None:
    findings.refuse(message, reason=reason)


def _of_operation(problem: Problem) -> Problem:
    """Everything that has no reason of its own makes an operation invalid."""
    own = (OTHER_NAMESPACE, SCHEDULE_MISSING, SCHEDULE_INVALID)
    return problem if problem.reason in own else Problem(OPERATION_NOT_VALID, problem.message)


def _check_dataset(data_load: DataLoad, findings: Findings) -> None:
    dataset, namespace = data_load.spec.dataset, data_load.metadata.namespace
    if dataset is None or not dataset.name:
        _refuse(findings, "spec.dataset.name is missing: name the Dataset")
    elif dataset.namespace not in ("", namespace):
        message = f"the Dataset has to be in the DataLoad's own namespace {namespace}: create the DataLoad where the Dataset is"
        _refuse(findings, message, OTHER_NAMESPACE)


def _schedule(data_load: DataLoad, findings: Findings) -> str:
    spec = data_load.spec
    if spec.policy != "Cron":
        return ""
    if not spec.schedule.strip():
        _refuse(findings, "policy is Cron and spec.schedule is missing: write five fields such as 0 2 * * *", SCHEDULE_MISSING)
        return ""
    try:
        return normal_schedule(spec.schedule)
    except ValueError:
        _refuse(findings, "spec.schedule cannot be read: write five fields such as 0 2 * * *, or @hourly", SCHEDULE_INVALID)
        return ""


def _targets(data_load: DataLoad, resolved: Resolved, findings: Findings) -> tuple[LoadTarget, ...]:
    """Return the targets in the tree that is cached; of a reference, below the directory that it shows."""
    below = resolved.reference.path if resolved.reference else ""
    targets = []
    for number, target in enumerate(data_load.spec.target):
        where = f"spec.target[{number}].path"
        try:
            components = path_components(target.path)
        except ValueError as error:
            _refuse(findings, f"{where} {error}")
            continue
        if not target.path.startswith("/"):
            _refuse(findings, f"{where} is not absolute: it begins at the root of the Dataset, with a slash")
            continue
        is_pattern = any(character in target.path for character in "*?")
        if is_pattern and any(character in below for character in "*?"):
            _refuse(findings, f"{where}: patterns are not possible below a directory with * or ? in its name")
            continue
        targets.append(LoadTarget("/".join(filter(None, (below, *components))), is_pattern))
    return tuple(dict.fromkeys(targets)) or (LoadTarget(below),)
