"""Whose definitions a cluster has: those of Fluid have the same names, and its objects are not ours to touch.

The chart looks before it installs anything; plain manifests cannot. Stateless.
"""

from __future__ import annotations

from csi.operator.app.known import DATASETS
from csi.operator.names import DEFINITION_LABEL, GROUP
from csi.operator.objects import DEFINITIONS, Objects


class ForeignDefinitionsError(Exception):
    """The message says what to do."""


async def check_definitions(objects: Objects) -> None:
    """Raises: ForeignDefinitionsError, ApiError, OSError."""
    name = f"{DATASETS.plural}.{GROUP}"
    found = await objects.get(DEFINITIONS, name)
    if found is None:
        raise ForeignDefinitionsError(f"this cluster has no definition {name}: apply those of this version first (deploy/crds)")
    if found["metadata"].get("labels", {}).get(DEFINITION_LABEL) != "true":
        raise ForeignDefinitionsError(
            f"the definition {name} of this cluster is not fusecache's, but that of Fluid, it seems: nothing of its objects is "
            "touched. docs/migrating-from-fluid.md says how to replace it"
        )
