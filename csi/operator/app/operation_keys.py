"""Operations (DataLoads and the like) by name, and which of them have to be looked at when something changes. Stateless."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from csi.operator.app.known import DATA_LOADS, DATASETS, OPERATION_KINDS, Key, Known, key_of, own_kind
from csi.operator.objects import Kind

EXECUTING = "Executing"


class OperationKey(NamedTuple):
    kind: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def operation_of(raw: Mapping[str, Any]) -> OperationKey:
    return OperationKey(raw["kind"], raw["metadata"].get("namespace", ""), raw["metadata"]["name"])


def dataset_of(raw: Mapping[str, Any]) -> Key:
    """Return the Dataset of a DataLoad, which is in its own namespace."""
    target = raw.get("spec", {}).get("dataset")
    return raw["metadata"].get("namespace", ""), str(target.get("name", "")) if isinstance(target, Mapping) else ""


def concerned_operations(
    kind: Kind, known: Known, before: Mapping[str, Any] | None, raw: dict[str, Any], what: str | None
) -> Iterator[OperationKey]:
    """Yield the operations that a change of an object is about: itself, those that wait for it, those of a Dataset.

    Figures of one that runs are written by us, every few seconds: they are news to nobody."""
    if kind.kind in OPERATION_KINDS:
        if before is not None and what == "MODIFIED" and _counts(before) == _counts(raw):
            return
        own = OperationKey(kind.kind, *key_of(raw))
        yield own
        for name in OPERATION_KINDS:
            yield from (operation_of(one) for one in known.all(own_kind(name)) if predecessor_of(one) == own)
    elif kind == DATASETS:
        keys = {key_of(raw), *known.referring(key_of(raw))}
        yield from (operation_of(one) for one in known.all(DATA_LOADS) if dataset_of(one) in keys)


def concerned_dataset(kind: Kind, before: Mapping[str, Any] | None, raw: Mapping[str, Any], what: str | None) -> Iterator[Key]:
    """Yield the Dataset that shows which operations run, if that has changed."""
    if kind != DATA_LOADS:
        return
    runs = what != "DELETED" and _is_executing(raw)
    if runs != (before is not None and _is_executing(before)):
        yield dataset_of(raw)


def operation_ref(known: Known, dataset: Key) -> dict[str, Any]:
    """Return what the status of a Dataset says of operations: names of those that run, by kind."""
    running = sorted(
        one["metadata"]["name"] for one in known.all(DATA_LOADS) if dataset_of(one) == dataset and _is_executing(one)
    )
    return {"operationRef": {DATA_LOADS.kind: ",".join(running)} if running else None}


def predecessor_of(raw: Mapping[str, Any]) -> OperationKey | None:
    """Return the operation that has to be complete before."""
    after = raw.get("spec", {}).get("runAfter")
    if not isinstance(after, Mapping):
        return None
    namespace = after.get("namespace") or raw["metadata"].get("namespace", "")
    return OperationKey(str(after.get("kind", "")), str(namespace), str(after.get("name", "")))


def _counts(raw: Mapping[str, Any]) -> tuple[Any, ...]:
    """What of an operation changes what is to be done next."""
    metadata, status = raw["metadata"], raw.get("status", {})
    of_metadata = [metadata.get(name) for name in ("uid", "generation", "annotations", "finalizers", "deletionTimestamp")]
    return *of_metadata, raw.get("spec"), status.get("phase"), status.get("lastScheduleTime")


def _is_executing(raw: Mapping[str, Any]) -> bool:
    return raw.get("status", {}).get("phase") == EXECUTING and not raw["metadata"].get("deletionTimestamp")
