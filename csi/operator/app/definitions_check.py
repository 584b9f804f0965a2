"""Whose definitions a cluster has, and of which version: those of Fluid have the same names, and those objects are not ours.

The chart looks before it installs anything; plain manifests cannot. With `definitions.install: false` somebody else has to bring
them up to date. Stateless.
"""

from __future__ import annotations

import logging
from typing import Any

from lightkube import ApiError

from csi.operator.app.known import DATASETS
from csi.operator.crds.definition import definition, digest_of, is_ours
from csi.operator.model.kinds import KINDS
from csi.operator.names import GROUP
from csi.operator.objects import DEFINITIONS, Objects

log = logging.getLogger(__name__)

FORBIDDEN = 403


class ForeignDefinitionsError(Exception):
    """The message says what to do."""


async def check_definitions(objects: Objects) -> None:
    """Write a warning where they are ours, but of another version. Raises: ForeignDefinitionsError, ApiError, OSError."""
    name = f"{DATASETS.plural}.{GROUP}"
    found = await objects.get(DEFINITIONS, name)
    if found is None:
        raise ForeignDefinitionsError(f"this cluster has no definition {name}: apply those of this version first (deploy/crds)")
    if not is_ours(found):
        raise ForeignDefinitionsError(
            f"the definition {name} of this cluster is not fusecache's, but that of Fluid, it seems: nothing of its objects is "
            "touched. docs/migrating-from-fluid.md says how to replace it"
        )
    if others := [kind.plural for kind in KINDS.values() if not await _is_of_this_version(objects, definition(kind))]:
        log.warning(
            "the definitions of %s in this cluster are not those of this version: what they lack is neither checked "
            "nor shown; bring them up to date with: kubectl apply --server-side --filename deploy/crds",
            ", ".join(others),
        )


async def _is_of_this_version(objects: Objects, wanted: dict[str, Any]) -> bool:
    try:
        found = await objects.get(DEFINITIONS, wanted["metadata"]["name"])
    except ApiError as error:
        if error.status.code != FORBIDDEN:
            raise
        log.info("whether %s is of this version is not known: %s", wanted["metadata"]["name"], error)
        return True  # a role of somebody's own is no reason to serve nobody
    return found is not None and digest_of(found) == digest_of(wanted)
