"""The context of a volume that is a Dataset's tree, or a directory of it: what a PV of the operator says. Stateless.

`fusecache.io/namespace` and `fusecache.io/dataset` name the Dataset whose cache pods serve it, `fusecache.io/path` a directory
in its tree; without, it is all of it. Everything else the cache pods know: a PV cannot be changed, a Dataset can. (What
volumes/provisioned.py keeps there is for the controller alone.)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from csi.errors import invalid
from csi.volumes import provisioned
from csi.volumes.inline import DATASET, OBJECT_NAME, dataset_id

NAMESPACE, PATH = "fusecache.io/namespace", "fusecache.io/path"
_OF_OTHERS = ("csi.storage.k8s.io/", "storage.kubernetes.io/", provisioned.PREFIX)
MAX_PATH_BYTES = 1024


@dataclass(frozen=True, slots=True)
class DatasetReference:
    """`path`: components joined by "/", "" for all of it."""

    namespace: str
    name: str
    path: str = ""

    @property
    def id(self) -> str:
        return dataset_id(self.namespace, self.name)

    def to_context(self) -> dict[str, str]:
        """Return what `parse` makes this of again, without the path."""
        return {NAMESPACE: self.namespace, DATASET: self.name}


def parse(context: Mapping[str, str]) -> DatasetReference:
    """Raises: INVALID_ARGUMENT."""
    unknown = [key for key in context if key not in (NAMESPACE, DATASET, PATH) and not key.startswith(_OF_OTHERS)]
    if unknown:
        raise invalid(f"attribute {unknown[0][:100]!r} is not known: volumes of this node are Datasets, which the operator makes")
    for key in (NAMESPACE, DATASET):
        if not OBJECT_NAME.fullmatch(context.get(key, "")):
            raise invalid(f"{key} is {context.get(key, '')[:100]!r}, which is no name")
    return DatasetReference(context[NAMESPACE], context[DATASET], _checked_path(context.get(PATH, "")))


def _checked_path(value: str) -> str:
    path = value.strip("/")
    if not path:
        return ""
    if any(part in ("", ".", "..") or "\0" in part for part in path.split("/")) or len(path.encode()) > MAX_PATH_BYTES:
        raise invalid(f"{PATH} {value[:100]!r} is no path below the root of the Dataset")
    return path
