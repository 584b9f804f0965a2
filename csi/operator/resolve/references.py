"""Datasets that refer to another one by a dataset:// mount: they have its files and its cache under a name of their own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from csi.operator.model.dataset import Dataset
from csi.operator.model.object import Object
from csi.operator.resolve.access import READ_ONLY_MANY, access_modes, storage_size
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.mount_point import MountPoint
from csi.operator.resolve.reasons import ERROR_DATASET, ERROR_RUNTIME
from csi.operator.resolved import Problem, Resolved

THIN_RUNTIME = "ThinRuntime"


def resolve_reference(
    dataset: Dataset, runtime: Object | None, points: Mapping[int, MountPoint], findings: Findings
) -> Resolved | None:
    """Return what a Dataset with dataset:// mounts comes to; None, and problems, if it is none that can be."""
    references = [point.reference for point in points.values() if point.reference]
    name = dataset.metadata.name
    if len(references) < len(dataset.spec.mounts):
        findings.refuse(
            f"dataset {name} contains a dataset:// mount and also contains other types of mounts: make two Datasets of it",
            reason=ERROR_DATASET,
        )
    elif len(references) > 1:
        findings.refuse(
            f"dataset {name} has {len(references)} dataset:// mounts, which only expects 1: make a Dataset for each",
            reason=ERROR_DATASET,
        )
    if runtime is not None and runtime.kind != THIN_RUNTIME:
        findings.refuse(
            f"a Dataset with a dataset:// mount can only use thin runtime, not {runtime.kind}: delete the runtime",
            reason=ERROR_RUNTIME,
            on_runtime=True,
        )
    reference = references[0]
    if (reference.namespace, reference.name) == (dataset.metadata.namespace, name):
        findings.refuse(f"dataset {name} refers to itself", reason=ERROR_DATASET)
    modes = access_modes(dataset, findings)
    return Resolved(
        namespace=dataset.metadata.namespace,
        name=name,
        runtime_kind=THIN_RUNTIME,
        reference=reference,
        read_write=READ_ONLY_MANY not in modes and not dataset.spec.mounts[0].read_only,
        access_modes=modes,
        storage_size=storage_size(dataset, findings),
        replicas=0,
    )


def follow(reference: Resolved, target: Resolved) -> Resolved | Problem:
    """Return a reference as its target lets it be: read-only if the target is. A target is no reference itself."""
    if target.reference is not None:
        message = f"dataset {target.namespace}/{target.name} refers to another one itself: refer to that one"
        return Problem(ERROR_DATASET, message, heals=True)
    if target.read_write or not reference.read_write:
        return reference
    return replace(reference, read_write=False)
