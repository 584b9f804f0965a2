"""From a Dataset and its runtime to what they come to: the order in which things are looked at.

1. Mount points: what they name. A dataset:// mount ends it here: see `references`.
2. The runtime as all kinds are looked at: see `runtime_view` and the modules of the kinds.
3. Options of the whole mount, from the runtime and from mounts: they decide whether anybody may write.
4. Sources with their own options and credentials, each at its place.
5. Tiers, owner, pods, and a word about everything that has no effect.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from csi.operator.model.alluxio_runtime import AlluxioRuntime
from csi.operator.model.cache_runtime import CacheRuntime
from csi.operator.model.cache_runtime_class import CacheRuntimeClass
from csi.operator.model.dataset import Dataset
from csi.operator.model.efc_runtime import EFCRuntime
from csi.operator.model.goosefs_runtime import GooseFSRuntime
from csi.operator.model.ignored import ignored_fields, ignored_text
from csi.operator.model.jindo_runtime import JindoRuntime
from csi.operator.model.juicefs_runtime import JuiceFSRuntime
from csi.operator.model.object import Object
from csi.operator.model.thin_runtime import ThinRuntime
from csi.operator.model.thin_runtime_profile import ThinRuntimeProfile
from csi.operator.names import CLAIM_ANNOTATION
from csi.operator.resolve import alluxio, cache, efc, goosefs, jindo, juicefs, thin
from csi.operator.resolve.access import READ_ONLY_MANY, access_modes, owner_settings, source_group, storage_size
from csi.operator.resolve.allowed_roots import NO_ROOTS, AllowedRoots, allowed_tiers, refuse_other_directories
from csi.operator.resolve.engine_options import NO_CACHE, READ_ONLY, ROOT_READ_ONLY, EngineOptions
from csi.operator.resolve.findings import Findings, spec_path
from csi.operator.resolve.metadata_list import CLAIM, VOLUME, volume_metadata
from csi.operator.resolve.mount_point import MountPoint, parse_mount_point, scheme_of
from csi.operator.resolve.option_layers import Reading, layer
from csi.operator.resolve.places import resolve_places
from csi.operator.resolve.pods import check_labels, check_volumes, merged
from csi.operator.resolve.reasons import (
    ERROR_DATASET,
    ERROR_FIELDS,
    ERROR_RUNTIME,
    FIELD_IGNORED,
    HOST_NETWORK,
    MEMORY_TIER_ADDED,
)
from csi.operator.resolve.references import resolve_reference
from csi.operator.resolve.runtime_view import RuntimeView, known_tables, with_default_tier
from csi.operator.resolve.sources import SourceContext, resolve_sources
from csi.operator.resolved import ObjectMetadata, PodOptions, Problem, Resolved, ResolvedSource
from csi.volumes.inline import MOST_TIERS

_ON_HOST_NETWORK = (
    "networkMode HostNetwork: a node has room for the cache pod of one such Dataset, as all of them listen on one port, and a "
    "changed pod comes after the old one has ended, while readers wait; leave it out if pods reach the store without it"
)
_WEB_IS_READ_ONLY = "web sources are read-only: what is written below them fails with EROFS"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a Dataset and a runtime depend on beside themselves.

    Attributes:
        profile, runtime_class: what the runtime names, if it is there.
        raw_dataset, raw_runtime, raw_profile: the objects as the cluster has them; keys that nobody knows are only there.
        roots: directories below which users may name some of nodes.
        shares_nodes: whether Datasets without `placement` let others cache on their nodes.
    """

    profile: ThinRuntimeProfile | None = None
    runtime_class: CacheRuntimeClass | None = None
    raw_dataset: Mapping[str, Any] | None = None
    raw_runtime: Mapping[str, Any] | None = None
    raw_profile: Mapping[str, Any] | None = None
    shares_nodes: bool = True
    roots: AllowedRoots = NO_ROOTS


def resolve(dataset: Dataset, runtime: Object | None, surroundings: Surroundings | None = None) -> Resolved | list[Problem]:
    """Return what a Dataset and its runtime come to, or everything that keeps them from it."""
    return _Resolution(dataset, runtime, surroundings or Surroundings()).resolve()


