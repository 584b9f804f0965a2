"""Credentials that somebody wrote into an object: taken from there when our Secret is made, and nowhere else."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from csi.operator.resolved import ClearText


def written_value(
    place: ClearText,
    raw_dataset: Mapping[str, Any],
    raw_runtime: Mapping[str, Any] | None,
    raw_profile: Mapping[str, Any] | None,
) -> str | None:
    """Return the text at a place of the raw objects, None if it is not there any more.

    A path that begins with `profile` goes on in the ThinRuntimeProfile of the runtime.
    """
    path = place.path
    found: Any = ((raw_runtime or {}) if place.on_runtime else raw_dataset).get("spec")
    if place.on_runtime and path[:1] == ("profile",):
        found, path = (raw_profile or {}).get("spec"), path[1:]
    for step in path:
        if isinstance(step, int):
            found = found[step] if isinstance(found, list) and step < len(found) else None
        else:
            found = found.get(step) if isinstance(found, Mapping) else None
    return found if isinstance(found, str) else None
