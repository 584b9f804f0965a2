"""Publishes the directories of cache pods (volumes/inline.py). Owns them, and a record of each target; used from one event loop.

The directories stay when a pod goes: the next one finds what is cached, and custody under the same path.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from csi.errors import exists
from csi.mounting import binds
from csi.mounting.node_places import NodePlaces
from csi.mounting.ownership import make_owned
from csi.mounting.paths import Roots
from csi.mounting.plan import NodeDirectories
from csi.volumes.inline import Directory, InlineVolume
from fusecache.base import durable_files
from fusecache.base.confinement import User
from fusecache.contract.keeping import KEPT_MARK, MOUNTS_DIR


@dataclass(frozen=True, slots=True)
class Target:
    """A directory of ours at a path: `source` as people know it, and the device that it lies on. Kept in a file."""

    target: str
    volume: str
    source: str
    device: str


class InlineVolumes:
    def __init__(self, directories: NodeDirectories, custody_root: Path, roots: Roots, places: NodePlaces) -> None:
        """Raises: OSError."""
        self._places = places
        self._directories = directories
        self._custody_root = custody_root
        self._roots = roots
        self._records = directories.state / "inline"
        self._records.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._targets: dict[str, Target] = {}
        for raw in durable_files.load_all(self._records).values():
            self._targets[raw["target"]] = Target(**{"device": "", **raw})

    def __contains__(self, target: str) -> bool:
        return target in self._targets

    def is_at(self, volume_id: str, target: str) -> bool:
        return target in self._targets and self._targets[target].volume == volume_id

    def publish(self, volume_id: str, volume: InlineVolume, target: str, *, read_only: bool) -> None:
        """Bind the directory at a path. Idempotent. Raises: RpcError."""
        fd, source = self._open(volume)
        try:
            wanted = Target(target, volume_id, source, binds.device_of(fd))
            with self._roots.place(target, "target_path") as place:
                there = self._targets.get(target)
                if there is not None and (there.volume, there.source) != (volume_id, source):
                    raise exists(f"{target} has another volume published already: unpublish it first")
                if there is not None and binds.mounted_at(place) is not None:
                    return
                durable_files.write(self._record(target), asdict(wanted))
                self._targets[target] = wanted
                try:
                    binds.bind_directory(fd, source, place, read_only=read_only)
                except BaseException:
                    if there is None:  # the pod may never be tried again: a directory that somebody has would stay for ever
                        self._forget(target)
                    raise
        finally:
            os.close(fd)

    def unpublish(self, target: str) -> None:
        """Take the bind mount away, and leave the directory, unless the last pod that had it has erased it. Raises: RpcError."""
        known = self._targets[target]
        with self._roots.place(target, "target_path") as place:
            # A driver of before wrote down st_dev, which is not what mountinfo has on btrfs.
            binds.unbind_directory({known.device, _device_at(known.source)} - {""}, place)
            place.remove()
        self._forget(target)
        if not self.has_source(known.source):
            self._leave(Path(known.source))

    def _forget(self, target: str) -> None:
        durable_files.remove(self._record(target))
        del self._targets[target]

    def has_source(self, source: str) -> bool:
        """Whether a pod has this directory."""
        return any(one.source == source for one in self._targets.values())

    def _leave(self, directory: Path) -> None:
        """Caches and tiers only: custody's directories have a mark of their own, and a local:// directory is the user's. One that
        was erased goes; of others, the time of the directory says since when nobody has it."""
        if self._directories.is_cache(directory) or self._places.is_tier(directory):
            try:
                directory.rmdir()
            except OSError:
                with contextlib.suppress(OSError):
                    os.utime(directory, follow_symlinks=False)

    def usage_at(self, target: str) -> os.statvfs_result:
        """Return the usage of the file system that the directory lies in; asks no FUSE mount."""
        return os.statvfs(self._targets[target].source)

    def _open(self, volume: InlineVolume) -> tuple[int, str]:
        """Return a descriptor of the directory, and its path. Raises: RpcError."""
        match volume.directory:
            case Directory.TIER:
                return self._places.open_tier(volume), str(self._places.tier_path(volume, volume.tier))
            case Directory.LOCAL:
                return self._places.open_local(volume), volume.host_path
        source = self._own(volume)
        return os.open(source, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC), str(source)

    def _own(self, volume: InlineVolume) -> Path:
        """Return a directory of the driver's, made if it is missing."""
        owner = User(volume.uid, volume.uid)
        if volume.directory is Directory.CACHE:
            directory = self._directories.cache(volume.id)
            make_owned(directory, owner)
            return directory
        directory = self._custody_root / MOUNTS_DIR / volume.id
        make_owned(directory, owner)
        with contextlib.suppress(FileExistsError):  # whatever it is: the pod owns the directory, and we follow no link of its
            os.close(os.open(directory / KEPT_MARK, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return directory

    def _record(self, target: str) -> Path:
        return self._records / f"{hashlib.sha256(target.encode()).hexdigest()[:32]}{durable_files.SUFFIX}"


def _device_at(source: str) -> str:
    """Return "" if it is gone."""
    try:
        fd = os.open(source, os.O_PATH | os.O_CLOEXEC)
    except FileNotFoundError:
        return ""
    try:
        return binds.device_of(fd)
    finally:
        os.close(fd)
