"""Ephemeral volumes of our own driver, written into a pod: the directories of a cache pod, which needs no hostPath. Stateless.

    volumes:
    - name: cache
      csi: {driver: csi.fusecache.io, volumeAttributes: {fusecache.io/directory: cache, fusecache.io/dataset: NAME}}

| `fusecache.io/directory` | is |
|---|---|
| cache | index and tiers on disk; stays on the node between pods |
| custody | where custody hands over the mount |
| tier | a tier, called `fusecache.io/tier`, below the directory of the node that `fusecache.io/host-path` names |
| local | the directory of the node that `fusecache.io/host-path` names, which is a source |

Directories of the node are given out only below those that the administrator allows (mounting/node_places.py). What mount custody
makes is said with its directory:

| attribute | meaning |
|---|---|
| fusecache.io/read-write | `true`: programs may write; `false` if not given |
| fusecache.io/serve-processes | how many share the mount; 1 if not given |
| fusecache.io/verify | `always`: no passthrough; `reads` if not given |
| fusecache.io/tiers | comma-separated names of the tiers' directories below the cache directory; NAME=PATH (percent-encoded) |
| | for one that lies below another directory of the node |

kubelet adds who the pod is (podInfoOnMount). Only the pods that the operator makes for a Dataset get its directories:
those of the service account NAME-fuse whose names begin with NAME-fuse-, in the Dataset's own namespace.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from urllib.parse import unquote

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
TIER, HOST_PATH = "fusecache.io/tier", "fusecache.io/host-path"
_OF_MOUNT = (READ_WRITE, SERVE_PROCESSES, VERIFY, TIERS)
_MOST_PATH_BYTES = 1024
_GENERATED_FROM = 58  # characters of a set's name that Kubernetes takes into those of its pods
_TIER = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
MOST_TIERS, _MOST_SERVE_PROCESSES = 16, 64
OBJECT_NAME = re.compile(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")  # of an object in Kubernetes
_FIRST_UID, _UIDS = 1 << 20, 1 << 20  # above those of people and of most systems' services
_MAX_ID_BYTES = 100


class Directory(StrEnum):
    CACHE = "cache"
    CUSTODY = "custody"
    TIER = "tier"
    LOCAL = "local"


_MORE = {Directory.CUSTODY: _OF_MOUNT, Directory.TIER: (TIER, HOST_PATH), Directory.LOCAL: (HOST_PATH,)}


@dataclass(frozen=True, slots=True)
class TierPlace:
    """A tier: the name of its directory below the cache directory, and the directory of the node that a user named; "": none."""

    name: str
    host_path: str = ""


@dataclass(frozen=True, slots=True)
class MountAttributes:
    read_write: bool = False
    serve_processes: int = 1
    verify: Verify = Verify.READS
    tiers: tuple[TierPlace, ...] = ()


@dataclass(frozen=True, slots=True)
class InlineVolume:
    """`mount`: what custody is to mount, if this is its directory. `tier`, `host_path`: of these directories."""

    directory: Directory
    namespace: str
    dataset: str
    mount: MountAttributes = MountAttributes()
    tier: TierPlace = TierPlace("")
    host_path: str = ""

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
    try:
        directory = Directory(context.get(DIRECTORY, ""))
    except ValueError:
        raise invalid(f"{DIRECTORY} has to be one of {', '.join(Directory)}") from None
    known = (DIRECTORY, DATASET, *_MORE.get(directory, ()))
    unknown = [key for key in context if key not in known and not key.startswith(_OF_KUBELET)]
    if unknown:
        raise invalid(f"attribute {unknown[0][:100]!r} is not known: give {', '.join(known)}")
    dataset, namespace = context.get(DATASET, ""), context.get(_NAMESPACE, "")
    for key, value in ((DATASET, dataset), (_NAMESPACE, namespace)):
        if not OBJECT_NAME.fullmatch(value):
            raise invalid(f"{key} is {value[:100]!r}, which is no name" + ("" if key == DATASET else "; set podInfoOnMount"))
    owner = f"{dataset}-fuse"
    if context.get(_SERVICE_ACCOUNT) != owner or not context.get(_POD_NAME, "").startswith(f"{owner}-"[:_GENERATED_FROM]):
        raise RpcError(
            grpc.StatusCode.PERMISSION_DENIED,
            f"only pods {owner}-... of the service account {owner}, which the operator makes, get the directories of dataset"
            f" {namespace}/{dataset}",
        )
    return _with_path(InlineVolume(directory, namespace, dataset, _mount_attributes(context)), context)


def _with_path(volume: InlineVolume, context: Mapping[str, str]) -> InlineVolume:
    if HOST_PATH not in _MORE.get(volume.directory, ()):
        return volume
    path = _host_path(context.get(HOST_PATH, ""), HOST_PATH)
    if volume.directory is Directory.LOCAL:
        return replace(volume, host_path=path)
    name = context.get(TIER, "")
    if not _TIER.fullmatch(name):
        raise invalid(f"{TIER} is {name[:100]!r}, which is no name of a directory")
    return replace(volume, tier=TierPlace(name, path))


def _host_path(text: str, field: str) -> str:
    """Return an absolute path without needless parts. Raises: INVALID_ARGUMENT."""
    parts = [part for part in text.split("/") if part]
    if not text.startswith("/") or not parts or {".", ".."} & set(parts) or "\0" in text or len(text.encode()) > _MOST_PATH_BYTES:
        raise invalid(f"{field} is {text[:100]!r}; it must be an absolute path of a directory, without . and ..")
    return "/" + "/".join(parts)


def _tier_place(text: str) -> TierPlace:
    name, separator, path = text.partition("=")
    if not _TIER.fullmatch(name):
        raise invalid(f"{TIERS} has to be up to {MOST_TIERS} names of directories, separated by commas")
    return TierPlace(name, _host_path(unquote(path), TIERS) if separator else "")


def _mount_attributes(context: Mapping[str, str]) -> MountAttributes:
    read_write, number, verify = context.get(READ_WRITE, "false"), context.get(SERVE_PROCESSES, "1"), context.get(VERIFY, "reads")
    tiers = tuple(_tier_place(text) for text in context.get(TIERS, "").split(",") if text)
    if read_write not in ("true", "false"):
        raise invalid(f"{READ_WRITE} is {read_write[:100]!r}; it must be true or false")
    if not re.fullmatch(r"[0-9]{1,2}", number) or not 1 <= int(number) <= _MOST_SERVE_PROCESSES:
        raise invalid(f"{SERVE_PROCESSES} is {number[:100]!r}; it must be a number from 1 to {_MOST_SERVE_PROCESSES}")
    if verify not in tuple(Verify):
        raise invalid(f"{VERIFY} is {verify[:100]!r}; it must be one of {', '.join(Verify)}")
    if len(tiers) > MOST_TIERS:
        raise invalid(f"{TIERS} has to be up to {MOST_TIERS} names of directories, separated by commas")
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
