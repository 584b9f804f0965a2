"""Brings the cluster to what one Dataset needs: looks at all of it each time, and keeps nothing in between.

Order: what is written is resolved, what it needs is applied, nodes are chosen and labelled, daemons are asked, statuses are
written. A step that fails ends the look; the queue tries again.
"""

from __future__ import annotations

import asyncio
import base64
import datetime
import secrets
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csi.operator.app.attachments import Attachments
from csi.operator.app.daemons import Daemons
from csi.operator.app.deletion import Deletion
from csi.operator.app.events import Events
from csi.operator.app.known import DATASETS, NODES, PODS, SECRETS, Key, Known, key_of, own_kind
from csi.operator.app.operation_keys import operation_ref
from csi.operator.app.statuses import BOUND, Seen, dataset_status, differs, refused_status, runtime_status
from csi.operator.figures import add_up
from csi.operator.model.dataset import Dataset
from csi.operator.model.object import Object
from csi.operator.model.parsing import parse
from csi.operator.names import finalizer
from csi.operator.objects import Objects
from csi.operator.placement import Node, choose_workers
from csi.operator.render.credentials import TOKEN_KEY, collect, token_secret
from csi.operator.render.everything import render
from csi.operator.render.object_names import CONSUMER, ROLE_LABEL, WORKER, node_label, selector, token_name
from csi.operator.render.pod_role import requested_memory
from csi.operator.render.surroundings import Identity, Installation
from csi.operator.resolve.allowed_roots import AllowedRoots
from csi.operator.resolve.clear_text import written_value
from csi.operator.resolve.references import follow
from csi.operator.resolve.resolution import Surroundings, resolve
from csi.operator.resolved import Problem, Resolved, SecretKey
from fusecache.contract.errors import CacheError

AGAIN_SECONDS = 10.0  # until daemons are asked again
SOON_SECONDS = 1.0  # of a Dataset that is new
PATIENCE_SECONDS = 5.0  # what a new object lacks may be in the same file, a few lines below: no event before
TOKEN_BYTES = 32
ERROR_DATASET, ERROR_RUNTIME = "ErrorCreateDataset", "ErrorProcessRuntime"


@dataclass(frozen=True, slots=True)
class Written:
    """What users wrote: the objects as they are, and as they were understood."""

    raw_dataset: dict[str, Any]
    dataset: Dataset
    raw_runtime: dict[str, Any] | None
    runtime: Object | None
    surroundings: Surroundings


