"""What NodeMounts needs of those who serve mounts: daemons that the driver starts (own_daemons.py), or pods (pod_daemons.py)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from csi.mounting.journal import DatasetMount
from csi.volumes.inline import InlineVolume


@dataclass(frozen=True, slots=True)
class StageRequest:
    """A call to stage a volume. `modified`: settings that were changed since it was made. `secrets`: under our names."""

    context: Mapping[str, str]
    modified: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, str] = field(default_factory=dict)
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request comes to. `dataset`: the mount that serves it. `asked`: a digest of what was asked for. `directory`: in the
    mount, "" for all of it. `context`: what has to be known to serve the mount, the same for all of its volumes."""

    dataset: str
    asked: str
    directory: str
    context: Mapping[str, str]
    read_only: bool


@dataclass(frozen=True, slots=True)
class Served:
    """`answers`: a daemon does, so that directories in the mount can be looked up without waiting for one."""

    mountpoint: str
    device: str
    answers: bool = True


class Serving(Protocol):
    """What is async raises CacheError and RpcError, and but for `wait_ready` is called with the lock of the dataset held.
    `has_pods`: cache pods serve, for whose directories `mount_for_pod` and `hold` are called."""

    has_pods: bool

    def wanted(self, request: StageRequest) -> Wanted:
        """Raises: INVALID_ARGUMENT."""

    def new_mount(self, wanted: Wanted) -> DatasetMount: ...

    def mount_for_pod(self, volume: InlineVolume) -> DatasetMount:
        """Return what custody is to mount for a cache pod. Called only if there are such pods."""

    def run_dir(self, dataset: str) -> str:
        """Return the directory of the daemon's sockets."""

    async def wait_ready(self, context: Mapping[str, str]) -> None:
        """Return when `ensure` can be called, for volumes with this context. Cancellation: nothing was begun."""

    async def ensure(self, mount: DatasetMount, secrets: Mapping[str, str]) -> Served:
        """Have the mount there, and a daemon that answers in it. `secrets`: new ones, if there are any."""

    async def hold(self, mount: DatasetMount) -> Served:
        """Have the mount there as `mount.order` says, whether or not a daemon answers."""

    async def restore(self, mount: DatasetMount) -> Served | None:
        """Do what `ensure` or `hold` did again, if it is gone. None: all is as it was, and bound where it has to be."""

    async def end(self, mount: DatasetMount) -> None:
        """Leave nothing of the mount. Can be called again, if it raised."""
