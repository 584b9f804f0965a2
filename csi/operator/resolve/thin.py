"""ThinRuntime with its ThinRuntimeProfile: what the runtime says wins over what the profile says.

Images of other file systems are not run: a mount point has to be one that we have a driver for.
"""

from __future__ import annotations

from dataclasses import replace

from csi.operator.model.thin_runtime import ThinRuntime
from csi.operator.model.thin_runtime_profile import ThinRuntimeProfile
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.option_layers import Layer, Written, layer
from csi.operator.resolve.pods import merged, pod_options
from csi.operator.resolve.reasons import ERROR_RUNTIME
from csi.operator.resolve.runtime_view import RuntimeView, view_of


def view(runtime: ThinRuntime, profile: ThinRuntimeProfile | None, findings: Findings) -> RuntimeView:
    """A thin runtime caches if it, or its profile, says how many nodes do, or if it says in which tiers."""
    spec = runtime.spec
    found = view_of(runtime, spec, spec.worker, spec.fuse, findings)
    if spec.profile_name and (profile is None or profile.metadata.name != spec.profile_name):
        findings.refuse(
            f"there is no ThinRuntimeProfile {spec.profile_name[:253]}: create it, or correct profileName",
            reason=ERROR_RUNTIME,
            on_runtime=True,
            heals=True,
        )
    is_counted = spec.replicas is not None or spec.worker.replicas is not None
    of_profile = None if profile is None or is_counted else profile.spec.worker.replicas
    if of_profile is not None:
        found = replace(found, replicas=of_profile)
    elif not is_counted and not spec.tiered_store.levels:
        found = replace(found, replicas=0, tiers=())
    return found if profile is None else _with_profile(found, runtime, profile)


def _with_profile(found: RuntimeView, runtime: ThinRuntime, profile: ThinRuntimeProfile) -> RuntimeView:
    """Options of the profile stand where those of the runtime would, so that remarks lead to the runtime that named it."""
    given, fuse = profile.spec, runtime.spec.fuse
    inherited = {key: value for key, value in given.fuse.options.items() if key not in fuse.options}
    options: Layer = tuple(
        Written(written.key, written.value, ("profile", *written.path), True)
        for written in layer(inherited, "fuse", "options", on_runtime=True)
    )
    return replace(
        found,
        layers=(options, *found.layers) if options else found.layers,
        defaults=(pod_options(given), *found.defaults),
        worker_pods=merged(pod_options(given.worker), found.worker_pods),
        fuse_pods=merged(pod_options(given.fuse), found.fuse_pods),
        clean_policy=found.clean_policy if fuse.clean_policy else given.fuse.clean_policy or found.clean_policy,
    )
