"""What a caller may want of a volume: access types and modes. Stateless."""

from __future__ import annotations

from collections.abc import Iterable

from csi.errors import RpcError, invalid
from csi.stubs import csi_pb2

Mode = csi_pb2.VolumeCapability.AccessMode.Mode

READER_MODES = frozenset({Mode.SINGLE_NODE_READER_ONLY, Mode.MULTI_NODE_READER_ONLY})
SINGLE_NODE_MODES = frozenset(
    {
        Mode.SINGLE_NODE_WRITER,
        Mode.SINGLE_NODE_READER_ONLY,
        Mode.SINGLE_NODE_SINGLE_WRITER,
        Mode.SINGLE_NODE_MULTI_WRITER,
    }
)
MODES = READER_MODES | SINGLE_NODE_MODES | {Mode.MULTI_NODE_SINGLE_WRITER, Mode.MULTI_NODE_MULTI_WRITER}
FS_TYPES = frozenset({"", "fuse", "fusecache", "fuse.fusecache"})
MOUNT_FLAGS = frozenset({"ro", "rw", "nosuid", "nodev", "relatime", "noatime"})  # what our mounts are anyway, or can be


def check(capability: csi_pb2.VolumeCapability) -> RpcError | None:
    """Return why a volume cannot be used like that; None if it can."""
    if capability.WhichOneof("access_type") == "block":
        return invalid("volumes are directories, there are no raw block devices: use volumeMode Filesystem")
    if capability.WhichOneof("access_type") is None:
        return invalid("the volume capability names no access type: use mount")
    if capability.access_mode.mode not in MODES:
        return invalid(f"access mode {capability.access_mode.mode} is unknown")
    if capability.mount.fs_type not in FS_TYPES:
        return invalid(f"file system type {capability.mount.fs_type[:100]!r} cannot be had: leave fsType out")
    flags = {flag for text in capability.mount.mount_flags for flag in text.split(",")}
    if flags - MOUNT_FLAGS:
        return invalid(f"mount options {sorted(flags - MOUNT_FLAGS)[:5]!r} are not known here: leave them out")
    if capability.mount.volume_mount_group:
        return invalid("one mount serves several volumes, so that none has a group of its own: leave fsGroup out")
    return None


def require(capabilities: Iterable[csi_pb2.VolumeCapability]) -> None:
    """Raises: INVALID_ARGUMENT for none at all, and for the first that cannot be."""
    given = list(capabilities)
    if not given:
        raise invalid("volume_capabilities is missing")
    for capability in given:
        problem = check(capability)
        if problem is not None:
            raise problem


def is_reader(capability: csi_pb2.VolumeCapability) -> bool:
    return capability.access_mode.mode in READER_MODES
