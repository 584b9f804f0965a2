"""The end of a Dataset, or of its runtime: it waits for those who use it, then everything goes, and the finalizer last.

Keeps nothing in between.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from csi.operator.app.erasing import ERROR_DELETE, Erasing
from csi.operator.app.events import Events
from csi.operator.app.known import (
    CONFIG_MAPS,
    DAEMON_SETS,
    DATASETS,
    NODES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
    VOLUMES,
    Key,
    Known,
    key_of,
)
from csi.operator.app.references import refuse_reference
from csi.operator.app.volumes import Volumes
from csi.operator.app.written import targets
from csi.operator.model.kinds import KINDS
from csi.operator.names import CLAIM_ANNOTATION, finalizer
from csi.operator.objects import Kind, Objects
from csi.operator.placement import EXCLUSIVE_LABEL
from csi.operator.render.object_names import (
    WORKER,
    consumers_name,
    credentials_name,
    node_label,
    pods_name,
    service_name,
    token_name,
    volume_name,
)

AGAIN_SECONDS = 10.0
LOOK_SECONDS = 1.0
FORMER_FINALIZER = KINDS["Dataset"].former_finalizer  # of a controller that is not there any more
_ENDED = ("Succeeded", "Failed")
# What is made for a Dataset, the pods first; with the Dataset itself it goes by its owner references.
_MADE: Mapping[Kind, Sequence[Callable[[str], str]]] = {
    DAEMON_SETS: (pods_name, consumers_name),
    SERVICES: (service_name,),
    SECRETS: (credentials_name, token_name),
    CONFIG_MAPS: (pods_name,),
    SERVICE_ACCOUNTS: (pods_name,),
}


class Deletion:
    def __init__(self, objects: Objects, known: Known, events: Events, erasing: Erasing, volumes: Volumes) -> None:
        self._volumes = volumes
        self._objects = objects
        self._known = known
        self._events = events
        self._erasing = erasing

    async def go_on(self, raw: dict[str, Any]) -> float | None:
        """Take a Dataset's deletion a step further. Return after how many seconds to look again. Raises: ApiError, OSError."""
        key = key_of(raw)
        if not {finalizer("Dataset"), FORMER_FINALIZER} & set(raw["metadata"].get("finalizers", ())):
            return None
        claim = raw["metadata"].get("annotations", {}).get(CLAIM_ANNOTATION)
        users = await self._users(raw)
        if users:
            await self._events.say(raw, ERROR_DELETE, f"the Dataset is still used by {_shown(users)}: delete them first")
            return AGAIN_SECONDS
        if claim is None and await self._volumes.remove(key, raw["metadata"]["uid"]):
            return LOOK_SECONDS  # until it is gone
        if not await self._erasing.is_over(raw):
            return LOOK_SECONDS
        await self.forget(key)
        await self._remove_finalizer(raw)
        return None

    async def retire(self, raw: dict[str, Any]) -> float | None:
        """Take away what was made for a Dataset whose runtime is gone, once nobody uses it. Return after how many seconds to look
        again, None when it is done. Raises: ApiError, OSError."""
        key = key_of(raw)
        claim = raw["metadata"].get("annotations", {}).get(CLAIM_ANNOTATION)
        users = await self._users(raw)
        if users:
            message = f"its runtime is gone, but the Dataset is still used by {_shown(users)}: its cache stays until they end"
            await self._events.say(raw, ERROR_DELETE, message)
            return AGAIN_SECONDS
        if claim is None and await self._volumes.remove(key, raw["metadata"]["uid"]):
            return LOOK_SECONDS
        if not await self._erasing.is_over(raw):
            return LOOK_SECONDS
        await self.forget(key)
        for kind, names in _MADE.items():
            for name in names:
                await self._objects.delete(kind, name(key[1]), key[0])
        return None

    async def forget(self, key: Key) -> None:
        """Take the Dataset's labels from nodes: its pods and everything else that it owns go with it."""
        label = node_label(*key)
        for node in self._known.all(NODES):
            labels = node["metadata"].get("labels", {})
            if label in labels:
                gone = {label: None}
                if labels[label] == WORKER and EXCLUSIVE_LABEL in labels:  # no other Dataset caches there: it is this one's
                    gone[EXCLUSIVE_LABEL] = None
                await self._objects.merge(NODES, node["metadata"]["name"], {"metadata": {"labels": gone}})

    async def _users(self, raw: dict[str, Any]) -> list[str]:
        """Return in words who uses a Dataset: Datasets that refer to it, and pods."""
        key = key_of(raw)
        users = []
        for name in dict.fromkeys(self._known.referring(key)):
            other = self._known.get(DATASETS, name[1], name[0])
            if other is None or name == key or not self._is_reference(other, raw):
                continue
            if name in targets(raw) and other["metadata"].get("deletionTimestamp"):  # each would wait for the other
                users.extend(await self._pods(other))
            else:
                users.append(f"Dataset {name[0]}/{name[1]}")
        return [*users, *await self._pods(raw)]

    def _is_reference(self, other: dict[str, Any], raw: dict[str, Any]) -> bool:
        """Whether another Dataset that says it refers to this one may, or could: it has its volume as long as pods use that."""
        return (
            refuse_reference(raw, key_of(other)[0]) is None or self._known.get(VOLUMES, volume_name(*key_of(other))) is not None
        )

    async def _pods(self, raw: dict[str, Any]) -> list[str]:
        """Return the pods that use a Dataset's claim: not those of a claim that only has its name."""
        namespace, name = key_of(raw)
        claim = raw["metadata"].get("annotations", {}).get(CLAIM_ANNOTATION)
        if claim is None and await self._volumes.is_name_taken(key_of(raw), raw["metadata"]["uid"]):
            return []
        pods = [pod async for pod in self._objects.list(PODS, namespace) if _uses(pod, claim or name)]
        return [f"Pod {pod['metadata']['name']}" for pod in pods]

    async def _remove_finalizer(self, raw: dict[str, Any]) -> None:
        metadata = raw["metadata"]
        left = [one for one in metadata.get("finalizers", ()) if one not in (finalizer("Dataset"), FORMER_FINALIZER)]
        patch = {"metadata": {"finalizers": left, "resourceVersion": metadata["resourceVersion"]}}
        await self._objects.merge(DATASETS, metadata["name"], patch, metadata["namespace"])


def _shown(users: Sequence[str]) -> str:
    return ", ".join(users[:3]) + (f" and {len(users) - 3} more" if len(users) > 3 else "")


def _uses(pod: dict[str, Any], claim: str) -> bool:
    if pod.get("status", {}).get("phase") in _ENDED:
        return False
    volumes = pod["spec"].get("volumes", ())
    return any(volume.get("persistentVolumeClaim", {}).get("claimName") == claim for volume in volumes)
