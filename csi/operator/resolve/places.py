"""Where mounts appear in a Dataset's tree."""

from __future__ import annotations

from collections.abc import Iterable

from csi.operator.model.dataset import Dataset
from csi.operator.resolve.findings import Findings
from csi.operator.resolve.mount_point import path_components


def resolve_places(dataset: Dataset, indices: Iterable[int], findings: Findings) -> dict[int, str]:
    """Return the place of each mount: components joined by "/", "" for the root. Two mounts at one place are refused."""
    places: dict[int, str] = {}
    first: dict[str, int] = {}
    for index in indices:
        mount = dataset.spec.mounts[index]
        try:
            place = "/".join(path_components(mount.place))
        except ValueError as error:
            field = "path" if mount.path.startswith("/") else "name"
            findings.refuse(f"spec.mounts[{index}].{field} {error}")
            continue
        if place in first:
            findings.refuse(f"mounts[{first[place]}] and mounts[{index}] both at /{place}: give one of them another path")
            continue
        first[place] = index
        places[index] = place
    return places
