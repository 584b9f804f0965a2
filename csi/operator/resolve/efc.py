"""EFCRuntime: properties of a cache for NFS. Those that are about NFS itself are options of the store."""

from __future__ import annotations

from csi.operator.model.efc_runtime import EFCRuntime
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.option_row import Table, ignored, silent
from csi.operator.resolve.runtime_view import RuntimeView, view_of

PROPERTIES = Table(
    "properties of EFCRuntime, beside options of NFS",
    (
        ignored(
            "g_tier_*", "client_owner", "assign_uuid", "cache_media", "cache_capacity_gb", "tmpfs", note="tieredstore says it"
        ),
        silent("efc.nas.accessKeyId", "efc.nas.accessKeySecret", note="quotas are not asked for"),
    ),
)


def view(runtime: EFCRuntime, findings: Findings) -> RuntimeView:
    spec = runtime.spec
    return view_of(runtime, spec, spec.worker, spec.fuse, findings, table=PROPERTIES, master=spec.master)
