"""The volumes that were made: one file each, in the state directory. In a cluster, PVs are the record.

Owns the directory. Used from one event loop; everything is in memory too.
"""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from fusecache.base import durable_files


@dataclass(frozen=True, slots=True)
class Volume:
    """Attributes:
    number: counts on with each volume; lists go by it.
    context: what the node is told (volumes/parameters.py).
    published: node → whether read-only there.
    is_made: its directory lies in the source; until then a repeated call makes it.
    """

    id: str
    name: str
    number: int
    capacity_bytes: int
    parameters: Mapping[str, str]
    context: Mapping[str, str]
    published: Mapping[str, bool] = field(default_factory=dict)
    is_made: bool = False

    @classmethod
    def of_json(cls, raw: Mapping[str, Any]) -> Self:
        return cls(**raw)


def volume_id_of(name: str) -> str:
    """The same for the same name, whenever it is asked for; 35 bytes."""
    return f"fc-{hashlib.sha256(name.encode()).hexdigest()[:32]}"


class VolumeRecords:
    def __init__(self, directory: Path) -> None:
        """Raises: OSError."""
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._directory = directory
        loaded = (Volume.of_json(raw) for raw in durable_files.load_all(directory).values())
        self._volumes = {volume.id: volume for volume in sorted(loaded, key=lambda volume: volume.number)}
        self._next_number = max((volume.number for volume in self._volumes.values()), default=0) + 1

    def check(self) -> None:
        """Raises: OSError if nothing could be recorded."""
        if not os.access(self._directory, os.W_OK | os.X_OK):
            raise OSError(errno.EACCES, "the records of volumes cannot be written", str(self._directory))

    def __iter__(self) -> Iterator[Volume]:
        """In the order of their making."""
        return iter(list(self._volumes.values()))

    def get(self, volume_id: str) -> Volume | None:
        return self._volumes.get(volume_id)

    def next_number(self) -> int:
        number, self._next_number = self._next_number, self._next_number + 1
        return number

    def put(self, volume: Volume) -> Volume:
        durable_files.write(self._path(volume.id), dataclasses.asdict(volume))
        self._volumes[volume.id] = volume
        return volume

    def remove(self, volume_id: str) -> None:
        durable_files.remove(self._path(volume_id))
        self._volumes.pop(volume_id, None)

    def _path(self, volume_id: str) -> Path:
        return self._directory / f"{volume_id}{durable_files.SUFFIX}"