class _Resolution:
    """One call of `resolve`."""

    def __init__(self, dataset: Dataset, runtime: Object | None, surroundings: Surroundings) -> None:
        self._dataset = dataset
        self._runtime = runtime
        self._surroundings = surroundings
        self._findings = Findings()
        self._reading = Reading(self._findings)

    def resolve(self) -> Resolved | list[Problem]:
        points = self._mount_points()
        if any(point.reference for point in points.values()):
            resolved = resolve_reference(self._dataset, self._runtime, points, self._findings)
            self._say_what_references_ignore()
        elif self._runtime is None:
            name = self._dataset.metadata.name
            self._findings.refuse(
                f"there is no runtime {name} yet: create one of the same name and namespace", reason=ERROR_DATASET, heals=True
            )
            resolved = None
        else:
            resolved = self._with_runtime(self._runtime, points)
        if self._findings.problems or resolved is None:
            return self._findings.problems
        self._reading.ignore_the_rest()
        return replace(resolved, remarks=self._findings.remarks())

    # --- mounts ----------------------------------------------------------------------------------------------------------

    def _mount_points(self) -> dict[int, MountPoint]:
        points = {}
        for index, mount in enumerate(self._dataset.spec.mounts):
            try:
                points[index] = parse_mount_point(mount.mount_point)
            except ValueError as error:
                self._findings.refuse(f"spec.mounts[{index}].mountPoint {error}")
                continue
            if points[index].claim == self._dataset.metadata.name:
                self._findings.refuse(f"spec.mounts[{index}].mountPoint names the claim that the Dataset itself will have")
        return points

    # --- everything else -------------------------------------------------------------------------------------------------

    def _with_runtime(self, runtime: Object, points: Mapping[int, MountPoint]) -> Resolved | None:
        dataset, findings = self._dataset, self._findings
        view = self._view(runtime)
        if view is None:
            return None
        if view.needs_mounts and not dataset.spec.mounts:
            findings.refuse("spec.mounts is missing: name at least one source")
        engine = self._engine_options(view)
        modes = access_modes(dataset, findings)
        is_written = READ_ONLY_MANY not in modes and READ_ONLY not in engine.decisions
        places = resolve_places(dataset, points, findings)
        context = SourceContext(view.layers, view.oss_secret, view.run_as, is_written)
        sources = resolve_sources(dataset, points, places, context, self._reading)
        refuse_other_directories(sources, self._surroundings.roots, findings)
        sources = _with_read_only_root(sources, ROOT_READ_ONLY in engine.decisions)
        self._say_what_cannot_be_written(points, is_written, READ_ONLY_MANY not in modes)
        view = self._with_tiers(view, engine)
        worker, fuse = self._pods(view)
        owner = owner_settings(dataset.spec.owner, view.run_as, engine.decisions, is_written=is_written, findings=findings)
        asked = volume_metadata(runtime, findings)
        listing = {} if view.lists_everything else {"sync_listing": "false"}
        self._say_what_is_ignored(view)
        return Resolved(
            namespace=dataset.metadata.namespace,
            name=dataset.metadata.name,
            runtime_kind=view.kind,
            sources=sources,
            tiers=view.tiers or (),
            settings=dict(sorted({**owner, **listing, **engine.settings}.items())),
            read_write=is_written,
            access_modes=modes,
            storage_size=storage_size(dataset, findings),
            replicas=view.replicas,
            clean_policy=view.clean_policy,
            worker=worker,
            fuse=fuse,
            node_affinity=self._node_affinity(),
            source_group=source_group(view.run_as, sources, findings),
            is_exclusive=self._is_exclusive(),
            lists_everything=view.lists_everything,
            mount_node_selector=fuse.node_selector,
            has_mount=view.has_mount,
            has_own_volume=CLAIM_ANNOTATION in dataset.metadata.annotations,
            is_scraped=view.is_scraped,
            volume_metadata=asked.get(VOLUME, ObjectMetadata()),
            claim_metadata=asked.get(CLAIM, ObjectMetadata()),
        )

    def _view(self, runtime: Object) -> RuntimeView | None:
        findings, given = self._findings, self._surroundings
        match runtime:
            case AlluxioRuntime():
                return alluxio.view(runtime, findings)
            case JindoRuntime():
                return jindo.view(runtime, findings)
            case EFCRuntime():
                return efc.view(runtime, findings)
            case JuiceFSRuntime():
                return juicefs.view(runtime, findings)
            case GooseFSRuntime():
                return goosefs.view(runtime, findings)
            case ThinRuntime():
                return thin.view(runtime, given.profile, findings)
            case CacheRuntime():
                return cache.view(runtime, given.runtime_class, findings)
        findings.refuse(f"{runtime.kind} is no kind of runtime", reason=ERROR_RUNTIME, on_runtime=True)
        return None

    def _engine_options(self, view: RuntimeView) -> EngineOptions:
        engine = EngineOptions()
        for layers, tables in known_tables(view):
            engine.read(layers, tables, self._reading)
        spec = self._dataset.spec
        of_mounts = [layer(spec.shared_options, "sharedOptions")]
        of_mounts += [layer(mount.options, "mounts", index, "options") for index, mount in enumerate(spec.mounts)]
        engine.read(of_mounts, view.mount_tables, self._reading)
        return engine

    def _with_tiers(self, view: RuntimeView, engine: EngineOptions) -> RuntimeView:
        view = juicefs.tiers_of_options(view, engine.decisions, self._findings)
        if NO_CACHE in engine.decisions:
            return replace(view, tiers=())
        if view.tiers is None and view.replicas:
            message = "the runtime names no tier: 256Mi of memory cache on each node; tieredstore gives more"
            self._findings.remark(MEMORY_TIER_ADDED, message, on_runtime=True, is_warning=False)
        tiers = allowed_tiers(with_default_tier(view).tiers or (), self._surroundings.roots, self._findings)
        if sum(not tier.is_empty_dir for tier in tiers) > MOST_TIERS:
            message = f"tiers: a node can have {MOST_TIERS} directories at most: name fewer paths"
            self._findings.refuse(message, on_runtime=True)
        return replace(view, tiers=tiers)

    def _pods(self, view: RuntimeView) -> tuple[PodOptions, PodOptions]:
        of_dataset = PodOptions(tolerations=tuple(self._dataset.spec.tolerations))
        worker = merged(*view.defaults, of_dataset, view.worker_pods)
        fuse = merged(*view.defaults, of_dataset, view.fuse_pods)
        check_labels((worker, fuse), self._findings)
        check_volumes((worker, fuse), self._findings)
        if worker.host_network or fuse.host_network:
            self._findings.remark(HOST_NETWORK, _ON_HOST_NETWORK, on_runtime=True)
        return worker, fuse

    def _node_affinity(self) -> tuple[Mapping[str, Any], ...]:
        terms = self._dataset.spec.node_affinity.required.get("nodeSelectorTerms", [])
        if not isinstance(terms, list) or not all(isinstance(term, dict) for term in terms):
            self._findings.refuse("spec.nodeAffinity.required.nodeSelectorTerms must be a list of terms")
            return ()
        return tuple(terms)

    def _is_exclusive(self) -> bool:
        placement = self._dataset.spec.placement
        return placement == "Exclusive" or (not placement and not self._surroundings.shares_nodes)

    # --- remarks ---------------------------------------------------------------------------------------------------------

    def _say_what_cannot_be_written(self, points: Mapping[int, MountPoint], is_written: bool, was_wanted: bool) -> None:
        if is_written and any(point.store == "http" for point in points.values()):
            self._findings.remark(ERROR_FIELDS, _WEB_IS_READ_ONLY)
        elif was_wanted and not is_written:
            self._findings.remark(ERROR_FIELDS, "options of the runtime make the Dataset read-only", on_runtime=True)

    def _say_what_is_ignored(self, view: RuntimeView) -> None:
        given, runtime = self._surroundings, self._runtime
        schemes = {scheme_of(mount.mount_point) for mount in self._dataset.spec.mounts}
        raw = given.raw_dataset if given.raw_dataset is not None else self._dataset.to_raw()
        self._say(ignored_fields("Dataset", raw, schemes), False)
        if runtime is not None:
            raw = given.raw_runtime if given.raw_runtime is not None else runtime.to_raw()
            self._say(ignored_fields(runtime.kind, raw, schemes), True)
        for each in (given.profile, given.runtime_class):
            if each is not None and (paths := ignored_fields(each.kind, each.to_raw(), schemes)):
                message = f"without effect here, of {each.kind} {each.metadata.name}: {ignored_text(paths)}"
                self._findings.remark(FIELD_IGNORED, message, on_runtime=True)

    def _say_what_references_ignore(self) -> None:
        """A runtime of a reference says nothing: its target's does."""
        given, runtime = self._surroundings, self._runtime
        raw = given.raw_dataset if given.raw_dataset is not None else self._dataset.to_raw()
        self._say(ignored_fields("Dataset", raw, ("dataset",)), False)
        if runtime is not None:
            raw = given.raw_runtime if given.raw_runtime is not None else runtime.to_raw()
            spec = raw.get("spec")
            self._say([spec_path((key,)) for key, value in spec.items() if value] if isinstance(spec, Mapping) else [], True)

    def _say(self, paths: list[str], on_runtime: bool) -> None:
        if paths:
            message = f"without effect here: {ignored_text(sorted(set(paths)))}"
            self._findings.remark(FIELD_IGNORED, message, on_runtime=on_runtime)


def _with_read_only_root(sources: tuple[ResolvedSource, ...], is_read_only: bool) -> tuple[ResolvedSource, ...]:
    return tuple(replace(source, read_only=True) if is_read_only and not source.place else source for source in sources)
