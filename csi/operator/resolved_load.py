"""What a DataLoad comes to: what is loaded into the cache, when, and how its Job is placed. Made by resolve/load.py."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from csi.operator.resolved import PodOptions, Remark


@dataclass(frozen=True, slots=True)
class LoadTarget:
    """A file or a directory with everything below it; with `is_pattern`, all that match.

    Attributes:
        path: components in the tree of the Dataset that has the cache, joined by "/", "" for all of it.
        is_pattern: `*` and `?` stand for anything within a name, `**` for any directories.
    """

    path: str
    is_pattern: bool = False


@dataclass(frozen=True, slots=True)
class Predecessor:
    """An operation that has to be complete first.

    Attributes:
        affinity: "" (anywhere), Require or Prefer the place of an operation.
        place: kind, namespace and name of that operation, if it is another one.
        requires: labels of nodes that have to be the same there. prefers: the same, with weights.
    """

    kind: str
    namespace: str
    name: str
    affinity: str = ""
    place: tuple[str, str, str] | None = None
    requires: tuple[str, ...] = ()
    prefers: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedLoad:
    """Attributes:
    namespace, name: of the DataLoad.
    dataset_namespace, dataset: whose cache is filled: for a reference, its target.
    refresh: names and versions are compared with the source first: changed files are loaded anew, vanished ones dropped.
    metadata_only: nothing but names and versions is loaded.
    dry_run: only tells what would be loaded.
    name_filter: a pattern that names of files have to match; "" for all.
    file_list: a file of the Dataset that names files, one a line; "" for none. list_root: where its lines begin.
    copies: of each block among the nodes that cache.
    parallel: files at a time; 0: as the loader does by itself.
    timeout_seconds: after which the load fails; 0: never.
    policy: Once, Cron, OnEvent. schedule: of Cron, five fields.
    ttl_seconds: the object goes so long after its end; None: it stays.
    pod, affinity, scheduler_name: of the Job's pod.
    """

    namespace: str
    name: str
    dataset_namespace: str
    dataset: str
    targets: tuple[LoadTarget, ...]
    refresh: bool = False
    metadata_only: bool = False
    dry_run: bool = False
    name_filter: str = ""
    file_list: str = ""
    list_root: str = ""
    copies: int = 1
    parallel: int = 0
    timeout_seconds: float = 0.0
    policy: str = "Once"
    schedule: str = ""
    ttl_seconds: int | None = None
    run_after: Predecessor | None = None
    pod: PodOptions = field(default_factory=PodOptions)
    affinity: Mapping[str, Any] = field(default_factory=dict)
    scheduler_name: str = ""
    remarks: tuple[Remark, ...] = ()
