"""One mount in custody: its descriptors and memory files, its journal entry, its daemon.

State: as `KeptMount` says. Called by the keeper from its one thread; nothing here waits or touches the mount.
"""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from fusecache.contract.errors import CacheError, ErrorKind
from fusecache.contract.shared_memory import WRITE_LANDING_BYTES, WRITE_SPARE_SLOTS, Layout
from fusecache.custody import kernel, shared_files
from fusecache.custody.event_loop import close_quietly
from fusecache.custody.favour_table import FavourTable, make_favour_table
from fusecache.custody.favours import Favours
from fusecache.custody.fuse_mount import FuseMount, make_mount
from fusecache.custody.mountinfo import FSTYPE, find_mount, is_mounted

FUSE_DEVICE_MAJOR_MINOR = (10, 229)  # /dev/fuse, Documentation/admin-guide/devices.txt


@dataclass(frozen=True, slots=True)
class Order:
    """What the driver asked for, as it stands in the journal. `device` "": not made yet."""

    id: str
    mountpoint: str
    serve_count: int
    read_write: bool
    allow_other: bool
    uid: int
    tiers: tuple[str, ...]
    passthrough: bool
    device: str = ""
    volumes: tuple[str, ...] = ()

    @classmethod
    def of_json(cls, raw: Mapping[str, Any]) -> Self:
        """Raises: INVALID."""
        try:
            return cls(**{**raw, "tiers": tuple(raw["tiers"]), "volumes": tuple(raw.get("volumes", ()))})
        except (TypeError, KeyError) as error:
            raise CacheError(ErrorKind.INVALID, f"no order for a mount: {error}") from error

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(slots=True, eq=False)
class KeptMount:
    """Attributes:
    fds: shared memory, bounce buffer, favour table; [] while they are with the daemon alone, after custody was started again.
    daemon: connection of its supervisor, or None.
    alone_since: monotonic, since when there is no daemon.
    """

    order: Order
    mount: FuseMount | None = None
    fds: list[int] = field(default_factory=list)
    favours: Favours | None = None
    daemon: socket.socket | None = None
    alone_since: float = field(default_factory=time.monotonic)

    @property
    def is_held(self) -> bool:
        return self.mount is not None

    @property
    def is_mounted(self) -> bool:
        return bool(self.order.device) and is_mounted(self.order.mountpoint, self.order.device)

    def make(self) -> None:
        """Mount. Raises: CacheError."""
        order = self.order
        layout = Layout(order.serve_count)
        if order.read_write:
            layout = Layout(order.serve_count, landing_bytes=WRITE_LANDING_BYTES, spare_slots=WRITE_SPARE_SLOTS)
        mount = make_mount(order.mountpoint, order.serve_count, allow_other=order.allow_other, read_write=order.read_write)
        fds: list[int] = []
        try:
            fds.append(shared_files.make_shared_memory(layout))
            fds.append(shared_files.make_bounce_buffer())
            fds.append(make_favour_table())
            self._hold(mount, fds)
        except BaseException:
            mount.unmount(detach=True)
            mount.close()
            close_quietly(*fds)
            raise

    def take_back(self, fds: Sequence[int]) -> None:
        """Keep what a daemon returns. The descriptors are ours from here on, also if it raises.

        Raises: CacheError(INVALID) for others than belong to this mount."""
        own, fuse_fds = list(fds[:3]), list(fds[3:])
        try:
            if len(own) != 3 or len(fuse_fds) != self.order.serve_count or not all(map(_is_fuse_device, fuse_fds)):
                raise CacheError(ErrorKind.INVALID, "these are not the descriptors of the mount")
            if not self.is_mounted:
                raise CacheError(ErrorKind.NOT_FOUND, "the mount is gone")
            mount = FuseMount(self.order.mountpoint, fuse_fds, is_cloned=True)
            if mount.device != self.order.device or not mount.is_connected():
                raise CacheError(ErrorKind.INVALID, "these are the descriptors of another mount")
        except BaseException:
            close_quietly(*own, *fuse_fds)
            raise
        self._hold(mount, own)

    def _hold(self, mount: FuseMount, fds: list[int]) -> None:
        order = self.order
        favours = Favours(
            mount.fds[0],
            order.tiers,
            allow_passthrough=order.passthrough and mount.is_read_only,
            owner=order.uid,
            table=FavourTable(fds[2]),
        )
        self.mount, self.fds, self.favours = mount, fds, favours

    def given_fds(self) -> list[int]:
        assert self.mount is not None
        return [*self.fds, *self.mount.fds]

    def read_ahead_problem(self) -> str:
        return self.mount.raise_read_ahead() if self.mount is not None else "the mount is not held"

    def unmount(self, *, detach: bool, abort: bool = False) -> None:
        """Take the mount away and let go of it; programs that still have something open get errors. `abort`: nobody answers any
        more, so that even unmounting could wait. Raises: CacheError(BUSY) unless `detach`."""
        if abort:
            self._abort()
        if self.mount is not None:
            self.mount.unmount(detach=detach)
        elif self.is_mounted:
            kernel.umount(self.order.mountpoint, detach=True)
        self.end_connection()

    def unmount_unfinished(self) -> None:
        """Take away what a custody has mounted that died before it could write down which mount that was: nobody has it."""
        if not self.order.device and (found := find_mount(self.order.mountpoint)) is not None and found.fstype == FSTYPE:
            with contextlib.suppress(OSError):
                kernel.umount(self.order.mountpoint, detach=True)

    def end_connection(self) -> None:
        """Whatever waits in the mount fails, now and from now on."""
        self._abort()
        self.let_go()

    def _abort(self) -> None:
        # Its number is the connection's as long as the mount is there, or a descriptor of ours is connected: who has files open,
        # or has it in another mount namespace, keeps it alive after it was unmounted.
        is_alive = self.is_mounted or (self.mount is not None and self.mount.is_connected())
        if self.order.device and is_alive:
            try:
                kernel.abort_fuse_connection(int(self.order.device.partition(":")[2]))
            except OSError as error:
                if self.mount is None:
                    raise CacheError(
                        ErrorKind.DENIED, f"the connection of {self.order.mountpoint} cannot be ended: {error}"
                    ) from error

    def let_go(self) -> None:
        if self.mount is not None:
            self.mount.close()
        close_quietly(*self.fds)
        self.mount, self.favours, self.fds = None, None, []


def _is_fuse_device(fd: int) -> bool:
    status = os.fstat(fd)
    return stat.S_ISCHR(status.st_mode) and (os.major(status.st_rdev), os.minor(status.st_rdev)) == FUSE_DEVICE_MAJOR_MINOR
