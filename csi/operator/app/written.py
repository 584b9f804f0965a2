"""What users wrote about a Dataset, read and resolved: the Dataset, its runtime, what that names, and what it refers to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from csi.operator.app.events import Events
from csi.operator.app.known import DATASETS, RUNTIME_KINDS, Key, Known, key_of, own_kind
from csi.operator.app.references import refuse_reference
from csi.operator.app.statuses import USABLE
from csi.operator.model.dataset import Dataset
from csi.operator.model.object import Object
from csi.operator.model.parsing import parse
from csi.operator.objects import Objects
from csi.operator.resolve.allowed_roots import AllowedRoots
from csi.operator.resolve.clear_text import written_value
from csi.operator.resolve.references import follow
from csi.operator.resolve.resolution import Surroundings, resolve
from csi.operator.resolved import ClearText, Problem, Resolved
from fusecache.contract.errors import CacheError

ERROR_DATASET, ERROR_RUNTIME = "ErrorCreateDataset", "ErrorProcessRuntime"


@dataclass(frozen=True, slots=True)
class Written:
    """The objects as they are, and as they were understood. `target`: what a reference refers to, as it is."""

    raw_dataset: dict[str, Any]
    dataset: Dataset
    raw_runtime: dict[str, Any] | None
    runtime: Object | None
    surroundings: Surroundings
    target: dict[str, Any] | None = None

    def text_at(self, place: ClearText) -> str | None:
        """Return the text at a place of these objects, None if it is not there any more."""
        return written_value(place, self.raw_dataset, self.raw_runtime, self.surroundings.raw_profile)


class Reader:
    """State: none of its own."""

    def __init__(self, objects: Objects, known: Known, events: Events, *, shares_nodes: bool, roots: AllowedRoots) -> None:
        self._objects = objects
        self._known = known
        self._events = events
        self._shares_nodes = shares_nodes
        self._roots = roots

    async def read(self, raw: dict[str, Any]) -> Written | None:
        """Return what is there; None if it cannot be understood, which an event says. Raises: ApiError, OSError."""
        key = key_of(raw)
        try:
            dataset = parse(raw)
        except CacheError as error:
            await self._events.say(raw, ERROR_DATASET, str(error))
            return None
        assert isinstance(dataset, Dataset)
        raw_runtime = await self._runtime(key, raw)
        runtime = None
        if raw_runtime is not None:
            try:
                runtime = parse(raw_runtime)
            except CacheError as error:
                await self._events.say(raw_runtime, ERROR_RUNTIME, str(error))
                return None
        target = next((self._known.get(DATASETS, name, namespace) for namespace, name in targets(raw)), None)
        return Written(raw, dataset, raw_runtime, runtime, self._surroundings(raw, raw_runtime), target)

    async def _runtime(self, key: Key, raw: dict[str, Any]) -> dict[str, Any] | None:
        """Return the runtime that has the Dataset, and tell others that they have not."""
        runtimes = [one for one in self._known.runtimes(key) if "deletionTimestamp" not in one["metadata"]]
        if not runtimes and raw.get("status", {}).get("runtimes"):
            # What was made goes with the runtime: our copy, which may be some milliseconds old, is not believed in that.
            asked = [await self._objects.get(own_kind(name), key[1], key[0]) for name in RUNTIME_KINDS]
            runtimes = [one for one in asked if one is not None and "deletionTimestamp" not in one["metadata"]]
        for other in runtimes[1:]:
            owner = f"{runtimes[0]['kind']} {key[1]}"
            message = f"the Dataset is already bound to another runtime, {owner}: delete one of them"
            await self._events.say(other, ERROR_RUNTIME, message)
        return runtimes[0] if runtimes else None

    def resolve(self, written: Written) -> Resolved | list[Problem]:
        resolved = resolve(written.dataset, written.runtime, written.surroundings)
        if isinstance(resolved, list) or resolved.reference is None:
            return resolved
        return self._follow(resolved, written.target)

    def _follow(self, reference: Resolved, raw: dict[str, Any] | None) -> Resolved | list[Problem]:
        """Return a reference as its target lets it be; the target has to be bound."""
        assert reference.reference is not None
        target = reference.reference
        where = f"{target.namespace}/{target.name}"
        if raw is None:
            return [Problem(ERROR_DATASET, f"there is no dataset {where}: create it, or name another one", heals=True)]
        if (refused := refuse_reference(raw, reference.namespace)) is not None:
            return [refused]
        parsed, runtimes = parsed_or_none(raw), self._known.runtimes((target.namespace, target.name))
        runtime = parsed_or_none(runtimes[0]) if runtimes else None
        if not isinstance(parsed, Dataset):
            return [Problem(ERROR_DATASET, f"dataset {where} cannot be understood", heals=True)]
        resolved = resolve(parsed, runtime, self._surroundings(raw, runtimes[0] if runtimes else None))
        if isinstance(resolved, list):
            return [Problem(ERROR_DATASET, f"dataset {where} has problems of its own: {resolved[0].message}", heals=True)]
        if raw.get("status", {}).get("phase") not in USABLE and resolved.reference is None:
            return [Problem(ERROR_DATASET, f"dataset {where} is not bound yet: this one waits for it", heals=True)]
        followed = follow(reference, resolved)
        return [followed] if isinstance(followed, Problem) else followed

    def _surroundings(self, raw_dataset: dict[str, Any], raw_runtime: dict[str, Any] | None) -> Surroundings:
        spec = (raw_runtime or {}).get("spec", {})
        profile = self._known.get(own_kind("ThinRuntimeProfile"), spec.get("profileName", ""))
        of_class = self._known.get(own_kind("CacheRuntimeClass"), spec.get("runtimeClassName", ""))
        return Surroundings(
            profile=parsed_or_none(profile),  # type: ignore[arg-type]
            runtime_class=parsed_or_none(of_class),  # type: ignore[arg-type]
            raw_dataset=raw_dataset,
            raw_runtime=raw_runtime,
            raw_profile=profile,
            shares_nodes=self._shares_nodes,
            roots=self._roots,
        )


def targets(raw: dict[str, Any]) -> list[Key]:
    """Return the Datasets that the mounts of a Dataset refer to."""
    found = []
    for mount in raw.get("spec", {}).get("mounts") or ():
        point = mount.get("mountPoint", "")
        parts = point.removeprefix("dataset://").split("/")
        if point.startswith("dataset://") and len(parts) >= 2:
            found.append((parts[0], parts[1]))
    return found


def parsed_or_none(raw: dict[str, Any] | None) -> Object | None:
    try:
        return None if raw is None else parse(raw)
    except CacheError:
        return None  # it has an event of its own
