"""Directories of a node that users name: of tiers and of local:// sources, given out only below what the administrator allows.

A tier lies at PATH/NAMESPACE/NAME, which belongs to the Dataset's user. Everything between the allowed directory and it belongs
to root: whoever could change a directory on the way could lead us elsewhere. No link is followed. Where a path is not allowed,
the tier lies in the driver's own cache directory of the Dataset. Stateless but for the settings; blocking.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import stat
from collections.abc import Sequence
from pathlib import Path

from csi.errors import RpcError, invalid, refused
from csi.mounting import syscalls
from csi.mounting.ownership import make_owned
from csi.mounting.plan import NodeDirectories
from csi.volumes.inline import InlineVolume, TierPlace
from fusecache.base.confinement import User

log = logging.getLogger(__name__)

_RESOLVE = syscalls.RESOLVE_NO_SYMLINKS | syscalls.RESOLVE_NO_MAGICLINKS | syscalls.RESOLVE_BENEATH
_DIRECTORY = os.O_PATH | os.O_DIRECTORY
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


class NodePlaces:
    """`cache_roots`, `local_roots`: directories below which tiers, and directories of local:// sources, may lie."""

    def __init__(self, directories: NodeDirectories, cache_roots: Sequence[str] = (), local_roots: Sequence[str] = ()) -> None:
        self._directories = directories
        self._cache_roots = tuple(map(os.path.normpath, cache_roots))
        self._local_roots = tuple(map(os.path.normpath, local_roots))

    def tier_path(self, volume: InlineVolume, tier: TierPlace) -> Path:
        """Return where a tier lies: the same for custody, which looks there, and for the pod that has it as a volume."""
        if tier.host_path and _root_of(tier.host_path, self._cache_roots):
            return Path(tier.host_path, volume.namespace, volume.dataset)
        return self._directories.cache(volume.id) / tier.name

    def is_tier(self, directory: Path) -> bool:
        """Whether a directory below an allowed one is a tier, not of a local:// source."""
        path = str(directory)
        return bool(_root_of(path, self._cache_roots)) and not _root_of(path, self._local_roots)

    def open_tier(self, volume: InlineVolume) -> int:
        """Return a descriptor of the tier's directory, made if it is missing. Raises: RpcError."""
        owner, tier = User(volume.uid, volume.uid), volume.tier
        cache = self._directories.cache(volume.id)
        make_owned(cache, owner)
        # Also where it lies elsewhere: the tier is mounted there, and what a container's runtime makes would be root's.
        below = _make_owned_below(str(cache), tier.name, owner)
        root = _root_of(tier.host_path, self._cache_roots)
        if not root:
            log.warning("%s is below no --cache-root: tier %s of %s lies in %s", tier.host_path, tier.name, volume.id, cache)
            return below
        os.close(below)
        rest = [part for part in tier.host_path[len(root) :].split("/") if part]
        parent = _open(root, ".")
        for name in (*rest, volume.namespace):
            parent = _enter(parent, name, tier.host_path)
        try:
            return _make_owned_at(parent, volume.dataset, owner, str(self.tier_path(volume, tier)))
        finally:
            os.close(parent)

    def open_local(self, volume: InlineVolume) -> int:
        """Return a descriptor of the directory of a local:// source. Raises: RpcError."""
        root = _root_of(volume.host_path, self._local_roots)
        if not root:
            allowed = ", ".join(self._local_roots) or "none"
            raise refused(f"{volume.host_path} is below no directory that local:// may name here (--local-root: {allowed})")
        return _open(root, volume.host_path[len(root) :].strip("/") or ".")


def _root_of(path: str, roots: Sequence[str]) -> str:
    """Return the allowed directory that a path is, or lies below; "" for none."""
    return next((root for root in roots if path == root or path.startswith(root.rstrip("/") + "/")), "")


def _open(root: str, below: str) -> int:
    try:
        fd = os.open(root, _DIRECTORY | os.O_CLOEXEC)
        try:
            return syscalls.openat2(fd, below, _DIRECTORY, _RESOLVE)
        finally:
            os.close(fd)
    except OSError as error:
        raise _refusal(f"{root}/{below}", error) from error


def _enter(parent: int, name: str, whole: str) -> int:
    """Return a descriptor of a directory of root's, made if it is missing; `parent` is closed. Raises: RpcError."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o711, dir_fd=parent)
            os.chmod(name, 0o711, dir_fd=parent)  # the umask has taken something away
        fd = syscalls.openat2(parent, name, _DIRECTORY, _RESOLVE)
    except OSError as error:
        raise _refusal(f"{whole}: {name}", error) from error
    finally:
        os.close(parent)
    status = os.fstat(fd)
    if status.st_uid != 0 or (status.st_mode & _WRITABLE_BY_OTHERS and not status.st_mode & stat.S_ISVTX):
        os.close(fd)
        raise refused(f"{whole}: the directory {name} in it can be changed by others than root: a cache does not go there")
    return fd


def _make_owned_below(directory: str, name: str, owner: User) -> int:
    """As `_make_owned_at`, in a directory that belongs to the owner."""
    parent = os.open(directory, _DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        return _make_owned_at(parent, name, owner, f"{directory}/{name}")
    finally:
        os.close(parent)


def _make_owned_at(parent: int, name: str, owner: User, shown: str) -> int:
    """Return a descriptor of a directory that is the owner's alone. One that another user has stays so, unless it is empty."""
    try:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, 0o700, dir_fd=parent)
        fd = syscalls.openat2(parent, name, os.O_RDONLY | os.O_DIRECTORY, _RESOLVE)
    except OSError as error:
        raise _refusal(shown, error) from error
    try:
        if os.fstat(fd).st_uid != owner.uid:
            if os.listdir(fd):
                raise refused(f"{shown} has files of another user: remove them, or name another path")
            os.fchown(fd, owner.uid, owner.gid)
            os.fchmod(fd, 0o700)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _refusal(what: str, error: OSError) -> RpcError:
    if error.errno in (errno.ELOOP, errno.EXDEV):
        return invalid(f"{what} leads through a symbolic link: name a path without any")
    if error.errno == errno.ENOENT:
        return refused(f"{what} is not there: make the directory on this node")
    return refused(f"{what} cannot be used: {error.strerror}")
