"""GooseFSRuntime: Alluxio's properties under another prefix."""

from __future__ import annotations

from csi.operator.model.goosefs_runtime import GooseFSRuntime
from csi.operator.resolve.alluxio import PROPERTIES
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.runtime_view import RuntimeView, view_of

_PREFIX = "goosefs."


def alluxio_key(key: str) -> str:
    """Return how Alluxio calls a property of GooseFS."""
    return "alluxio." + key.removeprefix(_PREFIX) if key.startswith(_PREFIX) else key


def view(runtime: GooseFSRuntime, findings: Findings) -> RuntimeView:
    spec = runtime.spec
    return view_of(runtime, spec, spec.worker, spec.fuse, findings, table=PROPERTIES, master=spec.master, spelt=alluxio_key)
