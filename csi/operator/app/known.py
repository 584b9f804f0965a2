"""Kinds of objects that the operator looks at, and what it has seen of them: a copy of the cluster's objects in memory.

State: the objects, as watching (watching.py) has brought them. Read by reconcilers; what is decided on is read anew from the API
server where a copy that is some milliseconds old could do harm.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from csi.operator.model.kinds import KINDS
from csi.operator.names import GROUP, VERSION
from csi.operator.objects import Kind

Key = tuple[str, str]  # namespace, name
RUNTIME_KINDS = tuple(name for name in KINDS if name.endswith("Runtime"))


def own_kind(name: str) -> Kind:
    """Return a kind of the group data.fluid.io."""
    return Kind(GROUP, VERSION, name, KINDS[name].plural, is_namespaced=not KINDS[name].of_cluster)


DATASETS = own_kind("Dataset")
DATA_LOADS = own_kind("DataLoad")
OPERATION_KINDS = ("DataLoad", "DataMigrate", "DataBackup", "DataProcess")
NODES = Kind("", "v1", "Node", "nodes", is_namespaced=False)
PODS = Kind("", "v1", "Pod", "pods")
SECRETS = Kind("", "v1", "Secret", "secrets")
CLAIMS = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims")
VOLUMES = Kind("", "v1", "PersistentVolume", "persistentvolumes", is_namespaced=False)
CONFIG_MAPS = Kind("", "v1", "ConfigMap", "configmaps")
SERVICES = Kind("", "v1", "Service", "services")
SERVICE_ACCOUNTS = Kind("", "v1", "ServiceAccount", "serviceaccounts")
EVENTS = Kind("", "v1", "Event", "events")
DAEMON_SETS = Kind("apps", "v1", "DaemonSet", "daemonsets")
ATTACHMENTS = Kind("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", is_namespaced=False)
JOBS = Kind("batch", "v1", "Job", "jobs")
CRON_JOBS = Kind("batch", "v1", "CronJob", "cronjobs")
WATCHED = (
    DATASETS,
    *(own_kind(name) for name in RUNTIME_KINDS),
    own_kind("ThinRuntimeProfile"),
    own_kind("CacheRuntimeClass"),
    NODES,
    VOLUMES,
    ATTACHMENTS,
    *(own_kind(name) for name in OPERATION_KINDS),
)
_MERGED = {DATASETS, *map(own_kind, RUNTIME_KINDS)}


class Known:
    def __init__(self) -> None:
        self._objects: dict[tuple[Kind, Key], dict[str, Any]] = {}

    def note(self, kind: Kind, what: str | None, raw: dict[str, Any]) -> None:
        """`what`: ADDED, MODIFIED, DELETED; None when it was there at the start."""
        key = (kind, key_of(raw))
        if what == "DELETED":
            self._objects.pop(key, None)
        else:
            self._objects[key] = raw

    def note_merged(self, kind: Kind, raw: dict[str, Any]) -> None:
        """Take what a Dataset or runtime is after a change of ours, which its watch brings later: by then the next look, with the
        version of before, would be refused. Of other kinds it matters what was before, and a watch tells that.

        `raw`: the answer; a watch that was faster may have brought a later one, or the end of the object.
        Versions of one kind are numbers that grow (KEP-5504).
        """
        there = self.get(kind, raw["metadata"]["name"], raw["metadata"].get("namespace", ""))
        if kind not in _MERGED or there is None or there["metadata"]["uid"] != raw["metadata"]["uid"]:
            return
        if int(there["metadata"]["resourceVersion"]) < int(raw["metadata"]["resourceVersion"]):
            self.note(kind, "MODIFIED", raw)

    def get(self, kind: Kind, name: str, namespace: str = "") -> dict[str, Any] | None:
        return self._objects.get((kind, (namespace, name)))

    def all(self, kind: Kind) -> Iterator[dict[str, Any]]:
        return iter([raw for (of, _), raw in self._objects.items() if of == kind])

    def runtimes(self, key: Key) -> list[dict[str, Any]]:
        """Return the runtimes of a name, the oldest first: it has the Dataset, and the others wait."""
        found = [raw for name in RUNTIME_KINDS if (raw := self.get(own_kind(name), key[1], key[0])) is not None]
        return sorted(found, key=lambda raw: (raw["metadata"].get("creationTimestamp", ""), raw["kind"]))

    def referring(self, key: Key) -> list[Key]:
        """Return the Datasets that refer to this one."""
        prefix = f"dataset://{key[0]}/{key[1]}"
        return [
            key_of(raw)
            for raw in self.all(DATASETS)
            for mount in raw.get("spec", {}).get("mounts") or ()
            if mount.get("mountPoint", "") == prefix or mount.get("mountPoint", "").startswith(f"{prefix}/")
        ]


def key_of(raw: dict[str, Any]) -> Key:
    metadata = raw["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
