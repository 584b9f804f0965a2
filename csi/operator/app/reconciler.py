"""Brings the cluster to what one Dataset needs: looks at all of it each time, and keeps nothing in between.

Order: what is written is resolved, what it needs is applied, nodes are chosen and labelled, daemons are asked, statuses are
written. A step that fails ends the look; the queue tries again. Where nothing has changed since the last look, daemons are asked
and nobody else.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from lightkube import ApiError

from csi.operator.app.applied import Applied
from csi.operator.app.attachments import Attachments
from csi.operator.app.daemons import Daemons
from csi.operator.app.deletion import FORMER_FINALIZER, Deletion
from csi.operator.app.erasing import Erasing
from csi.operator.app.events import Events
from csi.operator.app.known import DATASETS, PODS, Key, Known, key_of, own_kind
from csi.operator.app.observation import Observer, cache_pods, wanted_digests
from csi.operator.app.operation_keys import operation_ref
from csi.operator.app.processor_shares import ProcessorShares
from csi.operator.app.references import NOT_ALLOWED, mirrored_status, seen_of_target, thin_runtime
from csi.operator.app.secret_values import SecretValues
from csi.operator.app.statuses import (
    BOUND,
    USABLE,
    cache_runtime_status,
    dataset_status,
    differs,
    failed_status,
    refused_status,
    runtime_status,
    status_patch,
)
from csi.operator.app.surveys import Surveys
from csi.operator.app.times import age_seconds, now
from csi.operator.app.volumes import VOLUME_KEPT, Fitted, Volumes
from csi.operator.app.written import Reader, Written, targets
from csi.operator.model.kinds import KINDS
from csi.operator.names import finalizer
from csi.operator.objects import Objects
from csi.operator.render.credentials import OWN_KEY, TOKEN_KEY, Tokens, collect, token_secret
from csi.operator.render.everything import render
from csi.operator.render.object_names import credentials_name, token_name
from csi.operator.render.surroundings import Identity, Installation
from csi.operator.resolve.allowed_roots import AllowedRoots
from csi.operator.resolved import Problem, Resolved, SecretKey

AGAIN_SECONDS = 15.0  # until daemons are asked again: a status is written no more often
IDLE_SECONDS = 60.0  # where there is neither a daemon to ask nor a Secret to read: what else changes wakes us
SOON_SECONDS = 1.0  # of a Dataset that is new
PATIENCE_SECONDS = 5.0  # what a new object lacks may be in the same file, a few lines below: no event before
TOKEN_BYTES = 32
REFUSALS = (400, 403, 422)  # by the API server or an admission controller: somebody has to mend something
APPLY_REFUSED = "ApplyRefused"
CREDENTIALS_VERSION = "fusecache.io/credentials-version"  # of cache pods: kubelet looks at Secrets when it changes


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
        self._objects = objects
        self._known = known
        self._events = events
        self._installation = installation
        self._reader = Reader(objects, known, events, shares_nodes=shares_nodes, roots=roots)
        self._applied = Applied(objects)
        self._secrets = SecretValues(objects)
        self._volumes = Volumes(objects, known)
        self._deletion = Deletion(objects, known, events, Erasing(known, events, daemons, self._secrets), self._volumes)
        self._observer = Observer(known, daemons, Attachments(objects, known), installation)
        self._shares = ProcessorShares(objects, known, installation)
        self._surveys = Surveys(objects, known, installation)

    async def look(self, key: Key) -> float | None:
        """Return after how many seconds to look again. Raises: ApiError, OSError."""
        for runtime in self._known.runtimes(key):
            await self._free_runtime(runtime)
        raw = self._known.get(DATASETS, key[1], key[0])
        if raw is None:
            raw = await self._objects.get(DATASETS, key[1], key[0])
        if raw is None:
            self._applied.forget(key)
            await self._deletion.forget(key)
            await self._volumes.remove_orphan(key)
            return None
        if raw["metadata"].get("deletionTimestamp"):
            self._applied.forget(key)
            return await self._deletion.go_on(raw)
        written = await self._reader.read(raw)
        if written is None:
            return None
        resolved = self._reader.resolve(written)
        if isinstance(resolved, list):
            return await self._refuse(written, resolved)
        return await self._make(written, resolved)

    async def _refuse(self, written: Written, problems: Sequence[Problem]) -> float | None:
        """Say why nothing can be made of it. What was made before goes on, unless its runtime is gone."""
        raw = written.raw_dataset
        for problem in problems:
            about = written.raw_runtime if problem.on_runtime and written.raw_runtime else raw
            if not problem.heals or age_seconds(about) > PATIENCE_SECONDS:
                await self._events.say(about, problem.reason, problem.message)
        if any(problem.reason == NOT_ALLOWED for problem in problems):  # who uses it goes on, and nobody new comes
            await self._volumes.remove(key_of(raw), written.dataset.metadata.uid)
            self._applied.forget(key_of(raw))
        was_made = raw.get("status", {}).get("phase") in USABLE
        is_orphaned = written.raw_runtime is None and not targets(raw)
        if was_made and not is_orphaned:
            await self._write_status(raw, failed_status(written.dataset, problems[0], now()))
        else:
            if is_orphaned and raw.get("status", {}).get("runtimes"):
                self._applied.forget(key_of(raw))
                again = await self._deletion.retire(raw)
                if again is not None:
                    return again
            await self._write_status(raw, refused_status(written.dataset, problems, now()))
        is_healing = any(problem.heals for problem in problems)
        return _soon(raw, written.raw_runtime) if is_healing else None

    # -- what it needs

    async def _make(self, written: Written, resolved: Resolved) -> float | None:
        raw, identity = written.raw_dataset, Identity(written.dataset.metadata.uid)
        for remark in resolved.remarks:
            about = written.raw_runtime if remark.on_runtime and written.raw_runtime else raw
            await self._events.say(about, remark.reason, remark.message, is_warning=remark.is_warning)
        await self._add_finalizer(raw)
        if resolved.reference is not None:
            return await self._make_reference(written, resolved, identity)
        credentials = await self._credentials(written, resolved)
        if isinstance(credentials, list):
            return await self._refuse(written, credentials)
        tokens = await self._tokens(resolved)
        raws = [token_secret(resolved, tokens, identity), *render(resolved, credentials, self._installation, identity)]
        versions = await self._apply(written, resolved, raws)
        if isinstance(versions, Problem):
            return await self._refuse(written, [versions])
        await self._touch_pods(key_of(raw), versions.get(credentials_name(resolved.name), ""))
        await self._shares.give(resolved)
        if written.raw_runtime is not None:
            await self._own_runtime(written.raw_runtime, identity)
        seen = await self._observer.observe(resolved, tokens.shared, wanted_digests(raws))
        if resolved.replicas == 0 and not cache_pods(self._known, key_of(raw)):
            seen = await self._surveys.look(raw, resolved, credentials, seen, identity)
        status = dataset_status(written.dataset, resolved, seen, now())
        if seen.problems and age_seconds(raw) > PATIENCE_SECONDS:
            await self._events.say(raw, seen.problems[0].reason, seen.problems[0].message)
        if seen.has_answered and seen.figures.last_error:
            await self._events.say(raw, "StoreError", seen.figures.last_error)
        await self._write_status(raw, status | operation_ref(self._known, key_of(raw)))
        if written.raw_runtime is not None:
            of_kind = cache_runtime_status if written.raw_runtime["kind"] == "CacheRuntime" else runtime_status
            before = written.raw_runtime.get("status", {})
            await self._write_status(written.raw_runtime, of_kind(resolved, seen, before, now()))
        has_claim = not resolved.has_mount or resolved.has_own_volume or self._volumes.is_bound(key_of(raw))
        is_settled = status["phase"] == BOUND and has_claim and seen.workers_ready >= resolved.replicas and seen.figures.is_listed
        if not is_settled:
            return _soon(raw, written.raw_runtime)
        return AGAIN_SECONDS if credentials or cache_pods(self._known, key_of(raw)) else IDLE_SECONDS

    async def _apply(
        self, written: Written, resolved: Resolved, raws: Sequence[Mapping[str, Any]]
    ) -> Mapping[str, str] | Problem:
        """Apply what a Dataset needs. Return the versions of Secrets, or why it cannot be: names that others have, or what the
        API server says. Raises: ApiError for what has nothing to do with the objects, OSError."""
        key, uid = key_of(written.raw_dataset), written.dataset.metadata.uid
        has_volume = resolved.has_mount and not resolved.has_own_volume
        if has_volume and self._volumes.is_released(key):
            self._applied.forget(key)
            await self._volumes.reclaim(key)
        fitted = Fitted(raws, "")
        if has_volume and self._applied.needs(key, raws):
            found = await self._volumes.fit(key, uid, raws)
            if isinstance(found, Problem):
                return found
            fitted = found
            if fitted.kept:
                await self._events.say(written.raw_dataset, VOLUME_KEPT, fitted.kept)
        try:
            versions = await self._applied.apply(key, raws, fitted.raws)
            if has_volume:
                await self._volumes.hasten(key)
            return versions
        except ApiError as error:
            if error.status.code not in REFUSALS:
                raise
            return Problem(APPLY_REFUSED, f"the API server refuses what the Dataset needs: {error.status.message}", heals=True)

    async def _make_reference(self, written: Written, resolved: Resolved, identity: Identity) -> float | None:
        """A reference has a volume of its own and a runtime that does nothing; it shows what its target shows."""
        raw = written.raw_dataset
        assert resolved.reference is not None
        assert written.target is not None
        if written.raw_runtime is None:
            await self._objects.apply(thin_runtime(resolved.reference, resolved.namespace, resolved.name, identity.uid))
        applied = await self._apply(written, resolved, render(resolved, {}, self._installation, identity))
        if isinstance(applied, Problem):
            return await self._refuse(written, [applied])
        status = mirrored_status(dataset_status(written.dataset, resolved, seen_of_target(written.target), now()), written.target)
        await self._write_status(raw, status | operation_ref(self._known, key_of(raw)))
        # Looked at again when the target changes.
        return None if self._volumes.is_bound(key_of(raw)) else _soon(raw)

    async def _add_finalizer(self, raw: dict[str, Any]) -> None:
        """Nothing is made for a Dataset that could go without our cleaning up. That of a controller before us is taken off."""
        metadata = raw["metadata"]
        ours, before = finalizer("Dataset"), metadata.get("finalizers", [])
        finalizers = [one for one in before if one not in (ours, FORMER_FINALIZER)] + [ours]
        if set(finalizers) != set(before):
            patch = {"metadata": {"finalizers": finalizers, "resourceVersion": metadata["resourceVersion"]}}
            await self._objects.merge(DATASETS, metadata["name"], patch, metadata["namespace"])

    async def _free_runtime(self, raw: dict[str, Any]) -> None:
        """Take off the finalizer of a controller before us, for which the runtime would wait for ever."""
        metadata, former = raw["metadata"], KINDS[raw["kind"]].former_finalizer
        finalizers = metadata.get("finalizers", [])
        if former and former in finalizers:
            left = [one for one in finalizers if one != former]
            patch = {"metadata": {"finalizers": left, "resourceVersion": metadata["resourceVersion"]}}
            await self._objects.merge(own_kind(raw["kind"]), metadata["name"], patch, metadata["namespace"])

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
        found = {name: await self._secrets.get(resolved.namespace, name) for name in sorted(names)}

        def in_secret(place: SecretKey) -> str | None:
            return (found[place.secret] or {}).get(place.key)

        return collect(resolved, in_secret, written.text_at)

    async def _tokens(self, resolved: Resolved) -> Tokens:
        """Return the tokens of the Dataset's cache pods: those of its Secret, or new ones."""
        key = (resolved.namespace, resolved.name)
        tokens = self._applied.tokens(key)
        if tokens is None:
            there = await self._secrets.get(resolved.namespace, token_name(resolved.name), is_fresh=True) or {}
            new = secrets.token_urlsafe
            tokens = Tokens(there.get(TOKEN_KEY) or new(TOKEN_BYTES), there.get(OWN_KEY) or new(TOKEN_BYTES))
            self._applied.note_tokens(key, tokens)
        return tokens

    async def _touch_pods(self, key: Key, version: str) -> None:
        """Have kubelet bring a changed Secret into the pods in seconds: it looks at a pod's volumes when the pod changes."""
        if not version:
            return
        for pod in cache_pods(self._known, key):
            metadata = pod["metadata"]
            if metadata.get("annotations", {}).get(CREDENTIALS_VERSION) != version:
                patch = {"metadata": {"annotations": {CREDENTIALS_VERSION: version}}}
                await self._objects.merge(PODS, metadata["name"], patch, key[0])

    async def _write_status(self, raw: Mapping[str, Any], status: Mapping[str, Any]) -> None:
        before = raw.get("status", {})
        if differs(before, status):
            metadata, patch = raw["metadata"], {"status": status_patch(before, status)}
            await self._objects.merge(own_kind(raw["kind"]), metadata["name"], patch, metadata["namespace"], is_status=True)


def _soon(*raws: Mapping[str, Any] | None) -> float:
    """The younger the youngest of the objects, the sooner: somebody waits for it."""
    age = min(age_seconds(raw) for raw in raws if raw is not None)
    return min(max(age / 10, SOON_SECONDS), AGAIN_SECONDS)
