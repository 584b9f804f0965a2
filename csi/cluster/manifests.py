"""From a CreateVolume call to the Dataset and the ThinRuntime that serve the volume, in the namespace of its claim. Pure.

Parameters of a StorageClass have names of ours; options of Datasets have them, too, below `fusecache.` where they are settings.
What comes of it is resolved here already, as the operator will: who waits for a claim hears what is wrong with the StorageClass
in an event of the claim, and the directory is made at the very place where cache pods will look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from csi.errors import invalid
from csi.operator.app.attachments import ON_DEMAND
from csi.operator.model.dataset import Dataset
from csi.operator.model.parsing import parse
from csi.operator.names import API_VERSION, CLAIM_ANNOTATION
from csi.operator.render.object_names import MANAGED_BY
from csi.operator.resolve.access import READ_ONLY_MANY, SIZE_ANNOTATION
from csi.operator.resolve.mount_point import scheme_of
from csi.operator.resolve.reasons import FIELD_IGNORED, OPTION_IGNORED
from csi.operator.resolve.resolution import resolve
from csi.operator.resolved import Resolved, SecretKey
from csi.stubs import csi_pb2
from csi.volumes.capabilities import READER_MODES
from csi.volumes.create_request import CreateRequest
from csi.volumes.parameters import Parameters
from csi.volumes.provisioned import ProvisionedDirectory
from csi.volumes.tiers import parse_tiers
from fusecache.base.settings import parse_setting
from fusecache.contract.mount_spec import Medium

NAMESPACE_KEY, CLAIM_KEY = "csi.storage.k8s.io/pvc/namespace", "csi.storage.k8s.io/pvc/name"
_MAX_NAME = 58  # names and labels of 63 characters are made of it
_OWNER = ("uid", "gid", "override_owner")
_FIELDS = (*_OWNER, "sync_listing")  # settings for which objects have fields
_UNKNOWN_TO_PODS = frozenset({"allow_other", "debug_no_resend"})
_OF_NODES = frozenset({"pvc", "local", "dataset"})  # schemes of what is reached through a node, or another Dataset
_Mode = csi_pb2.VolumeCapability.AccessMode.Mode
_ACCESS_MODES: dict[int, str] = {
    _Mode.SINGLE_NODE_WRITER: "ReadWriteOnce",
    _Mode.SINGLE_NODE_MULTI_WRITER: "ReadWriteOnce",
    _Mode.SINGLE_NODE_SINGLE_WRITER: "ReadWriteOncePod",
}


@dataclass(frozen=True, slots=True)
class Manifests:
    """Attributes:
    secret: values by their keys, for the Secret that the Dataset names.
    directory: where the directory is to be made.
    """

    namespace: str
    claim: str
    dataset: dict[str, Any]
    runtime: dict[str, Any]
    secret: Mapping[str, str]
    directory: ProvisionedDirectory


def secret_name(volume: str) -> str:
    return f"{volume}-source"


def manifests(asked: CreateRequest) -> Manifests:
    """Raises: INVALID_ARGUMENT; CacheError(INVALID)."""
    namespace, claim = asked.given.get(NAMESPACE_KEY, ""), asked.given.get(CLAIM_KEY, "")
    if not (namespace and claim):
        raise invalid("nobody says which claim the volume is for: start csi-provisioner with --extra-create-metadata")
    if len(asked.name) > _MAX_NAME:
        raise invalid(f"name {asked.name[:80]!r} is longer than {_MAX_NAME} characters: shorten --volume-name-prefix")
    if unknown := sorted(_UNKNOWN_TO_PODS & asked.parsed.settings.keys()):
        raise invalid(f"parameter {unknown[0]} is none for volumes of a cluster: leave it out")
    dataset, runtime = _dataset(asked, namespace, claim), _runtime(asked, namespace)
    return Manifests(namespace, claim, dataset, runtime, asked.secrets, _checked(asked, dataset, runtime))


def _dataset(asked: CreateRequest, namespace: str, claim: str) -> dict[str, Any]:
    secret = secret_name(asked.name)
    mount = {
        "mountPoint": f"{asked.parsed.source.rstrip('/')}/{asked.parsed.directory}",
        "path": "/",
        "options": dict(asked.parsed.options),
        "encryptOptions": [
            {"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}} for key in sorted(asked.secrets)
        ],
    }
    spec: dict[str, Any] = {"mounts": [mount], "accessModes": _access_modes(asked.modes)}
    if owner := _owner(asked.parsed, overrides=True):
        spec["owner"] = owner
    annotations = {CLAIM_ANNOTATION: claim, SIZE_ANNOTATION: str(asked.capacity_bytes)}
    metadata = {"name": asked.name, "namespace": namespace, "labels": MANAGED_BY, "annotations": annotations}
    return {"apiVersion": API_VERSION, "kind": "Dataset", "metadata": metadata, "spec": spec}


def _runtime(asked: CreateRequest, namespace: str) -> dict[str, Any]:
    """One node caches in any case; with the last pod of another node its cache pod goes."""
    settings = {f"fusecache.{key}": value for key, value in asked.parsed.settings.items() if key not in _FIELDS}
    spec: dict[str, Any] = {"replicas": 1, "fuse": {"cleanPolicy": ON_DEMAND, "options": settings}}
    if asked.parsed.tiers:
        spec["tieredstore"] = {"levels": [_level(*tier) for tier in parse_tiers(asked.parsed.tiers)]}
    if owner := _owner(asked.parsed, overrides=False):
        spec["runAs"] = owner
    if "sync_listing" in asked.parsed.settings:
        is_on = bool(parse_setting("sync_listing", asked.parsed.settings["sync_listing"]))
        spec["management"] = {"metadataSyncPolicy": {"autoSync": is_on}}
    metadata = {"name": asked.name, "namespace": namespace, "labels": MANAGED_BY}
    return {"apiVersion": API_VERSION, "kind": "ThinRuntime", "metadata": metadata, "spec": spec}


def _level(medium: Medium, quota_bytes: int, high: float, low: float) -> dict[str, str]:
    where = {"volumeType": "emptyDir"} if medium is Medium.MEM else {}
    return {"mediumtype": medium.value, **where, "quota": str(quota_bytes), "high": f"{high:g}", "low": f"{low:g}"}


def _owner(parsed: Parameters, *, overrides: bool) -> dict[str, Any] | None:
    """Return the owner of files: of all files, or of those whose source has none, as `override_owner` says."""
    uid, gid, override = (parsed.settings.get(key, "") for key in _OWNER)
    if not (uid or gid) or overrides != bool(override and parse_setting("override_owner", override)):
        return None
    return {"uid": int(uid or 0), "gid": int(gid or 0), "user": "", "group": ""}


def _access_modes(modes: frozenset[int]) -> list[str]:
    """One that is only read would make the whole Dataset read-only: it is left out beside others."""
    writers = {_ACCESS_MODES.get(mode, "ReadWriteMany") for mode in modes - READER_MODES}
    return sorted(writers) or [READ_ONLY_MANY]


def _checked(asked: CreateRequest, dataset: dict[str, Any], runtime: dict[str, Any]) -> ProvisionedDirectory:
    """Return where the directory is to be. Raises: INVALID_ARGUMENT; CacheError(INVALID)."""
    parsed = parse(dataset)
    assert isinstance(parsed, Dataset)
    if scheme_of(asked.parsed.source) in _OF_NODES:
        raise invalid("parameter source names no store that the controller reaches, such as s3://bucket/prefix")
    resolved = resolve(parsed, parse(runtime))
    if not isinstance(resolved, Resolved):
        raise invalid("; ".join(problem.message for problem in resolved)[:1000])
    ignored = [remark.message for remark in resolved.remarks if remark.reason in (OPTION_IGNORED, FIELD_IGNORED)]
    if ignored:
        raise invalid(f"parameters are not understood: {'; '.join(ignored)[:900]}")
    (source,) = resolved.sources
    for option, place in source.secrets.items():
        if isinstance(place, SecretKey) and place.key != option:
            raise invalid(f"the secret's key {place.key} is called {option} for this store")
    base, _, directory = source.url.rpartition("/")
    return ProvisionedDirectory(base, directory, source.options)
