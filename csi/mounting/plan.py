"""From what a node is told of a volume to the mount that serves it: volumes with the same source, options and identity share one.

Stateless. Reads no store.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from csi.volumes.parameters import Parameters
from csi.volumes.tiers import TierAsked, parse_tiers
from fusecache.base.settings import SETTINGS, parse_setting
from fusecache.contract.mount_spec import Medium, MountSpec, SourceSpec, TierSpec

_MEMORY = Path("/dev/shm")  # each mount has a directory of its own there, which only its daemon enters
_DISK_TIERS = {Medium.SSD: "blocks", Medium.HDD: "blocks-hdd"}
DEFAULT_CACHE_BYTES = 100 << 30
WRITABLE_MODES = {"file_mode": 0o666, "dir_mode": 0o777}  # several users write to one mount; `uid` and `gid` narrow it


@dataclass(frozen=True, slots=True)
class NodeDirectories:
    """Where the driver keeps what it has on a node, all of it below its state directory."""

    state: Path

    @property
    def run(self) -> Path:
        return self.state / "run"

    @property
    def custody(self) -> Path:
        return self.state / "custody"

    @property
    def journal(self) -> Path:
        return self.state / "datasets"

    def mountpoint(self, dataset: str) -> Path:
        return self.state / "mounts" / dataset

    def cache(self, dataset: str) -> Path:
        return self.state / "cache" / dataset

    def is_cache(self, directory: Path) -> bool:
        return directory.parent == self.state / "cache"

    def memory(self, dataset: str) -> Path:
        """Of the tier in memory, which ends with the mount: the memory is wanted back."""
        return _MEMORY / f"fusecache-csi-{self.name}" / dataset

    @property
    def name(self) -> str:
        """Tells two drivers on one machine apart."""
        return hashlib.sha256(os.fsencode(self.state)).hexdigest()[:12]

    def secrets(self, dataset: str) -> Path:
        return self.state / "secrets" / dataset


def dataset_of(parameters: Parameters, identity: str, *, read_only: bool) -> str:
    """Return the name of the mount that serves a volume."""
    what: dict[str, Any] = {
        "source": parameters.source,
        "options": dict(parameters.options),
        "settings": dict(parameters.settings),
        "identity": identity,
        "read_only": read_only,
        **({"tiers": parameters.tiers} if parameters.tiers else {}),
    }
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:24]


def spec_of(
    dataset: str,
    parameters: Parameters,
    secret_files: Mapping[str, str],
    directories: NodeDirectories,
    default_quota: int,
    *,
    read_only: bool,
) -> MountSpec:
    """`default_quota`: of the one tier, if none was asked for. Raises: CacheError(INVALID) for a setting that does not parse."""
    cache = directories.cache(dataset)
    fields: dict[str, Any] = {"uid": os.geteuid(), "gid": os.getegid(), **({} if read_only else WRITABLE_MODES)}
    fields |= {SETTINGS[name].field: parse_setting(name, text) for name, text in parameters.settings.items()}
    return MountSpec(
        dataset_id=dataset,
        mountpoint=str(directories.mountpoint(dataset)),
        sources=(SourceSpec(parameters.source, "", {**parameters.options, **secret_files}),),
        tiers=tuple(_tier(asked, dataset, directories) for asked in _asked_tiers(parameters, default_quota)),
        state_dir=str(cache),
        run_dir=str(directories.run / dataset),
        read_write=not read_only,
        **fields,
    )


def _asked_tiers(parameters: Parameters, default_quota: int) -> list[TierAsked]:
    return parse_tiers(parameters.tiers) if parameters.tiers else [TierAsked(Medium.SSD, default_quota)]


def _tier(asked: TierAsked, dataset: str, directories: NodeDirectories) -> TierSpec:
    path = directories.memory(dataset) if asked.medium is Medium.MEM else directories.cache(dataset) / _DISK_TIERS[asked.medium]
    return TierSpec(str(path), asked.medium, asked.quota_bytes, asked.high, asked.low)


def default_quota(directories: NodeDirectories) -> int:
    """Half of what is free, as on the command line."""
    directory = directories.state
    while not directory.is_dir():
        directory = directory.parent
    return max(1 << 20, min(shutil.disk_usage(directory).free // 2, DEFAULT_CACHE_BYTES))
