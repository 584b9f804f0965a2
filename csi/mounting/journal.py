"""What is mounted on this node, and for whom: one file for each dataset, written before anything is mounted, and kept until
nothing of it is. Owns the directory; used from one event loop.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fusecache.base import durable_files


@dataclass(frozen=True, slots=True)
class Publication:
    """A bind mount. `directory`: of the volume in the dataset's mount, "" for all of it."""

    volume: str
    directory: str
    read_only: bool
    mode: int


@dataclass(frozen=True, slots=True)
class StagedVolume:
    """`asked`: a digest of what the volume was staged with, to know the same call again: what was modified since is not in it."""

    asked: str
    staging: str
    directory: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class DatasetMount:
    """Attributes:
    context: as parameters.Parameters.to_context, without a directory.
    volumes: id → how it was staged; the mount is there as long as there is one.
    publications: target path → what is bound there.
    default_quota: bytes of its tier, where none was asked for: decided once, as less is free when it has filled.
    device: st_dev of the mount that the publications are bound to, "" if it is not known.
    order: what custody was told to mount, where cache pods serve the dataset (custody.MountOrder); {} before there was a pod.
    holders: target paths of the cache pods' custody volumes; the mount is there as long as there is one, too.
    """

    id: str
    context: Mapping[str, str]
    read_only: bool
    volumes: Mapping[str, StagedVolume] = field(default_factory=dict)
    publications: Mapping[str, Publication] = field(default_factory=dict)
    default_quota: int = 0
    device: str = ""
    order: Mapping[str, Any] = field(default_factory=dict)
    holders: tuple[str, ...] = ()

    @property
    def is_needed(self) -> bool:
        return bool(self.volumes or self.holders)

    @classmethod
    def of_json(cls, raw: Mapping[str, Any]) -> Self:
        volumes = {name: StagedVolume(**one) for name, one in raw["volumes"].items()}
        publications = {target: Publication(**one) for target, one in raw["publications"].items()}
        more = {"device": raw.get("device", ""), "order": raw.get("order", {}), "holders": tuple(raw.get("holders", ()))}
        return cls(raw["id"], raw["context"], raw["read_only"], volumes, publications, raw["default_quota"], **more)


class Journal:
    def __init__(self, directory: Path) -> None:
        """Raises: OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        self._mounts = {name: DatasetMount.of_json(raw) for name, raw in durable_files.load_all(directory).items()}

    def __iter__(self) -> Iterator[DatasetMount]:
        return iter(list(self._mounts.values()))

    def get(self, dataset: str) -> DatasetMount | None:
        return self._mounts.get(dataset)

    def of_volume(self, volume_id: str) -> DatasetMount | None:
        return next((mount for mount in self._mounts.values() if volume_id in mount.volumes), None)

    def of_holder(self, target: str) -> DatasetMount | None:
        return next((mount for mount in self._mounts.values() if target in mount.holders), None)

    def at_target(self, target: str) -> tuple[DatasetMount, Publication] | None:
        return next(
            ((mount, mount.publications[target]) for mount in self._mounts.values() if target in mount.publications), None
        )

    def put(self, mount: DatasetMount) -> DatasetMount:
        durable_files.write(self._path(mount.id), dataclasses.asdict(mount))
        self._mounts[mount.id] = mount
        return mount

    def remove(self, dataset: str) -> None:
        durable_files.remove(self._path(dataset))
        self._mounts.pop(dataset, None)

    def _path(self, dataset: str) -> Path:
        return self._directory / f"{dataset}{durable_files.SUFFIX}"
