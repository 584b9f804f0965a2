"""Volumes of a cluster: made as Datasets with directories of their own, found as PVs, told to nodes by a label.

The handle of a volume is the name of its PV. State: none; every step can be repeated, also after a death in the middle.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from grpc import StatusCode

from csi import DRIVER_NAME
from csi.cluster.answers import answers
from csi.cluster.manifests import Manifests, manifests, secret_name
from csi.errors import RpcError, aborted, exists, not_found, refused
from csi.operator.app.known import DATASETS, NODES, VOLUMES, own_kind
from csi.operator.model.parsing import parse
from csi.operator.names import API_VERSION, CLAIM_ANNOTATION
from csi.operator.objects import Objects
from csi.operator.render.credentials import secret
from csi.operator.render.object_names import CONSUMER, MANAGED_BY, WORKER, node_label
from csi.operator.resolve.access import SIZE_ANNOTATION
from csi.volumes import dataset_reference, fields, provisioned
from csi.volumes.create_request import CreateRequest
from csi.volumes.dataset_reference import DatasetReference
from csi.volumes.inline import OBJECT_NAME
from csi.volumes.provisioning import Provisioning
from fusecache.contract.errors import CacheError

log = logging.getLogger(__name__)

_ATTEMPTS = 8  # to label a node that others write to: the operator, kubelet
_GONE_SECONDS = 40.0  # that the operator may take to remove a Dataset, before the call is asked for again
_LOOK_SECONDS = 0.5


class ClusterVolumes:
    """Raises: RpcError, and CacheError of what the store says."""

    def __init__(self, objects: Objects, provisioning: Provisioning) -> None:
        self._objects = objects
        self._provisioning = provisioning

    # -- looking

    async def get(self, volume_id: str) -> dict[str, Any]:
        """Return the PV of a volume. Raises: NOT_FOUND."""
        found = await self._find(volume_id)
        if found is None:
            raise not_found(f"there is no volume {volume_id!r}")
        return found

    async def _find(self, volume_id: str) -> dict[str, Any] | None:
        """Return the PV of a volume: by its name, or among all of them, if somebody wrote one with another handle."""
        with answers():
            named = await self._objects.get(VOLUMES, volume_id) if _is_name(volume_id) else None
            if named is not None and _is_of(named, volume_id):
                return named
            async for raw in self._objects.list(VOLUMES):
                if _is_of(raw, volume_id):
                    return raw
        return None

    # -- nodes

    async def publish(self, volume_id: str, node: str) -> None:
        """Have a cache pod on a node. The operator takes the label away when nobody needs it. Raises: NOT_FOUND, ABORTED."""
        reference = dataset_reference.parse(attributes(await self.get(volume_id)))
        label = node_label(reference.namespace, reference.name)
        for _ in range(_ATTEMPTS):
            with answers():
                raw = await self._objects.get(NODES, node)
            if raw is None:
                raise not_found(f"there is no node {node!r}")
            metadata = raw["metadata"]
            if metadata.get("labels", {}).get(label) in (WORKER, CONSUMER):
                return
            # With the version: the operator may make a worker of it just now, and that must not be undone.
            patch = {"metadata": {"labels": {label: CONSUMER}, "resourceVersion": metadata["resourceVersion"]}}
            try:
                with answers():
                    await self._objects.merge(NODES, node, patch)
            except RpcError as error:
                if error.code is not StatusCode.ABORTED:
                    raise
        raise aborted(f"node {node} changes too often to be labelled: it is to be asked for again")

    # -- making and removing

    async def create(self, asked: CreateRequest) -> dict[str, str]:
        """Make a volume for a claim, or find it made; return its context. Raises: ALREADY_EXISTS, INVALID_ARGUMENT."""
        wanted = manifests(asked)
        reference = DatasetReference(wanted.namespace, asked.name)
        context = {**reference.to_context(), **wanted.directory.to_context()}
        fields.small_map(context, "the context of the volume")
        await self._check_name(wanted)
        where = wanted.directory
        options = {**where.options, **wanted.secret}
        owner = {"volume": asked.name, "namespace": wanted.namespace, "claim": wanted.claim}
        await self._provisioning.make(where.source, options, where.directory, owner)
        try:
            await self._apply(wanted)
        except RpcError as error:
            if (
                error.code is StatusCode.FAILED_PRECONDITION
            ):  # no later call will make it good: the namespace goes, or a webhook objects
                await self._take_back(wanted, options)
            raise
        return context

    async def _check_name(self, wanted: Manifests) -> None:
        """Raises: ALREADY_EXISTS, ABORTED."""
        metadata = wanted.dataset["metadata"]
        with answers():
            there = await self._objects.get(DATASETS, metadata["name"], wanted.namespace)
        if there is None:
            return
        if there["metadata"].get("deletionTimestamp"):
            raise aborted(f"Dataset {wanted.namespace}/{metadata['name']} is being deleted")
        annotations = there["metadata"].get("annotations", {})
        is_same = all(annotations.get(key) == metadata["annotations"][key] for key in (CLAIM_ANNOTATION, SIZE_ANNOTATION))
        if not is_same or parse(there).spec != parse(wanted.dataset).spec:  # type: ignore[attr-defined]
            raise exists(f"Dataset {wanted.namespace}/{metadata['name']} is there, and is another one than is asked for")

    async def _apply(self, wanted: Manifests) -> None:
        """Secret and runtime go with the Dataset. The runtime comes last: without it the operator waits."""
        with answers():
            dataset = await self._objects.apply(wanted.dataset, DATASETS)
            name, uid = dataset["metadata"]["name"], dataset["metadata"]["uid"]
            owners = [{"apiVersion": API_VERSION, "kind": "Dataset", "name": name, "uid": uid}]
            if wanted.secret:
                metadata = {"name": secret_name(name), "namespace": wanted.namespace, "labels": MANAGED_BY}
                await self._objects.apply(secret({**metadata, "ownerReferences": owners}, wanted.secret))
            runtime = {**wanted.runtime, "metadata": {**wanted.runtime["metadata"], "ownerReferences": owners}}
            await self._objects.apply(runtime, own_kind(runtime["kind"]))

    async def _take_back(self, wanted: Manifests, options: Mapping[str, str]) -> None:
        """Remove what was made, as long as nobody has got to see it."""
        where, name = wanted.directory, wanted.dataset["metadata"]["name"]
        if await self._find(name) is not None:
            return
        try:
            with answers():
                await self._objects.delete(DATASETS, name, wanted.namespace)
            await self._provisioning.remove(where.source, options, where.directory, name)
        except (CacheError, RpcError) as error:
            log.warning("the directory %s/%s, made for volume %s, is left over: %s", where.source, where.directory, name, error)

    async def delete(self, volume_id: str, secrets: Mapping[str, str]) -> None:
        """Remove the Dataset, then the directory. The PV says where that is, and is there until we have succeeded.

        Raises: FAILED_PRECONDITION while the Dataset is in use, and for volumes that were not made for a claim."""
        volume = await self._find(volume_id)
        if volume is None:
            return
        context = attributes(volume)
        where, reference = provisioned.parse(context), dataset_reference.parse(context)
        if where is None:
            raise refused(f"volume {volume_id} is that of Dataset {reference.namespace}/{reference.name}: delete that one")
        await self._remove_dataset(reference)
        await self._provisioning.remove(where.source, {**where.options, **secrets}, where.directory, volume_id)

    async def _remove_dataset(self, reference: DatasetReference) -> None:
        end = time.monotonic() + _GONE_SECONDS
        while True:
            with answers():
                raw = await self._objects.get(DATASETS, reference.name, reference.namespace)
                if raw is None or CLAIM_ANNOTATION not in raw["metadata"].get("annotations", {}):
                    return
                if not raw["metadata"].get("deletionTimestamp"):
                    await self._objects.delete(DATASETS, reference.name, reference.namespace)
                    continue
            if time.monotonic() > end:
                where = f"Dataset {reference.namespace}/{reference.name}"
                raise refused(
                    f"{where} is not gone after {_GONE_SECONDS:g} s: its events say who uses it; is the operator there?"
                )
            await asyncio.sleep(_LOOK_SECONDS)


def attributes(volume: Mapping[str, Any]) -> dict[str, str]:
    """Return the context of a volume."""
    return dict(volume["spec"]["csi"].get("volumeAttributes") or {})


def _is_of(volume: Mapping[str, Any], volume_id: str) -> bool:
    csi = volume["spec"].get("csi") or {}
    return bool(csi.get("driver") == DRIVER_NAME and csi.get("volumeHandle") == volume_id)


def _is_name(text: str) -> bool:
    return OBJECT_NAME.fullmatch(text) is not None
