"""The PV and the claim of a Dataset: whether they are its own. Others may have had the names before, and keep what is theirs.

State beside what is known: which volumes were seen to be bound on both sides, and which on theirs only. Losing it costs a call
each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from csi import DRIVER_NAME
from csi.operator.app.kept_volumes import as_it_can_be, in_step, shows
from csi.operator.app.known import CLAIMS, VOLUMES, Key, Known
from csi.operator.app.times import now
from csi.operator.names import OWN_DOMAIN
from csi.operator.objects import Objects
from csi.operator.render.object_names import volume_name
from csi.operator.resolved import Problem

NAME_TAKEN, OTHER_VOLUME, VOLUME_KEPT = "VolumeNameTaken", "VolumeOfAnother", "VolumeKept"
RECREATE = "a volume that is there cannot be changed in this; delete the Dataset and create it again to have it so"
AVAILABLE, BOUND, RELEASED = "Available", "Bound", "Released"
LOOKED_AT = f"{OWN_DOMAIN}/looked-at"


@dataclass(frozen=True, slots=True)
class Fitted:
    """`kept`: what a volume cannot become, in words; "" if it is as the Dataset wants it."""

    raws: Sequence[Mapping[str, Any]]
    kept: str


class Volumes:
    def __init__(self, objects: Objects, known: Known) -> None:
        self._objects = objects
        self._known = known
        self._bound: dict[Key, str] = {}  # uids of volumes whose claims say so, too
        self._half_bound: dict[Key, str] = {}

    async def fit(self, key: Key, uid: str, raws: Sequence[Mapping[str, Any]]) -> Fitted | Problem:
        """Return a Dataset's objects, volume and claim as they can be, or why it cannot have its volume. `uid`: the Dataset's.
        Raises: ApiError, OSError."""
        claim = await self._objects.get(CLAIMS, key[1], key[0])
        if claim is not None and not _is_owned(claim, uid):
            message = f"there is a claim {key[0]}/{key[1]} that is not this Dataset's: delete it, or rename the Dataset"
            return Problem(NAME_TAKEN, message, heals=True)
        volume = await self._objects.get(VOLUMES, volume_name(*key))
        if volume is not None and not _is_of(volume, key):
            named = volume.get("spec", {}).get("claimRef") or {}
            owner = f"claim {named.get('namespace')}/{named.get('name')}" if named else "nobody's claim"
            driver = volume["spec"].get("csi", {}).get("driver", "another kind")
            message = f"there is a PersistentVolume {volume_name(*key)} of {owner} ({driver}): delete it, or rename the Dataset"
            return Problem(NAME_TAKEN, message, heals=True)
        wanted = next(raw for raw in raws if raw["kind"] == VOLUMES.kind)
        if volume is not None and shows(volume) != shows(wanted):
            return Problem(OTHER_VOLUME, f"the volume of this name shows {_named(volume)}: {RECREATE}", heals=True)
        return _fit(raws, volume, claim)

    async def is_name_taken(self, key: Key, uid: str) -> bool:
        """Whether there is a claim of this name that is not the Dataset's. Raises: ApiError, OSError."""
        claim = await self._objects.get(CLAIMS, key[1], key[0])
        return claim is not None and not _is_owned(claim, uid)

    def is_released(self, key: Key) -> bool:
        """Whether somebody has deleted the claim alone."""
        volume = self._known.get(VOLUMES, volume_name(*key))
        return volume is not None and _is_of(volume, key) and volume.get("status", {}).get("phase") == RELEASED

    def is_bound(self, key: Key) -> bool:
        """Whether volume and claim are known to be each other's; `hasten` finds out."""
        volume = self._known.get(VOLUMES, volume_name(*key))
        return (
            volume is not None
            and volume.get("status", {}).get("phase") == BOUND
            and self._bound.get(key) == volume["metadata"]["uid"]
        )

    async def hasten(self, key: Key) -> None:
        """Have a claim looked at that is not bound although its volume is there: the cluster's controller may have seen the claim
        before the volume, or have bound the volume and then failed to write the claim, which somebody had changed meanwhile (we,
        it may be). It looks again after 15 s only, unless something changes. Raises: ApiError, OSError."""
        volume = self._known.get(VOLUMES, volume_name(*key))
        phase = volume.get("status", {}).get("phase") if volume is not None else None
        if volume is None or phase not in (AVAILABLE, BOUND):
            return
        uid = volume["metadata"]["uid"]
        if phase == BOUND:
            if self._bound.get(key) == uid:
                return
            claim = await self._objects.get(CLAIMS, key[1], key[0])
            if claim is None:
                return
            if claim.get("status", {}).get("phase") == BOUND:
                self._bound[key] = uid
                self._half_bound.pop(key, None)
                return
            if self._half_bound.get(key) != uid:  # it may be about to write it
                self._half_bound[key] = uid
                return
        await self._objects.merge(CLAIMS, key[1], {"metadata": {"annotations": {LOOKED_AT: now()}}}, key[0])

    async def reclaim(self, key: Key) -> None:
        """Let the volume be bound to a new claim of the name. Raises: ApiError, OSError."""
        patch = {"spec": {"claimRef": {"uid": None, "resourceVersion": None}}}
        await self._objects.merge(VOLUMES, volume_name(*key), patch)

    async def remove(self, key: Key, uid: str) -> bool:
        """Delete claim and volume, if they are the Dataset's. Return whether something was there. Raises: ApiError, OSError."""
        claim = await self._objects.get(CLAIMS, key[1], key[0])
        if claim is not None and _is_owned(claim, uid):
            return await self._objects.delete(CLAIMS, key[1], key[0])
        volume = await self._objects.get(VOLUMES, volume_name(*key))
        if volume is not None and _is_of(volume, key):
            return await self._objects.delete(VOLUMES, volume_name(*key))
        return False

    async def remove_orphan(self, key: Key) -> None:
        """Delete the volume of a Dataset that is not there: PVs are in no namespace, and go with none. Raises: ApiError,
        OSError."""
        self._bound.pop(key, None)
        self._half_bound.pop(key, None)
        volume = self._known.get(VOLUMES, volume_name(*key))
        if volume is not None and _is_of(volume, key) and "deletionTimestamp" not in volume["metadata"]:
            await self._objects.delete(VOLUMES, volume_name(*key))


