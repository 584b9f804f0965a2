"""A runtime of any kind as the core looks at it: what kinds have in common, read by the traits that their specs consist of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from csi.operator.model.object import Object
from csi.operator.model.structure import Structure
from csi.operator.model.traits import (
    FusePart,
    Part,
    RuntimeSpec,
    WithArgs,
    WithDisabled,
    WithDisablePrometheus,
    WithManagement,
    WithOptions,
    WithProperties,
    WithRunAs,
)
from csi.operator.model.user import User
from csi.operator.resolve.engine_options import FUSE_ARGS, OWN, split_arguments
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.option_layers import Layer, Written, layer
from csi.operator.resolve.option_row import Table, same
from csi.operator.resolve.pods import pod_options
from csi.operator.resolve.tiers import MEMORY_TIER, PLAIN_LEVELS, LevelForm, resolve_levels
from csi.operator.resolved import PodOptions, ResolvedTier

CLEAN_POLICIES = ("OnDemand", "OnRuntimeDeleted", "OnFuseChanged")
_NO_PODS = PodOptions()


@dataclass(frozen=True, slots=True)
class RuntimeView:
    """Attributes:
    tiers: None where the runtime names none and gets the default.
    layers: options of the runtime, weakest first.
    tables: what is known of them, beside options of stores.
    mount_tables: what is known of options of mounts, beside options of stores.
    defaults, worker_pods, fuse_pods: what is passed on to all pods, to those that cache, to those that serve mounts.
    """

    kind: str
    replicas: int
    tiers: tuple[ResolvedTier, ...] | None = None
    layers: tuple[Layer, ...] = ()
    tables: tuple[Table, ...] = (OWN,)
    mount_tables: tuple[Table, ...] = ()
    arguments: Layer = ()
    run_as: User | None = None
    oss_secret: str = ""
    defaults: tuple[PodOptions, ...] = ()
    worker_pods: PodOptions = _NO_PODS
    fuse_pods: PodOptions = _NO_PODS
    clean_policy: str = "OnRuntimeDeleted"
    lists_everything: bool = True
    has_mount: bool = True
    is_scraped: bool = True
    needs_mounts: bool = True


def view_of(
    runtime: Object,
    spec: RuntimeSpec,
    worker: Part,
    fuse: FusePart,
    findings: Findings,
    *,
    table: Table | None = None,
    master: Structure | None = None,
    spelt: Callable[[str], str] = same,
    form: LevelForm = PLAIN_LEVELS,
) -> RuntimeView:
    """Return the view of a runtime whose spec is like those of Alluxio, Jindo, EFC, JuiceFS, GooseFS and Thin.

    Args: `table`: properties and options of the engine; `spelt`: how its keys are called there; `form`: of its levels.
    """
    replicas = spec.replicas if spec.replicas is not None else worker.replicas if worker.replicas is not None else 1
    if isinstance(worker, WithDisabled) and worker.disabled:
        replicas = 0
    levels = spec.tiered_store.levels
    parts = [(path, part) for path, part in (("master", master), ("worker", worker), ("fuse", fuse)) if part is not None]
    layers = [_options(spec, spelt)] + [_options(part, spelt, path) for path, part in parts]
    return RuntimeView(
        kind=runtime.kind,
        replicas=replicas,
        tiers=resolve_levels(levels, form, findings) if levels else None,
        layers=tuple(each for each in layers if each),
        tables=(OWN, table) if table else (OWN,),
        arguments=arguments_of(fuse),
        run_as=spec.run_as if isinstance(spec, WithRunAs) else None,
        defaults=(pod_options(spec),),
        worker_pods=pod_options(worker),
        fuse_pods=pod_options(fuse),
        clean_policy=_clean_policy(fuse.clean_policy, findings),
        lists_everything=not isinstance(spec, WithManagement) or spec.management.metadata_sync_policy.auto_sync,
        has_mount=not (isinstance(fuse, WithDisabled) and fuse.disabled),
        is_scraped=not (isinstance(spec, WithDisablePrometheus) and spec.disable_prometheus),
    )


def arguments_of(fuse: Structure) -> Layer:
    """Return mount options among the arguments of a mount client of Alluxio's or Jindo's kind."""
    if not isinstance(fuse, WithArgs):
        return ()
    return tuple(Written(key, value, ("fuse", "args", key), True) for key, value in split_arguments(fuse.args))


def known_tables(view: RuntimeView) -> tuple[tuple[tuple[Layer, ...], tuple[Table, ...]], ...]:
    """Return the options of a runtime with the tables that know them."""
    return ((view.layers, view.tables), ((view.arguments,), (FUSE_ARGS,)))


def with_default_tier(view: RuntimeView) -> RuntimeView:
    """Return the view of a runtime that caches in memory if it names no tier."""
    return view if view.tiers is not None else replace(view, tiers=(MEMORY_TIER,))


def _options(part: Structure, spelt: Callable[[str], str], *path: str) -> Layer:
    found: Layer = ()
    if isinstance(part, WithProperties):
        found += layer(part.properties, *path, "properties", on_runtime=True, spelt=spelt)
    if isinstance(part, WithOptions):
        found += layer(part.options, *path, "options", on_runtime=True, spelt=spelt)
    return found


def _clean_policy(text: str, findings: Findings) -> str:
    if text and text not in CLEAN_POLICIES:
        findings.refuse(f"spec.fuse.cleanPolicy must be one of {', '.join(CLEAN_POLICIES)}", on_runtime=True)
    return text or "OnRuntimeDeleted"
