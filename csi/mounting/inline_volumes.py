"""Publishes the directories of cache pods (volumes/inline.py). Owns them, and a record of each target; used from one event loop.

The directories stay when a pod goes: the next one finds what is cached, and custody under the same path.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from csi.errors import exists
from csi.mounting import binds
from csi.mounting.ownership import make_owned
from csi.mounting.paths import Roots
from csi.mounting.plan import NodeDirectories
from csi.volumes.inline import Directory, InlineVolume
from fusecache.base import durable_files
from fusecache.base.confinement import User
from fusecache.contract.keeping import KEPT_MARK, MOUNTS_DIR


class InlineVolumes:
    def __init__(self, directories: NodeDirectories, custody_root: Path, roots: Roots) -> None:
        """Raises: OSError."""
        self._directories = directories
        self._custody_root = custody_root
        self._roots = roots
        self._records = directories.state / "inline"
        self._records.mkdir(mode=0o700, parents=True, exist_ok=True)
        loaded = durable_files.load_all(self._records).values()
        self._targets: dict[str, tuple[str, str]] = {raw["target"]: (raw["volume"], raw["source"]) for raw in loaded}

    def __contains__(self, target: str) -> bool:
        return target in self._targets

    def is_at(self, volume_id: str, target: str) -> bool:
        return target in self._targets and self._targets[target][0] == volume_id

    def publish(self, volume_id: str, volume: InlineVolume, target: str, *, read_only: bool) -> None:
        """Bind the directory at a path. Idempotent. Raises: RpcError."""
        source = self._source(volume)
        wanted = (volume_id, str(source))
        with self._roots.place(target, "target_path") as place:
            if self._targets.get(target, wanted) != wanted:
                raise exists(f"{target} has another volume published already: unpublish it first")
            if binds.mounted_at(place) is not None and target in self._targets:
                return
            record = {"target": target, "volume": volume_id, "source": str(source)}
            durable_files.write(self._record(target), record)
            self._targets[target] = wanted
            binds.bind_directory(str(source), place, read_only=read_only)

    def unpublish(self, target: str) -> None:
        """Take the bind mount away, and leave the directory. Raises: RpcError."""
        _, source = self._targets[target]
        with self._roots.place(target, "target_path") as place:
            binds.unbind_directory(source, place)
            place.remove()
        durable_files.remove(self._record(target))
        del self._targets[target]

    def usage_at(self, target: str) -> os.statvfs_result:
        """Return the usage of the file system that the directory lies in; asks no FUSE mount."""
        return os.statvfs(self._targets[target][1])

    def _source(self, volume: InlineVolume) -> Path:
        owner = User(volume.uid, volume.uid)
        if volume.directory is Directory.CACHE:
            directory = self._directories.cache(volume.id)
            make_owned(directory, owner)
            return directory
        directory = self._custody_root / MOUNTS_DIR / volume.id
        make_owned(directory, owner)
        (directory / KEPT_MARK).touch(mode=0o600)
        return directory

    def _record(self, target: str) -> Path:
        return self._records / f"{hashlib.sha256(target.encode()).hexdigest()[:32]}{durable_files.SUFFIX}"
