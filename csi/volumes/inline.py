"""Ephemeral volumes of our own driver, written into a pod: the directories of a cache pod, which needs no hostPath. Stateless.

    volumes:
    - name: cache
      csi: {driver: csi.fusecache.io, volumeAttributes: {fusecache.io/directory: cache, fusecache.io/dataset: NAME}}

`fusecache.io/directory`: `cache` (index and tiers on disk; stays on the node between pods) or `custody` (where custody hands over
the mount). What mount custody makes is said with the latter:

| attribute | meaning |
|---|---|
| fusecache.io/read-write | `true`: programs may write; `false` if not given |
| fusecache.io/serve-processes | how many share the mount; 1 if not given |
| fusecache.io/verify | `always`: no passthrough; `reads` if not given |
| fusecache.io/tiers | comma-separated names of the tiers' directories below the cache directory |

kubelet adds who the pod is (podInfoOnMount). Only the pods that the operator makes for a Dataset get its directories:
those of the service account NAME-fuse whose names begin with NAME-fuse-, in the Dataset's own namespace.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import grpc

from csi.errors import RpcError, invalid
from fusecache.contract.mount_spec import Verify

EPHEMERAL = "csi.storage.k8s.io/ephemeral"
_POD_NAME, _NAMESPACE = "csi.storage.k8s.io/pod.name", "csi.storage.k8s.io/pod.namespace"
_SERVICE_ACCOUNT = "csi.storage.k8s.io/serviceAccount.name"
_OF_KUBELET = "csi.storage.k8s.io/"
DIRECTORY, DATASET = "fusecache.io/directory", "fusecache.io/dataset"
READ_WRITE, SERVE_PROCESSES = "fusecache.io/read-write", "fusecache.io/serve-processes"
VERIFY, TIERS = "fusecache.io/verify", "fusecache.io/tiers"
_OF_MOUNT = (READ_WRITE, SERVE_PROCESSES, VERIFY, TIERS)
_TIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_MOST_TIERS, _MOST_SERVE_PROCESSES = 16, 64
OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")  # of an object in Kubernetes
_FIRST_UID, _UIDS = 1 << 20, 1 << 20  # above those of people and of most systems' services
_MAX_ID_BYTES = 100


class Directory(StrEnum):
    CACHE = "cache"
    CUSTODY = "custody"


@dataclass(frozen=True, slots=True)
class MountAttributes:
    """`tiers`: names of directories below the cache directory."""

    read_write: bool = False
    serve_processes: int = 1
    verify: Verify = Verify.READS
    tiers: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class InlineVolume:
    """`mount`: what custody is to mount, if this is its directory."""

    directory: Directory
    namespace: str
    dataset: str
    mount: MountAttributes = MountAttributes()

    @property
    def id(self) -> str:
        return dataset_id(self.namespace, self.dataset)

    @property
    def uid(self) -> int:
        return uid_of(self.namespace, self.dataset)


def is_inline(context: Mapping[str, str]) -> bool:
    return context.get(EPHEMERAL) == "true"


def parse(context: Mapping[str, str]) -> InlineVolume:
    """Raises: INVALID_ARGUMENT; PERMISSION_DENIED for a pod that is not the Dataset's."""
    of_mount = _OF_MOUNT if context.get(DIRECTORY) == Directory.CUSTODY else ()
    unknown = [key for key in context if key not in (DIRECTORY, DATASET, *of_mount) and not key.startswith(_OF_KUBELET)]
    if unknown:
        raise invalid(f"attribute {unknown[0][:100]!r} is not known: give {', '.join((DIRECTORY, DATASET, *of_mount))}")
    try:
        directory = Directory(context.get(DIRECTORY, ""))
    except ValueError:
        raise invalid(f"{DIRECTORY} has to be one of {', '.join(Directory)}") from None
    dataset, namespace = context.get(DATASET, ""), context.get(_NAMESPACE, "")
    for key, value in ((DATASET, dataset), (_NAMESPACE, namespace)):
        if not OBJECT_NAME.fullmatch(value):
            raise invalid(f"{key} is {value[:100]!r}, which is no name" + ("" if key == DATASET else "; set podInfoOnMount"))
    owner = f"{dataset}-fuse"
    if context.get(_SERVICE_ACCOUNT) != owner or not context.get(_POD_NAME, "").startswith(f"{owner}-"):
        raise RpcError(
            grpc.StatusCode.PERMISSION_DENIED,
            f"only pods {owner}-... of the service account {owner}, which the operator makes, get the directories of dataset"
            f" {namespace}/{dataset}",
        )
    return InlineVolume(directory, namespace, dataset, _mount_attributes(context))


def _mount_attributes(context: Mapping[str, str]) -> MountAttributes:
    read_write, number, verify = context.get(READ_WRITE, "false"), context.get(SERVE_PROCESSES, "1"), context.get(VERIFY, "reads")
    tiers = tuple(name for name in context.get(TIERS, "").split(",") if name)
    if read_write not in ("true", "false"):
        raise invalid(f"{READ_WRITE} is {read_write[:100]!r}; it must be true or false")
    if not re.fullmatch(r"[0-9]{1,2}", number) or not 1 <= int(number) <= _MOST_SERVE_PROCESSES:
        raise invalid(f"{SERVE_PROCESSES} is {number[:100]!r}; it must be a number from 1 to {_MOST_SERVE_PROCESSES}")
    if verify not in tuple(Verify):
        raise invalid(f"{VERIFY} is {verify[:100]!r}; it must be one of {', '.join(Verify)}")
    if len(tiers) > _MOST_TIERS or not all(map(_TIER.fullmatch, tiers)):
        raise invalid(f"{TIERS} has to be up to {_MOST_TIERS} names of directories, separated by commas")
    return MountAttributes(read_write == "true", int(number), Verify(verify), tiers)


def dataset_id(namespace: str, name: str) -> str:
    """Return what a Dataset's mount is called on nodes and in custody: readable, and no longer than custody takes."""
    whole = f"{namespace}.{name}"
    if len(whole) <= _MAX_ID_BYTES:
        return whole
    return f"{whole[: _MAX_ID_BYTES - 17]}-{hashlib.sha256(whole.encode()).hexdigest()[:16]}"


def uid_of(namespace: str, name: str) -> int:
    """Return the uid of a Dataset's cache pods, the same on all nodes: one Dataset's daemon cannot read another's cache."""
    digest = hashlib.sha256(f"{namespace}/{name}".encode()).digest()
    return _FIRST_UID + int.from_bytes(digest[:8], "big") % _UIDS
