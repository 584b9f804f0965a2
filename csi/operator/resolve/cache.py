"""CacheRuntime with its CacheRuntimeClass: the class has defaults for pods and settings of ours in its options."""

from __future__ import annotations

from csi.operator.model.cache_runtime import CacheRuntime
from csi.operator.model.cache_runtime_class import CacheRuntimeClass, TopologyPart
from csi.operator.model.cache_tiers import CacheLevel, CacheTieredStore
from csi.operator.resolve.engine_options import OWN, OWN_WORDS
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.option_layers import Layer, layer
from csi.operator.resolve.pods import merged, pod_options
from csi.operator.resolve.reasons import ERROR_RUNTIME
from csi.operator.resolve.runtime_view import RuntimeView
from csi.operator.resolve.tiers import Slot, check_path, check_quota, make_tier, read_ratios
from csi.operator.resolved import PodOptions, ResolvedTier
from fusecache.contract.mount_spec import Medium

_CLASS = ("class", "topology")  # where options of the class stand, in remarks on the runtime


def view(runtime: CacheRuntime, runtime_class: CacheRuntimeClass | None, findings: Findings) -> RuntimeView:
    spec = runtime.spec
    if runtime_class is None or runtime_class.metadata.name != spec.runtime_class_name:
        findings.refuse(
            f"there is no CacheRuntimeClass {spec.runtime_class_name[:253]}: create it, or correct runtimeClassName",
            reason=ERROR_RUNTIME,
            on_runtime=True,
            heals=True,
        )
    topology = runtime_class.topology if runtime_class else None
    parts = (("master", spec.master), ("worker", spec.worker), ("client", spec.client))
    of_class = [(name, getattr(topology, name)) for name, _ in parts] if topology else []
    layers: list[Layer] = [layer(part.options, *_CLASS, name, "options", on_runtime=True) for name, part in of_class]
    layers.append(layer(spec.options, "options", on_runtime=True))
    layers += [layer(part.options, name, "options", on_runtime=True) for name, part in parts]
    return RuntimeView(
        kind=runtime.kind,
        replicas=0 if spec.worker.disabled else spec.worker.replicas,
        tiers=_tiers(spec.worker.tiered_store, findings) if spec.worker.tiered_store.levels else None,
        layers=tuple(each for each in layers if each),
        tables=(OWN, OWN_WORDS),
        defaults=(pod_options(spec),),
        worker_pods=merged(_of_template(topology.worker if topology else None), pod_options(spec.worker)),
        fuse_pods=merged(_of_template(topology.client if topology else None), pod_options(spec.client)),
        clean_policy=spec.client.clean_policy,
        has_mount=not spec.client.disabled,
        needs_mounts=False,
    )


def _of_template(part: TopologyPart | None) -> PodOptions:
    if part is None:
        return PodOptions()
    template = part.template
    container = template.spec.containers[0] if template.spec.containers else None
    return PodOptions(
        labels=template.metadata.labels,
        annotations=template.metadata.annotations,
        env=tuple(container.env) if container else (),
        resources=container.resources if container else {},
        node_selector=template.spec.node_selector,
        tolerations=tuple(template.spec.tolerations),
    )


def _tiers(store: CacheTieredStore, findings: Findings) -> tuple[ResolvedTier, ...]:
    """Return the tiers in the order they are written in."""
    tiers: list[ResolvedTier] = []
    used: dict[str, int] = {}
    for index, level in enumerate(store.levels):
        where = f"spec.worker.tieredStore.levels[{index}]"
        ratios = read_ratios(level.high, level.low, where, findings)
        medium, is_empty_dir, slots = _slots_of(level)
        for slot in slots:
            is_right = check_quota(slot.quota_bytes, where, findings)
            if not is_empty_dir:
                is_right = check_path(slot.path, where, findings) and is_right
                if slot.path in used:
                    findings.refuse(f"{where}: path is used by levels[{used[slot.path]}] already", on_runtime=True)
                used[slot.path] = index
            if ratios and is_right:
                tiers.append(make_tier(medium, slot, ratios, is_empty_dir=is_empty_dir, at=index))
    return tuple(tiers)


def _slots_of(level: CacheLevel) -> tuple[Medium, bool, list[Slot]]:
    if level.process_memory is not None:
        return Medium.MEM, True, [Slot("", level.process_memory.quota_bytes)]
    if level.empty_dir is not None:
        medium = Medium.MEM if level.empty_dir.medium == "Memory" else Medium.SSD
        return medium, True, [Slot("", level.empty_dir.quota_bytes)]
    if level.host_path is None:
        return Medium.SSD, False, []
    pairs = zip(level.host_path.paths, level.host_path.quotas_bytes, strict=False)
    return Medium.SSD, False, [Slot(path.rstrip("/") or path, quota) for path, quota in pairs]
