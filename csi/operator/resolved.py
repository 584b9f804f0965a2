"""What a Dataset and its runtime come to, whatever kind the runtime is: what rendering, status and operations look at.

Made by resolve/ from the model, or a list of problems instead. Plain data; no secret value is ever in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from fusecache.contract.mount_spec import Medium


@dataclass(frozen=True, slots=True)
class SecretKey:
    """A value in a Secret of the Dataset's namespace. `is_optional`: nothing is wrong if it is not there."""

    secret: str
    key: str
    is_optional: bool = False


@dataclass(frozen=True, slots=True)
class ClearText:
    """A credential that somebody wrote into an object instead of a Secret: where it stands, which is below `spec`.

    Not the value: that goes from the object into our Secret (`csi.operator.resolve.clear_text`), and nowhere else.
    """

    path: tuple[str | int, ...]
    on_runtime: bool = False


@dataclass(frozen=True, slots=True)
class ResolvedSource:
    """Attributes:
    url: as a source of ours understands it, without credentials: s3://, oss://, nfs://, https://, file:// (below /claims/NAME
        for pvc://NAME, below /local for local://).
    place: components in the Dataset's tree joined by "/", "" for the root.
    options: names and values of docs/sources.md.
    secrets: option that takes a file (`access_key` for `access_key_file`) → where its value is.
    claim: name of the PVC that the url leads into; "" for others.
    host_path: directory of the node that the url leads into; "" for others.
    """

    url: str
    place: str = ""
    options: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, SecretKey | ClearText] = field(default_factory=dict)
    read_only: bool = False
    claim: str = ""
    host_path: str = ""


@dataclass(frozen=True, slots=True)
class ResolvedTier:
    """Attributes:
    directory: its name below the cache volume, or below the memory volume for MEM; unique in the Dataset.
    host_path: directory of the node that the user named, below which the node plugin makes /NAMESPACE/NAME; "": it lies below
        the driver's state directory.
    is_empty_dir: it lives and dies with the pod, as tiers in memory always do.
    """

    directory: str
    medium: Medium
    quota_bytes: int
    high: float
    low: float
    host_path: str = ""
    is_empty_dir: bool = False


@dataclass(frozen=True, slots=True)
class PodOptions:
    """What is passed on to pods as written (Kubernetes' own JSON); several places merged, the more specific one wins."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)
    env: tuple[Mapping[str, Any], ...] = ()
    resources: Mapping[str, Any] = field(default_factory=dict)
    node_selector: Mapping[str, str] = field(default_factory=dict)
    tolerations: tuple[Mapping[str, Any], ...] = ()
    volumes: tuple[Mapping[str, Any], ...] = ()
    volume_mounts: tuple[Mapping[str, Any], ...] = ()
    image_pull_secrets: tuple[Mapping[str, Any], ...] = ()
    image_pull_policy: str = ""
    host_network: bool = False


@dataclass(frozen=True, slots=True)
class ObjectMetadata:
    """Labels and annotations that users want on an object of ours."""

    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Reference:
    """dataset://namespace/name/path. `path` "": all of it."""

    namespace: str
    name: str
    path: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """A Warning (or Normal) event about what was written: ignored fields and options, credentials in clear text."""

    reason: str
    message: str
    on_runtime: bool = False
    is_warning: bool = True


@dataclass(frozen=True, slots=True)
class Problem:
    """Why there is nothing to be made of it yet.

    Attributes:
        reason: CamelCase word of crds.md's tables, such as ErrorValidateSpecFields, SecretNotFound.
        message: one sentence: what, where, and the cure.
        on_runtime: the runtime shows it, else the Dataset.
        heals: it may go without a change of the object; else it is looked at again when the object changes.
    """

    reason: str
    message: str
    on_runtime: bool = False
    heals: bool = False


@dataclass(frozen=True, slots=True)
class Resolved:
    """Attributes:
    runtime_kind: "AlluxioRuntime", ...
    reference: set for a Dataset that refers to another one; sources and tiers are empty then.
    settings: names and values of docs/operations.md (ttl, uid, file_mode, write_mode, ...).
    access_modes: of PV and PVC.
    storage_size: of PV and PVC, as a quantity.
    replicas: nodes with tiers.
    clean_policy: OnDemand, OnRuntimeDeleted, OnFuseChanged: when consumers' cache pods go.
    worker, fuse: of cache pods on nodes that cache, where both hold and worker wins; and on others, where fuse holds alone.
    node_affinity: required node selector terms of the Dataset, Kubernetes' own JSON.
    source_group: gid as whose member cache pods read claims and directories of nodes; None: as nobody's.
    is_exclusive: no other Dataset's tiers on the same node.
    lists_everything: false: sizes are not counted, names are looked up on demand (autoSync: false).
    mount_node_selector: labels of the nodes where the volume may be mounted.
    has_mount: false: the runtime asks for a cache without mounts (`fuse.disabled`), so that no pod gets the volume.
    has_own_volume: the Dataset was made for a claim whose volume is there: it gets no other.
    is_scraped: pods are marked for a scraper of metrics.
    volume_metadata, claim_metadata: asked for on PV and PVC, beside ours.
    """

    namespace: str
    name: str
    runtime_kind: str
    reference: Reference | None = None
    sources: tuple[ResolvedSource, ...] = ()
    tiers: tuple[ResolvedTier, ...] = ()
    settings: Mapping[str, str] = field(default_factory=dict)
    read_write: bool = False
    access_modes: tuple[str, ...] = ("ReadOnlyMany",)
    storage_size: str = "100Gi"
    replicas: int = 1
    clean_policy: str = "OnRuntimeDeleted"
    worker: PodOptions = field(default_factory=PodOptions)
    fuse: PodOptions = field(default_factory=PodOptions)
    node_affinity: tuple[Mapping[str, Any], ...] = ()
    source_group: int | None = None
    is_exclusive: bool = False
    lists_everything: bool = True
    mount_node_selector: Mapping[str, str] = field(default_factory=dict)
    has_mount: bool = True
    has_own_volume: bool = False
    is_scraped: bool = True
    volume_metadata: ObjectMetadata = field(default_factory=ObjectMetadata)
    claim_metadata: ObjectMetadata = field(default_factory=ObjectMetadata)
    remarks: tuple[Remark, ...] = ()

    @property
    def capacity_bytes(self) -> int:
        """Of all workers together."""
        return self.replicas * sum(tier.quota_bytes for tier in self.tiers)
