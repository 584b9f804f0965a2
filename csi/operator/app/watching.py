"""What happens in the cluster: kopf watches kinds, `Known` keeps what it tells, and Datasets that it is about are looked at.

Stateless beside the registry. Handlers of raw events only: kopf puts neither finalizers nor progress on anybody's objects.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import kopf

from csi.operator.app.attachments import dataset_of_attachment, dataset_of_volume
from csi.operator.app.known import ATTACHMENTS, DATASETS, NODES, OPERATION_KINDS, VOLUMES, WATCHED, Key, Known, key_of
from csi.operator.app.operation_keys import OperationKey, concerned_dataset, concerned_operations
from csi.operator.app.written import targets
from csi.operator.objects import Kind, Objects
from csi.operator.placement import Node

log = logging.getLogger(__name__)


LookAt = Callable[[Key], None]
LookAtOperation = Callable[[OperationKey], None]


@dataclass(frozen=True, slots=True)
class Watcher:
    """Where everything arrives that is seen of the cluster.

    `look_at`: has a Dataset looked at soon, the other one an operation."""

    known: Known
    look_at: LookAt
    look_at_operation: LookAtOperation

    def note(self, kind: Kind, what: str | None, raw: dict[str, Any]) -> None:
        """`what`: as `Known.note` wants it."""
        if kind == VOLUMES and dataset_of_volume(raw) is None:
            return  # a cluster has many, and they are nobody's business here
        before = self.known.get(kind, raw["metadata"]["name"], raw["metadata"].get("namespace", ""))
        self.known.note(kind, what, raw)
        for key in _concerned(kind, self.known, before, raw):
            self.look_at(key)
        for key in concerned_dataset(kind, before, raw, what):
            self.look_at(key)
        for operation in concerned_operations(kind, self.known, before, raw, what):
            self.look_at_operation(operation)


def make_registry(watcher: Watcher) -> kopf.OperatorRegistry:
    """Return handlers of all kinds that are watched."""
    registry = kopf.OperatorRegistry()
    kopf.on.login(registry=registry)(_login)
    for kind in WATCHED:
        handler = _handler(kind, watcher)
        kopf.on.event(kind.group, kind.version, kind.plural, registry=registry, id=f"see-{kind.plural}")(handler)
    return registry


async def prime(objects: Objects, known: Known) -> list[Key]:
    """Note everything that there is, before anybody decides on it: watches bring it one by one. Return the Datasets that volumes
    are of: there may be some that are gone. Raises: ApiError, OSError."""
    for kind in WATCHED:
        async for raw in objects.list(kind):
            if kind != VOLUMES or dataset_of_volume(raw) is not None:
                known.note(kind, None, raw)
    claims = [raw["spec"].get("claimRef") for raw in known.all(VOLUMES)]
    return [(claim["namespace"], claim["name"]) for claim in claims if claim]


def make_settings() -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # events are ours (events.py)
    settings.scanning.disabled = True  # kinds do not come and go
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    return settings


def _handler(kind: Kind, watcher: Watcher) -> Callable[..., Any]:
    async def see(event: dict[str, Any], **_: Any) -> None:
        watcher.note(kind, event["type"], _plain(event["object"]))

    return see


def _concerned(kind: Kind, known: Known, before: dict[str, Any] | None, raw: dict[str, Any]) -> Iterator[Key]:
    """Yield the Datasets that an object is about."""
    if kind == NODES:
        if before is None or Node.of_json(before) != Node.of_json(raw):
            yield from map(key_of, known.all(DATASETS))
        return
    if kind in (VOLUMES, ATTACHMENTS):
        is_there = known.get(kind, raw["metadata"]["name"]) is not None
        dataset = dataset_of_volume(raw) if kind == VOLUMES else dataset_of_attachment(raw, known)
        is_new = is_there != (before is not None)
        if dataset is not None and (is_new or _phase(before) != _phase(raw)):
            yield dataset
            if kind == VOLUMES and (
                claim := raw["spec"].get("claimRef")
            ):  # of a reference: the volume's attributes name its target
                yield claim["namespace"], claim["name"]
        return
    if kind == DATASETS:
        yield key_of(raw)
        yield from known.referring(key_of(raw))
        yield from targets(raw)
    elif kind.kind.endswith("Runtime"):
        yield key_of(raw)
    elif kind.kind not in OPERATION_KINDS:  # a profile or a class: few, and seldom changed
        yield from map(key_of, known.all(DATASETS))


def _phase(raw: dict[str, Any] | None) -> str:
    return str((raw or {}).get("status", {}).get("phase", ""))


def _login(**arguments: Any) -> kopf.ConnectionInfo | None:
    return kopf.login_with_service_account(**arguments) or kopf.login_with_kubeconfig(**arguments)


def _plain(raw: Any) -> Any:
    """kopf hands out views of its own."""
    if isinstance(raw, dict) or hasattr(raw, "items"):
        return {key: _plain(value) for key, value in raw.items()}
    if isinstance(raw, (list, tuple)):
        return [_plain(value) for value in raw]
    return raw