class Reconciler:
    def __init__(
        self,
        objects: Objects,
        known: Known,
        events: Events,
        daemons: Daemons,
        installation: Installation,
        *,
        shares_nodes: bool,
        roots: AllowedRoots,
    ) -> None:
        self._roots = roots
        self._objects = objects
        self._known = known
        self._events = events
        self._daemons = daemons
        self._installation = installation
        self._shares_nodes = shares_nodes
        self._deletion = Deletion(objects, known, events)
        self._attachments = Attachments(objects, known)

    async def look(self, key: Key) -> float | None:
        """Return after how many seconds to look again. Raises: ApiError, OSError."""
        raw = await self._objects.get(DATASETS, key[1], key[0])
        if raw is None:
            await self._deletion.forget(key)
            return None
        if raw["metadata"].get("deletionTimestamp"):
            return await self._deletion.go_on(raw)
        written = await self._read(raw)
        if written is None:
            return None
        resolved = resolve(written.dataset, written.runtime, written.surroundings)
        if isinstance(resolved, Resolved) and resolved.reference is not None:
            resolved = self._follow(resolved)
        if isinstance(resolved, list):
            return await self._refuse(written, resolved)
        return await self._make(written, resolved)

    # -- what is written

    async def _read(self, raw: dict[str, Any]) -> Written | None:
        key = key_of(raw)
        try:
            dataset = parse(raw)
        except CacheError as error:
            await self._events.say(raw, ERROR_DATASET, str(error))
            return None
        assert isinstance(dataset, Dataset)
        runtimes = self._known.runtimes(key)
        for other in runtimes[1:]:
            owner = f"{runtimes[0]['kind']} {key[1]}"
            await self._events.say(
                other, ERROR_RUNTIME, f"the Dataset is already bound to another runtime, {owner}: delete one of them"
            )
        raw_runtime = runtimes[0] if runtimes else None
        runtime = None
        if raw_runtime is not None:
            try:
                runtime = parse(raw_runtime)
            except CacheError as error:
                await self._events.say(raw_runtime, ERROR_RUNTIME, str(error))
                return None
        return Written(raw, dataset, raw_runtime, runtime, self._surroundings(raw, raw_runtime))

    def _surroundings(self, raw_dataset: dict[str, Any], raw_runtime: dict[str, Any] | None) -> Surroundings:
        spec = (raw_runtime or {}).get("spec", {})
        profile = self._known.get(own_kind("ThinRuntimeProfile"), spec.get("profileName", ""))
        of_class = self._known.get(own_kind("CacheRuntimeClass"), spec.get("runtimeClassName", ""))
        return Surroundings(
            profile=_parsed(profile),  # type: ignore[arg-type]
            runtime_class=_parsed(of_class),  # type: ignore[arg-type]
            raw_dataset=raw_dataset,
            raw_runtime=raw_runtime,
            shares_nodes=self._shares_nodes,
            roots=self._roots,
        )

    def _follow(self, reference: Resolved) -> Resolved | list[Problem]:
        """Return a reference as its target lets it be; the target has to be bound."""
        assert reference.reference is not None
        target = reference.reference
        raw = self._known.get(DATASETS, target.name, target.namespace)
        where = f"{target.namespace}/{target.name}"
        if raw is None:
            return [Problem(ERROR_DATASET, f"there is no dataset {where}: create it, or name another one", heals=True)]
        if raw.get("status", {}).get("phase") != "Bound":
            return [Problem(ERROR_DATASET, f"dataset {where} is not bound yet: this one waits for it", heals=True)]
        parsed, runtimes = _parsed(raw), self._known.runtimes((target.namespace, target.name))
        runtime = _parsed(runtimes[0]) if runtimes else None
        if not isinstance(parsed, Dataset):
            return [Problem(ERROR_DATASET, f"dataset {where} cannot be understood", heals=True)]
        resolved = resolve(parsed, runtime, self._surroundings(raw, runtimes[0] if runtimes else None))
        if isinstance(resolved, list):
            return [Problem(ERROR_DATASET, f"dataset {where} has problems of its own: {resolved[0].message}", heals=True)]
        followed = follow(reference, resolved)
        return [followed] if isinstance(followed, Problem) else followed

    async def _refuse(self, written: Written, problems: Sequence[Problem]) -> float | None:
        for problem in problems:
            about = written.raw_runtime if problem.on_runtime and written.raw_runtime else written.raw_dataset
            if not problem.heals or _age_seconds(about) > PATIENCE_SECONDS:
                await self._events.say(about, problem.reason, problem.message)
        await self._write_status(written.raw_dataset, refused_status(written.dataset, problems, _now()))
        is_healing = any(problem.heals for problem in problems)
        return _soon(written.raw_dataset, written.raw_runtime) if is_healing else None

    # -- what it needs

    async def _make(self, written: Written, resolved: Resolved) -> float | None:
        for remark in resolved.remarks:
            about = written.raw_runtime if remark.on_runtime and written.raw_runtime else written.raw_dataset
            await self._events.say(about, remark.reason, remark.message, is_warning=remark.is_warning)
        await self._add_finalizer(written.raw_dataset)
        identity = Identity(written.dataset.metadata.uid)
        credentials = await self._credentials(written, resolved)
        if isinstance(credentials, list):
            return await self._refuse(written, credentials)
        token = await self._token(resolved, identity)
        for raw in render(resolved, credentials, self._installation, identity):
            await self._objects.apply(raw)
        if written.raw_runtime is not None:
            await self._own_runtime(written.raw_runtime, identity)
        seen = await self._look_around(resolved, token)
        status = dataset_status(written.dataset, resolved, seen, _now())
        operations = operation_ref(self._known, key_of(written.raw_dataset))
        await self._write_status(written.raw_dataset, status | operations)
        if written.raw_runtime is not None and written.raw_runtime["kind"] != "CacheRuntime":
            before = written.raw_runtime.get("status", {})
            await self._write_status(written.raw_runtime, runtime_status(resolved, seen, before, _now()))
        is_settled = status["phase"] == BOUND and seen.workers_ready >= resolved.replicas
        return AGAIN_SECONDS if is_settled else _soon(written.raw_dataset, written.raw_runtime)

    async def _add_finalizer(self, raw: dict[str, Any]) -> None:
        """Nothing is made for a Dataset that could go without our cleaning up."""
        metadata = raw["metadata"]
        ours = finalizer("Dataset")
        if ours not in metadata.get("finalizers", ()):
            patch = {
                "metadata": {
                    "finalizers": [*metadata.get("finalizers", ()), ours],
                    "resourceVersion": metadata["resourceVersion"],
                }
            }
            await self._objects.merge(DATASETS, metadata["name"], patch, metadata["namespace"])

    async def _own_runtime(self, raw: dict[str, Any], identity: Identity) -> None:
        """The runtime goes with its Dataset."""
        metadata = raw["metadata"]
        owners = metadata.get("ownerReferences", [])
        if any(owner["uid"] == identity.uid for owner in owners):
            return
        owner = {"apiVersion": raw["apiVersion"], "kind": "Dataset", "name": metadata["name"], "uid": identity.uid}
        patch = {"metadata": {"ownerReferences": [*owners, owner], "resourceVersion": metadata["resourceVersion"]}}
        await self._objects.merge(own_kind(raw["kind"]), metadata["name"], patch, metadata["namespace"])

    async def _credentials(self, written: Written, resolved: Resolved) -> dict[str, str] | list[Problem]:
        names = {place.secret for source in resolved.sources for place in source.secrets.values() if isinstance(place, SecretKey)}
        found = {name: await self._objects.get(SECRETS, name, resolved.namespace) for name in sorted(names)}

        def in_secret(place: SecretKey) -> str | None:
            return _secret_value(found[place.secret], place.key)

        raw_runtime = written.raw_runtime or {}
        return collect(resolved, in_secret, lambda place: written_value(place, written.raw_dataset, raw_runtime))

    async def _token(self, resolved: Resolved, identity: Identity) -> str:
        """Return the token of the Dataset's cache pods: made once."""
        if resolved.reference is not None:
            return ""
        there = await self._objects.get(SECRETS, token_name(resolved.name), resolved.namespace)
        token = _secret_value(there, TOKEN_KEY)
        if token is None:
            token = secrets.token_urlsafe(TOKEN_BYTES)
            await self._objects.apply(token_secret(resolved, token, identity))
        return token

    # -- what there is

    async def _look_around(self, resolved: Resolved, token: str) -> Seen:
        references = [f"{namespace}/{name}" for namespace, name in self._known.referring((resolved.namespace, resolved.name))]
        if resolved.reference is not None:
            return Seen(references=references)
        label = node_label(resolved.namespace, resolved.name)
        nodes = [Node.of_json(raw) for raw in self._known.all(NODES)]
        placement = choose_workers(resolved, nodes, requested_memory(resolved, self._installation))
        await self._attachments.label_nodes(resolved, nodes, placement.workers)
        pods = [pod async for pod in self._objects.list(PODS, resolved.namespace, selector(resolved.name))]
        ready = [pod for pod in pods if _is_ready(pod)]
        caching = [pod for pod in ready if pod["metadata"].get("labels", {}).get(ROLE_LABEL) == WORKER]
        addresses = {WORKER: _addresses(caching), CONSUMER: _addresses(pod for pod in ready if pod not in caching)}
        workers, others = await asyncio.gather(*(self._daemons.statuses(some, token) for some in addresses.values()))
        figures = add_up(workers.statuses, others.statuses)
        mounting = {node.name for node in nodes if node.labels.get(label) == CONSUMER}
        return Seen(
            figures=figures,
            workers_chosen=len(placement.workers),
            workers_ready=len(_nodes(caching) & set(placement.workers)),
            mounts_wanted=len(mounting),
            mounts_ready=len(_nodes(ready) & mounting),
            worker_reason=placement.reason,
            references=references,
        )

    async def _write_status(self, raw: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        if differs(raw.get("status", {}), status):
            metadata = raw["metadata"]
            await self._objects.merge(
                own_kind(raw["kind"]), metadata["name"], {"status": dict(status)}, metadata["namespace"], is_status=True
            )


def _parsed(raw: dict[str, Any] | None) -> Object | None:
    try:
        return None if raw is None else parse(raw)
    except CacheError:
        return None  # it has an event of its own


def _secret_value(raw: Mapping[str, Any] | None, key: str) -> str | None:
    value = ((raw or {}).get("data") or {}).get(key)
    return None if value is None else base64.b64decode(value).decode(errors="replace")


def _nodes(pods: Iterable[Mapping[str, Any]]) -> set[str]:
    return {pod["spec"].get("nodeName", "") for pod in pods}


def _addresses(pods: Iterable[Mapping[str, Any]]) -> list[str]:
    return [pod["status"]["podIP"] for pod in pods if pod["status"].get("podIP")]


def _is_ready(pod: Mapping[str, Any]) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _soon(*raws: Mapping[str, Any] | None) -> float:
    """The younger the youngest of the objects, the sooner: somebody waits for it."""
    age = min(_age_seconds(raw) for raw in raws if raw is not None)
    return min(max(age / 10, SOON_SECONDS), AGAIN_SECONDS)


def _age_seconds(raw: Mapping[str, Any]) -> float:
    made = datetime.datetime.fromisoformat(raw["metadata"]["creationTimestamp"])
    return (datetime.datetime.now(datetime.UTC) - made).total_seconds()


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