def _fit(raws: Sequence[Mapping[str, Any]], volume: Mapping[str, Any] | None, claim: Mapping[str, Any] | None) -> Fitted:
    there = {VOLUMES.kind: volume, CLAIMS.kind: claim}
    fitted, kept = [], []
    for raw in raws:
        if (is_so := there.get(raw["kind"])) is None:
            fitted.append(raw)
            continue
        can_be, what_stays = as_it_can_be(raw, is_so)
        fitted.append(can_be)
        kept.extend(what_stays)
    if claim is not None:
        claim_to_be = next(raw for raw in fitted if raw["kind"] == CLAIMS.kind)
        fitted = [in_step(raw, claim_to_be) if raw["kind"] == VOLUMES.kind else raw for raw in fitted]
    return Fitted(fitted, f"{'; '.join(kept)}: {RECREATE}" if kept else "")


def _named(volume: Mapping[str, Any]) -> str:
    attributes = shows(volume)
    path = attributes.get(f"{OWN_DOMAIN}/path", "")
    return f"Dataset {attributes.get(f'{OWN_DOMAIN}/namespace')}/{attributes.get(f'{OWN_DOMAIN}/dataset')}" + (
        f", directory {path}" if path else ""
    )


def _is_owned(claim: dict[str, Any], uid: str) -> bool:
    return any(owner.get("uid") == uid for owner in claim["metadata"].get("ownerReferences", ()))


def _is_of(volume: dict[str, Any], key: Key) -> bool:
    spec = volume.get("spec", {})
    named = spec.get("claimRef") or {}
    return spec.get("csi", {}).get("driver") == DRIVER_NAME and (named.get("namespace"), named.get("name")) == key
